#include "index/sync.h"
