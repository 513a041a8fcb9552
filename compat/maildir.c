#include "compat/maildir.h"
