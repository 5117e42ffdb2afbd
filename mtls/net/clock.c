/* Concept: the clocks that this library goes by (see reactor.h). */
#include <time.h>

#include "reactor.h"

mtls_tstamp mtls_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (mtls_tstamp)ts.tv_sec * 1000000u + (mtls_tstamp)ts.tv_nsec / 1000u;
}

int64_t mtls_wallclock(void)
{
    return (int64_t)time(NULL);
}

int mtls_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_condattr_init(&attr) != 0)
        return MTLS_ERR_NOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc == 0 ? 0 : MTLS_ERR_NOMEM;
}
