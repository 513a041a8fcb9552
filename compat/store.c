#include "compat/store.h"
