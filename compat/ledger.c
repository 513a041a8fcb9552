#include "compat/ledger.h"
