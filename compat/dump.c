#include "compat/dump.h"
