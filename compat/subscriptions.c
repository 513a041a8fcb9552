#include "compat/subscriptions.h"
