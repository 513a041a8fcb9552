#include "compat/uidlist.h"
