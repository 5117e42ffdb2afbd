/* What a configuration names and this machine does not have at present. */
#ifndef APPS_MTLSIZE_MACHINE_H
#define APPS_MTLSIZE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "../mtls/core/config.h"

/* The i-th thing that is named: false after the last; text is "" where the machine has it. */
bool machine_lacks(const struct mtls_config *c, unsigned i, char *text, size_t cap);

#endif
