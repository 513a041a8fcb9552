#include "compat/mbxrec.h"
