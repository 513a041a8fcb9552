#include "compat/pattern.h"
