#include "compat/io.h"
