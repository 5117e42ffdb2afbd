/* Concept: a lock in hostile shared memory (see share_lock.h). */
#include "share_lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "reactor.h"

static const uint32_t WAITERS = 1u << 31; /* somebody is to be woken */

static bool swap(uint32_t *word, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static mtls_tstamp min(mtls_tstamp a, mtls_tstamp b)
{
    return a < b ? a : b;
}

static void sleep_on(uint32_t *word, uint32_t value, mtls_tstamp us)
{
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    struct timespec pause = {.tv_nsec = 200000};

    if (syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0) != 0 && errno != EAGAIN &&
        errno != EINTR && errno != ETIMEDOUT)
        nanosleep(&pause, NULL);
}

static bool take_slowly(struct mtls_lock *lock, uint32_t ticket, mtls_tstamp wait,
                        uint32_t (*beat)(const void *arg), const void *arg)
{
    mtls_tstamp began = mtls_now(), since = began, now = began;
    uint32_t seen = 0, life = 0;

    for (; now - began < wait; now = mtls_now()) {
        uint32_t word = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        uint32_t lives = beat != NULL ? beat(arg) : 0;

        if (word == 0) {
            if (swap(&lock->word, 0, ticket | WAITERS))
                return true;
            continue;
        }
        if ((word | WAITERS) != seen || lives != life) {
            seen = word | WAITERS;
            life = lives;
            since = now;
        }
        if (now - since >= MTLS_LOCK_STEAL_US) {
            if (!swap(&lock->word, word, ticket | WAITERS))
                continue;
            __atomic_store_n(&lock->dirty, 1, __ATOMIC_RELEASE);
            return true;
        }
        if (word == seen || swap(&lock->word, word, seen))
            sleep_on(&lock->word, seen, min(since + MTLS_LOCK_STEAL_US, began + wait) - now);
    }
    return false;
}

bool mtls_lock_take(struct mtls_lock *lock, uint32_t ticket, mtls_tstamp wait,
                    uint32_t (*beat)(const void *arg), const void *arg)
{
    return swap(&lock->word, 0, ticket) || take_slowly(lock, ticket, wait, beat, arg);
}

void mtls_lock_give(struct mtls_lock *lock, uint32_t ticket)
{
    if (swap(&lock->word, ticket, 0))
        return;
    if (swap(&lock->word, ticket | WAITERS, 0))
        (void)syscall(SYS_futex, &lock->word, FUTEX_WAKE, 1, NULL, NULL, 0);
    else /* lost: others have changed things meanwhile, or do */
        __atomic_store_n(&lock->dirty, 1, __ATOMIC_RELEASE);
}

bool mtls_lock_dirty(struct mtls_lock *lock, bool done)
{
    return done ? __atomic_exchange_n(&lock->dirty, 0, __ATOMIC_ACQ_REL) != 0
                : __atomic_load_n(&lock->dirty, __ATOMIC_ACQUIRE) != 0;
}
