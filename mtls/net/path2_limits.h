/* Concept: the bounds of the service for path 2: how long each thing may wait, how many connections
 * there may be. */
#ifndef MTLS_NET_PATH2_LIMITS_H
#define MTLS_NET_PATH2_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "../core/config.h"
#include "../core/path2_server.h"

/* The limits that a configuration asks for; again: beside those that another one asked for. */
void mtls_path2_limits(const struct mtls_config *config, struct mtls_p2s_config *limits,
                       bool again);
/* Connections that the process's descriptors allow: a quarter of them, and no more than
 * MTLS_SERVICE_CONNS_MAX. */
size_t mtls_path2_limits_conns(void);

#endif
