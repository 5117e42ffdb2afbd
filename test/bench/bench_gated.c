/* Concept: a plain server that waits for its bare second connection where a gate must: PROOF leaves
 * behind the server's flight, and application data is served only after CONFIRM has come. One
 * session at a time, no protocol. */
#include <pthread.h>
#include <sys/eventfd.h>

#include "bench.h"

static struct {
    pthread_mutex_t mutex;
    bool on, flight, confirmed, waits;
    int hello, event; /* hello: path 2's descriptor, when HELLO came before the flight */
} gated = {.mutex = PTHREAD_MUTEX_INITIALIZER, .hello = -1, .event = -1};

int bench_gated(void)
{
    gated.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bench_check(gated.event >= 0, "eventfd");
    gated.on = true;
    return gated.event;
}

void bench_gated_flight(void)
{
    pthread_mutex_lock(&gated.mutex);
    gated.flight = true;
    if (gated.hello >= 0)
        bench_bare_proof(gated.hello);
    pthread_mutex_unlock(&gated.mutex);
}

bool bench_gated_began(void)
{
    return gated.flight; /* written by the same thread alone */
}

bool bench_gated_waits(void)
{
    bool waits;

    pthread_mutex_lock(&gated.mutex);
    waits = gated.waits = gated.on && !gated.confirmed;
    gated.flight = gated.confirmed = false;
    gated.hello = -1;
    pthread_mutex_unlock(&gated.mutex);
    return waits;
}

bool bench_gated_hello(int fd)
{
    bool later;

    pthread_mutex_lock(&gated.mutex);
    later = gated.on && !gated.flight;
    if (later)
        gated.hello = fd;
    pthread_mutex_unlock(&gated.mutex);
    return later;
}

void bench_gated_confirm(void)
{
    uint64_t one = 1;

    pthread_mutex_lock(&gated.mutex);
    if (gated.waits)
        bench_check(write(gated.event, &one, sizeof(one)) == sizeof(one), "eventfd");
    else
        gated.confirmed = gated.on;
    gated.waits = false;
    pthread_mutex_unlock(&gated.mutex);
}

bool bench_gated_over(void)
{
    uint64_t count;

    return read(gated.event, &count, sizeof(count)) == sizeof(count);
}
