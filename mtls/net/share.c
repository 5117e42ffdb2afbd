/* Concept: the shared memory of a service's processes (see share.h). */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../core/config.h"

enum { LOCK_WAIT_NS = 500 * 1000000, ENDED_MAX = 65536, LAYOUT = 1 };

struct head { /* before the directory */
    uint32_t ready, layout;
    pthread_mutex_t mutex; /* robust */
};

static struct {
    struct head *head;
    size_t size;
    mtls_member self;
} share;

static size_t dir_offset(void)
{
    return (sizeof(struct head) + 63) / 64 * 64;
}

static struct mtls_dir *dir_in(struct head *h)
{
    return (struct mtls_dir *)(void *)((char *)h + dir_offset());
}

static uint32_t ended_max(uint32_t max_pending)
{
    return max_pending < ENDED_MAX ? max_pending : ENDED_MAX;
}

static int mutex_make(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;
    int rc = pthread_mutexattr_init(&attr);

    if (rc != 0)
        return MTLS_ERR_NOMEM;
    if (pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) != 0 ||
        pthread_mutex_init(mutex, &attr) != 0)
        rc = MTLS_ERR_IO;
    pthread_mutexattr_destroy(&attr);
    return rc;
}

/* h is all zero. */
static int fill(struct head *h, uint32_t max_pending, struct mtls_crypto *c)
{
    uint8_t seed[MTLS_DIR_SEED_LEN];
    int err = mtls_crypto_random(c, seed, sizeof(seed));

    if (err == 0)
        err = mutex_make(&h->mutex);
    if (err != 0)
        return err;
    mtls_dir_init(dir_in(h), max_pending, ended_max(max_pending), seed);
    h->layout = LAYOUT;
    __atomic_store_n(&h->ready, 1, __ATOMIC_RELEASE);
    return 0;
}

static int map(int fd, size_t size, struct head **out)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return MTLS_ERR_NOMEM;
    *out = p;
    return 0;
}

static int open_anonymous(uint32_t max_pending, struct mtls_crypto *c)
{
    size_t size = dir_offset() + mtls_dir_size(max_pending, ended_max(max_pending));
    struct head *h;
    int err = map(-1, size, &h);

    if (err != 0)
        return err;
    err = fill(h, max_pending, c);
    if (err != 0) {
        munmap(h, size);
        return err;
    }
    share.head = h;
    share.size = size;
    return 0;
}

/* The descriptor is locked: nobody else makes or judges it meanwhile. */
static int open_locked(int fd, uint32_t max_pending, struct mtls_crypto *c)
{
    size_t size = dir_offset() + mtls_dir_size(max_pending, ended_max(max_pending));
    struct head *h = NULL;
    struct stat st;
    int err;

    if (fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0 || st.st_size < 0)
        return MTLS_ERR_LISTEN;
    if (st.st_size == 0 && ftruncate(fd, (off_t)size) != 0)
        return MTLS_ERR_IO;
    if (st.st_size > 0) /* others have made it, with their limits */
        size = (size_t)st.st_size;
    if (size < dir_offset())
        return MTLS_ERR_LISTEN;
    err = map(fd, size, &h);
    if (err == 0 && __atomic_load_n(&h->ready, __ATOMIC_ACQUIRE) == 0)
        err = fill(h, max_pending, c);
    if (err == 0 && (h->layout != LAYOUT || !mtls_dir_valid(dir_in(h), size - dir_offset())))
        err = MTLS_ERR_LISTEN;
    if (err != 0 && h != NULL)
        munmap(h, size);
    if (err == 0) {
        share.head = h;
        share.size = size;
    }
    return err;
}

/* Whoever makes it takes no time for it. */
static int lock_file(int fd)
{
    struct timespec pause = {.tv_nsec = 5000000};
    int tries = 200;

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || --tries == 0)
            return MTLS_ERR_LISTEN;
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int open_named(const char *name, uint32_t max_pending, struct mtls_crypto *c)
{
    char path[MTLS_SHARE_NAME_MAX + 32];
    int fd, err;

    (void)snprintf(path, sizeof(path), "/mtls1-%lu-%s", (unsigned long)geteuid(), name);
    fd = shm_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EACCES ? MTLS_ERR_LISTEN : MTLS_ERR_IO;
    err = lock_file(fd);
    if (err == 0) {
        err = open_locked(fd, max_pending, c);
        (void)flock(fd, LOCK_UN); /* the mapping keeps the file open */
    }
    close(fd);
    return err;
}

int mtls_share_open(const char *name, uint32_t max_pending, struct mtls_crypto *c)
{
    if (share.head != NULL)
        return 0;
    return name[0] != '\0' ? open_named(name, max_pending, c) : open_anonymous(max_pending, c);
}

bool mtls_share_is_open(void)
{
    return share.head != NULL;
}

struct mtls_dir *mtls_share_lock(void)
{
    struct timespec until;
    int rc;

    if (share.head == NULL)
        return NULL;
    rc = pthread_mutex_trylock(&share.head->mutex);
    if (rc == EBUSY) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOCK_WAIT_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        rc = pthread_mutex_clocklock(&share.head->mutex, CLOCK_MONOTONIC, &until);
    }
    if (rc == EOWNERDEAD) {
        mtls_dir_repair(dir_in(share.head));
        rc = pthread_mutex_consistent(&share.head->mutex);
    }
    return rc == 0 ? dir_in(share.head) : NULL;
}

void mtls_share_unlock(void)
{
    pthread_mutex_unlock(&share.head->mutex);
}

/* Those that are gone without a word, and whoever had this process's number before it. */
static void bury(struct mtls_dir *d, mtls_tstamp now, mtls_tstamp ended_ttl)
{
    struct mtls_dir_proc p;
    unsigned i;

    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        if (mtls_dir_proc_at(d, i, &p) &&
            (p.pid == (uint32_t)getpid() || (kill((pid_t)p.pid, 0) != 0 && errno == ESRCH)))
            mtls_dir_remove(d, p.self, now, ended_ttl);
    }
}

int mtls_share_enter(const uint8_t name[MTLS_DIR_NAME_LEN], mtls_tstamp now, mtls_tstamp ended_ttl)
{
    struct mtls_dir *d = mtls_share_lock();
    int err;

    if (d == NULL)
        return MTLS_ERR_IO;
    bury(d, now, ended_ttl);
    err = mtls_dir_enter(d, (uint32_t)getpid(), (uint32_t)geteuid(), name, &share.self);
    mtls_share_unlock();
    return err;
}

mtls_member mtls_share_self(void)
{
    return share.self;
}

void mtls_share_leave(mtls_tstamp now, mtls_tstamp ended_ttl)
{
    struct mtls_dir *d = share.self != 0 ? mtls_share_lock() : NULL;

    if (d != NULL) {
        mtls_dir_remove(d, share.self, now, ended_ttl);
        mtls_share_unlock();
    }
    share.self = 0;
}

void mtls_share_fork_child(void)
{
    share.self = 0;
}
