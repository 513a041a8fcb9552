#include "compat/text.h"
