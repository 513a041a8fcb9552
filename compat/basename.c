#include "compat/basename.h"
