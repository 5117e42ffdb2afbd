/* Concept: descriptors closed behind the engine lock (see closing.h). */
#include "closing.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "reactor.h"

enum { CLOSING_MAX = 64 /* more are closed at once */ };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* taken with the engine lock held */
static _Thread_local struct {
    bool on;
    size_t n;
    int fds[CLOSING_MAX];
} closing;

void mtls_closing_add(int fd)
{
    if (closing.on && closing.n < CLOSING_MAX)
        closing.fds[closing.n++] = fd;
    else
        (void)close(fd);
}

void mtls_closing_begin(void)
{
    closing.on = true;
}

void mtls_closing_unlock(void)
{
    closing.on = false;
    if (closing.n == 0) {
        mtls_engine_unlock();
        return;
    }
    pthread_mutex_lock(&mutex);
    mtls_engine_unlock();
    while (closing.n > 0)
        (void)close(closing.fds[--closing.n]);
    pthread_mutex_unlock(&mutex);
}

void mtls_closing_fork_prepare(void)
{
    pthread_mutex_lock(&mutex);
}

void mtls_closing_fork_parent(void)
{
    pthread_mutex_unlock(&mutex);
}

void mtls_closing_fork_child(void)
{
    pthread_mutex_init(&mutex, NULL);
}
