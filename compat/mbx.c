#include "compat/mbx.h"
