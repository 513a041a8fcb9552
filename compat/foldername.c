#include "compat/foldername.h"
