#include "compat/mbxlock.h"
