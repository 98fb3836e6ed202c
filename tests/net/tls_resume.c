#include "tests/net/tls_ends.h"
