/* Concept: the bounds of the service for path 2 (see path2_limits.h). */
#include "path2_limits.h"

#include <sys/resource.h>

#include "path2_service.h"

enum {
    MS = 1000,
    SECOND = 1000000,
    HELLO_TTL_US = 10 * SECOND,
    CLAIM_TTL_US = 10 * SECOND,
    IDLE_TTL_US = 150 * SECOND,
    ENDED_TTL_US = 60 * SECOND,
    READY_TTL_US = 5 * MS, /* [TIM-17] */
};

void mtls_path2_limits(const struct mtls_config *config, struct mtls_p2s_config *limits, bool again)
{
    bool any = config->ntls_ports == 0 || (again && limits->ntls_ports == 0);
    uint8_t i, j;

    limits->max_pending = config->max_pending;
    limits->per_source = config->per_source;
    limits->claim_ttl = CLAIM_TTL_US;
    limits->hello_ttl = HELLO_TTL_US;
    limits->idle_ttl = IDLE_TTL_US;
    limits->ended_ttl = ENDED_TTL_US;
    limits->ready_ttl = READY_TTL_US;
    for (i = 0; !any && i < config->ntls_ports; i++) {
        for (j = 0; j < limits->ntls_ports && limits->tls_ports[j] != config->tls_ports[i]; j++)
            ;
        if (j == limits->ntls_ports && j < MTLS_P2S_TLS_PORTS_MAX)
            limits->tls_ports[limits->ntls_ports++] = config->tls_ports[i];
    }
    if (any)
        limits->ntls_ports = 0;
}

size_t mtls_path2_limits_conns(void)
{
    struct rlimit files = {.rlim_cur = MTLS_SERVICE_CONNS_MAX};

    (void)!getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur / 4 >= MTLS_SERVICE_CONNS_MAX)
        return MTLS_SERVICE_CONNS_MAX;
    return files.rlim_cur >= 4 ? (size_t)files.rlim_cur / 4 : 1;
}
