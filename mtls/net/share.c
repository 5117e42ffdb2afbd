/* Concept: the shared memory of a service's processes (see share.h). */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../core/config.h"
#include "reactor.h"
#include "share_lock.h"

enum { SECOND = 1000000, REPAIR_EVERY_US = 100000, ENDED_MAX = 65536, LAYOUT = 3 };

struct head { /* before the directory */
    uint32_t ready, layout;
    struct mtls_lock lock;
};

static struct {
    struct head *head;
    struct mtls_dir *dir;
    uint32_t ticket; /* of the last lock */
    mtls_tstamp repaired;
    mtls_tstamp wait_began, waited; /* in the second that began then */
    uint64_t net_ns, pid_ns;
    mtls_member self;
} share;

static size_t dir_offset(void)
{
    return (sizeof(struct head) + 63) / 64 * 64;
}

static uint32_t ended_max(uint32_t max_pending)
{
    return max_pending < ENDED_MAX ? max_pending : ENDED_MAX;
}

static size_t size_for(uint32_t max_pending)
{
    return dir_offset() + mtls_dir_size(max_pending, ended_max(max_pending));
}

/* h is all zero. */
static int fill(struct head *h, uint32_t max_pending, struct mtls_crypto *c, struct mtls_dir **out)
{
    uint8_t seed[MTLS_DIR_SEED_LEN];
    int err = mtls_crypto_random(c, seed, sizeof(seed));

    if (err == 0)
        err =
            mtls_dir_new(out, (char *)h + dir_offset(), max_pending, ended_max(max_pending), seed);
    if (err != 0)
        return err;
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
    struct mtls_dir *d;
    struct head *h;
    int err = map(-1, size_for(max_pending), &h);

    if (err != 0)
        return err;
    err = fill(h, max_pending, c, &d);
    if (err != 0) {
        munmap(h, size_for(max_pending));
        return err;
    }
    share.head = h;
    share.dir = d;
    return 0;
}

/* Ours alone: whoever else can write to it, or has made it shorter, could do us harm. */
static bool is_private(int fd, struct stat *st)
{
    return fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
           (st->st_mode & 077) == 0 && st->st_nlink == 1 && st->st_size >= 0;
}

/* Real room: a full /dev/shm is an error now, not a SIGBUS later. */
static int give_room(int fd, size_t size)
{
    int rc;

    if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)size) != 0)
        return MTLS_ERR_IO;
    while ((rc = posix_fallocate(fd, 0, (off_t)size)) == EINTR)
        ;
    if (rc == 0)
        return 0;
    (void)!ftruncate(fd, 0);
    return MTLS_ERR_SHARE_ROOM;
}

/* What others have made, with their limits. False: nobody has been through with it. */
static bool found(int fd, size_t size, struct head **h, struct mtls_dir **d, int *err)
{
    *err = 0;
    if (size < dir_offset() || (*err = map(fd, size, h)) != 0)
        return *err != 0;
    if (__atomic_load_n(&(*h)->ready, __ATOMIC_ACQUIRE) == 0) {
        munmap(*h, size);
        *h = NULL;
        return false;
    }
    if ((*h)->layout != LAYOUT)
        *err = MTLS_ERR_SHARE;
    else if (mtls_dir_open(d, (char *)*h + dir_offset(), size - dir_offset()) != 0)
        *err = MTLS_ERR_SHARE;
    return true;
}

/* The descriptor is locked: nobody else makes or judges it meanwhile. */
static int open_locked(int fd, uint32_t max_pending, struct mtls_crypto *c)
{
    size_t size = size_for(max_pending);
    struct mtls_dir *d = NULL;
    struct head *h = NULL;
    struct stat st;
    int err;

    if (!is_private(fd, &st))
        return MTLS_ERR_SHARE;
    if (found(fd, (size_t)st.st_size, &h, &d, &err)) {
        size = (size_t)st.st_size;
    } else {
        err = give_room(fd, size);
        if (err == 0)
            err = map(fd, size, &h);
        if (err == 0)
            err = fill(h, max_pending, c, &d);
    }
    if (err != 0 && h != NULL)
        munmap(h, size);
    if (err == 0) {
        share.head = h;
        share.dir = d;
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
            return MTLS_ERR_SHARE;
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int open_named(const char *name, uint32_t max_pending, struct mtls_crypto *c)
{
    char path[MTLS_SHARE_NAME_MAX + 32];
    struct stat st;
    int fd, err;

    /* Another layout has another name: what an older version has left is in nobody's way. */
    (void)snprintf(path, sizeof(path), "/mtls%d-%lu-%s", LAYOUT, (unsigned long)geteuid(), name);
    fd = shm_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EACCES || errno == ELOOP || errno == EISDIR ? MTLS_ERR_SHARE : MTLS_ERR_IO;
    err = is_private(fd, &st) ? lock_file(fd) : MTLS_ERR_SHARE;
    if (err == 0) {
        err = open_locked(fd, max_pending, c);
        (void)flock(fd, LOCK_UN); /* the mapping keeps the file open */
    }
    close(fd);
    return err;
}

/* Two processes at one time with one ticket would not see each other's loss: so, not likely. */
static void tickets_begin(uint32_t random)
{
    share.ticket = random ^ (uint32_t)getpid() * 2654435761u;
}

int mtls_share_open(const char *name, uint32_t max_pending, struct mtls_crypto *c)
{
    uint8_t random[sizeof(uint32_t)];
    uint32_t n;
    int err;

    if (share.head != NULL)
        return 0;
    if ((err = mtls_crypto_random(c, random, sizeof(random))) != 0)
        return err;
    memcpy(&n, random, sizeof(n));
    tickets_begin(n);
    return name[0] != '\0' ? open_named(name, max_pending, c) : open_anonymous(max_pending, c);
}

bool mtls_share_is_open(void)
{
    return share.head != NULL;
}

static uint32_t beat(const void *arg)
{
    return mtls_dir_beat(arg);
}

/* A hostile process could ask for a repair each time: not more often than it harms nobody. */
static void mend(void)
{
    mtls_tstamp now = mtls_now();

    if (now - share.repaired < REPAIR_EVERY_US)
        return;
    (void)mtls_lock_dirty(&share.head->lock, true);
    mtls_dir_repair(share.dir);
    share.repaired = mtls_now();
}

/* The engine stands still meanwhile: so long in a second, and no longer. */
static bool take(void)
{
    mtls_tstamp began, waited;
    bool taken;

    if (mtls_lock_take(&share.head->lock, share.ticket, 0, NULL, NULL))
        return true;
    began = mtls_now();
    if (began - share.wait_began >= SECOND) {
        share.wait_began = began;
        share.waited = 0;
    }
    if (share.waited >= MTLS_SHARE_WAIT_US)
        return false;
    taken = mtls_lock_take(&share.head->lock, share.ticket, MTLS_SHARE_WAIT_US - share.waited, beat,
                           share.dir);
    waited = mtls_now() - began;
    share.waited += waited;
    return taken;
}

struct mtls_dir *mtls_share_lock(void)
{
    if (share.head == NULL)
        return NULL;
    share.ticket = (share.ticket * 1664525u + 1013904223u) & 0x7fffffff;
    if (share.ticket == 0)
        share.ticket = 1;
    if (!take())
        return NULL;
    if (mtls_lock_dirty(&share.head->lock, false) || mtls_dir_spoilt(share.dir))
        mend();
    return share.dir;
}

void mtls_share_unlock(void)
{
    mtls_lock_give(&share.head->lock, share.ticket);
}

const struct mtls_dir *mtls_share_peek(void)
{
    return share.dir;
}

/* ---- Membership ---- */

static uint64_t namespace_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

bool mtls_share_same_net(const struct mtls_dir_proc *p)
{
    return p->net_ns == share.net_ns;
}

bool mtls_share_same_pids(const struct mtls_dir_proc *p)
{
    return p->pid_ns == share.pid_ns;
}

/* Those that are gone without a word, and whoever had this process's number before it. */
static unsigned find_dead(mtls_share_alive_fn *alive, mtls_member dead[MTLS_DIR_PROCS_MAX])
{
    struct mtls_dir_proc p;
    unsigned i, n = 0;

    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        if (mtls_dir_proc_at(share.dir, i, &p) &&
            ((p.pid == (uint32_t)getpid() && mtls_share_same_pids(&p)) || !alive(&p)))
            dead[n++] = p.self;
    }
    return n;
}

int mtls_share_enter(const uint8_t name[MTLS_DIR_NAME_LEN], mtls_share_alive_fn *alive,
                     mtls_tstamp now, mtls_tstamp ended_ttl)
{
    struct mtls_dir_proc me = {.pid = (uint32_t)getpid(), .uid = (uint32_t)geteuid()};
    mtls_member dead[MTLS_DIR_PROCS_MAX];
    struct mtls_dir *d;
    unsigned n;
    int err;

    if (share.head == NULL)
        return MTLS_ERR_IO;
    me.net_ns = share.net_ns = namespace_of("/proc/self/ns/net");
    me.pid_ns = share.pid_ns = namespace_of("/proc/self/ns/pid");
    memcpy(me.name, name, MTLS_DIR_NAME_LEN);
    n = find_dead(alive, dead); /* it asks them: not with the lock */
    if ((d = mtls_share_lock()) == NULL)
        return MTLS_ERR_IO;
    while (n > 0)
        mtls_dir_remove(d, dead[--n], now, ended_ttl);
    err = mtls_dir_enter(d, &me, &share.self);
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
    tickets_begin(share.ticket);
}
