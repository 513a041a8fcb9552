#include "compat/digest.h"
