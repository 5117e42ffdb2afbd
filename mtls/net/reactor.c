/* Concept: the reactor (see reactor.h): one epoll instance, a timer heap on one timerfd, the engine
 * lock, and the thread that runs them. Knows nothing of path 2. */
#include "reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "closing.h"
#include "fork.h"

enum {
    FD_HIGH = 100,
    BATCH = 64,
    SLOT_WAKE = 0,
    SLOT_TIMER = 1,
    SLOT_FIRST = 2,
    WATCHES_MAX = 1 << 20
};

struct mtls_watch {
    struct mtls_reactor *reactor;
    uint32_t slot;
    int fd;
    mtls_watch_fn *fn;
    void *arg;
};

struct mtls_timer {
    struct mtls_reactor *reactor;
    mtls_tstamp at;
    size_t pos; /* in the heap, SIZE_MAX = not armed */
    mtls_timer_fn *fn;
    void *arg;
};

struct slot {
    struct mtls_watch *watch;
    uint32_t generation;
    uint32_t next_free;
};

struct mtls_reactor {
    int epoll_fd, wake_fd, timer_fd;
    bool thread_runs, app_driven;
    bool lost;                  /* the program closed the descriptors: they are -1 */
    sem_t up;                   /* the thread runs */
    struct mtls_reactor *older; /* lost before */
    pthread_t thread;
    struct slot *slots;
    uint32_t nslots, free_slot;
    struct mtls_timer **heap;
    size_t heap_len, heap_cap, ntimers;
    bool crowded;          /* the last wait brought as much as there was room for */
    mtls_tstamp armed_for; /* what timer_fd is set to */
};

static pthread_mutex_t engine_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;
static struct mtls_reactor *the_reactor, *lost_reactors;
static bool stopped;
static mtls_fork_child_fn *fork_child_fn;
static mtls_exit_fn *exit_fn;

/* The poke is a change of what wake_fd, which can always be written, is watched for: the kernel
 * says whether the descriptors are still what they were. */
static const uint64_t NO_FDS = UINT64_MAX;
static uint64_t poke_fds = UINT64_MAX; /* epoll_fd << 32 | wake_fd; atomic */
static bool poked;                     /* atomic */
static void (*poke_fn)(void);

void mtls_engine_lock(void)
{
    pthread_mutex_lock(&engine_mutex);
}

void mtls_engine_unlock(void)
{
    pthread_mutex_unlock(&engine_mutex);
}

static void reactor_close(struct mtls_reactor *r)
{
    if (r->epoll_fd >= 0)
        close(r->epoll_fd);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    if (r->timer_fd >= 0)
        close(r->timer_fd);
    free(r->slots);
    free(r->heap);
    free(r);
}

static void fork_child(void)
{
    struct mtls_reactor *old = the_reactor;

    __atomic_store_n(&poke_fds, NO_FDS, __ATOMIC_RELEASE);
    pthread_mutex_init(&engine_mutex, NULL);
    mtls_closing_fork_child();
    if (fork_child_fn != NULL)
        fork_child_fn();
    the_reactor = NULL;
    if (old != NULL)
        reactor_close(old);
}

void mtls_reactor_on_fork_child(mtls_fork_child_fn *fn)
{
    fork_child_fn = fn;
}

void mtls_reactor_on_exit(mtls_exit_fn *fn)
{
    exit_fn = fn;
}

/* Before libcrypto cleans up: first inside OPENSSL_cleanup, which OpenSSL 4 runs as a destructor,
 * after every exit handler, if at all. Nothing of ours calls libcrypto any more. */
static void at_exit(void)
{
    struct mtls_reactor *r;
    uint64_t one = 1;

    mtls_engine_lock();
    stopped = true;
    r = the_reactor;
    mtls_engine_unlock();
    if (r != NULL && r->thread_runs && !pthread_equal(r->thread, pthread_self())) {
        if (write(r->wake_fd, &one, sizeof(one)) == sizeof(one))
            pthread_join(r->thread, NULL);
    }
    mtls_engine_lock();
    if (r != NULL && exit_fn != NULL)
        exit_fn();
    mtls_engine_unlock();
}

static void fork_prepare(void)
{
    mtls_engine_lock();
    mtls_closing_fork_prepare();
}

static void fork_parent(void)
{
    mtls_closing_fork_parent();
    mtls_engine_unlock();
}

static void process_init(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
#if OPENSSL_VERSION_MAJOR >= 4
    atexit(at_exit);
#else
    OPENSSL_atexit(at_exit);
#endif
}

/* ---- watches ---- */

static int slots_grow(struct mtls_reactor *r)
{
    uint32_t n = r->nslots == 0 ? 64 : r->nslots * 2, i;
    struct slot *grown;

    if (n > WATCHES_MAX)
        return MTLS_ERR_LIMIT;
    grown = realloc(r->slots, n * sizeof(*grown));
    if (grown == NULL)
        return MTLS_ERR_NOMEM;
    memset(grown + r->nslots, 0, (n - r->nslots) * sizeof(*grown));
    for (i = r->nslots < SLOT_FIRST ? SLOT_FIRST : r->nslots; i < n; i++)
        grown[i].next_free = i + 1 < n ? i + 1 : 0;
    r->free_slot = r->nslots < SLOT_FIRST ? SLOT_FIRST : r->nslots;
    r->slots = grown;
    r->nslots = n;
    return 0;
}

static int epoll_add(struct mtls_reactor *r, int fd, uint32_t events, uint32_t slot,
                     uint32_t generation)
{
    struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)generation << 32 | slot};

    return epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : MTLS_ERR_IO;
}

int mtls_watch_new(struct mtls_watch **out, struct mtls_reactor *r, int fd, uint32_t epoll_events,
                   mtls_watch_fn *fn, void *arg)
{
    struct mtls_watch *w = calloc(1, sizeof(*w));
    struct slot *slot;
    int err = w == NULL ? MTLS_ERR_NOMEM : 0;

    if (err == 0 && r->free_slot == 0)
        err = slots_grow(r);
    if (err == 0) {
        w->reactor = r;
        w->slot = r->free_slot;
        w->fd = fd;
        w->fn = fn;
        w->arg = arg;
        slot = &r->slots[w->slot];
        err = epoll_add(r, fd, epoll_events, w->slot, slot->generation);
    }
    if (err != 0) {
        free(w);
        return err;
    }
    r->free_slot = slot->next_free;
    slot->watch = w;
    *out = w;
    return 0;
}

int mtls_watch_set(struct mtls_watch *w, uint32_t epoll_events)
{
    struct epoll_event ev = {.events = epoll_events,
                             .data.u64 =
                                 (uint64_t)w->reactor->slots[w->slot].generation << 32 | w->slot};

    return epoll_ctl(w->reactor->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) == 0 ? 0 : MTLS_ERR_IO;
}

void mtls_watch_free(struct mtls_watch *w)
{
    struct slot *slot;

    if (w == NULL)
        return;
    epoll_ctl(w->reactor->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    slot = &w->reactor->slots[w->slot];
    slot->watch = NULL;
    slot->generation++; /* events of this batch that name the old one are dropped */
    slot->next_free = w->reactor->free_slot;
    w->reactor->free_slot = w->slot;
    free(w);
}

void mtls_watch_disown(struct mtls_watch *w)
{
    free(w);
}

bool mtls_watch_lost(const struct mtls_watch *w)
{
    return w != NULL && w->reactor->lost;
}

/* ---- timers: a binary heap ---- */

static void heap_place(struct mtls_reactor *r, size_t pos, struct mtls_timer *t)
{
    r->heap[pos] = t;
    t->pos = pos;
}

static void heap_up(struct mtls_reactor *r, size_t pos)
{
    struct mtls_timer *t = r->heap[pos];

    while (pos > 0 && r->heap[(pos - 1) / 2]->at > t->at) {
        heap_place(r, pos, r->heap[(pos - 1) / 2]);
        pos = (pos - 1) / 2;
    }
    heap_place(r, pos, t);
}

static void heap_down(struct mtls_reactor *r, size_t pos)
{
    struct mtls_timer *t = r->heap[pos];
    size_t child;

    while ((child = 2 * pos + 1) < r->heap_len) {
        if (child + 1 < r->heap_len && r->heap[child + 1]->at < r->heap[child]->at)
            child++;
        if (r->heap[child]->at >= t->at)
            break;
        heap_place(r, pos, r->heap[child]);
        pos = child;
    }
    heap_place(r, pos, t);
}

static void heap_remove(struct mtls_reactor *r, struct mtls_timer *t)
{
    size_t pos = t->pos;
    struct mtls_timer *last;

    if (pos == SIZE_MAX)
        return;
    t->pos = SIZE_MAX;
    last = r->heap[--r->heap_len];
    if (last == t)
        return;
    heap_place(r, pos, last);
    heap_up(r, pos);
    heap_down(r, last->pos);
}

/* Only ever sets the timerfd earlier; when it fires too early the loop sets it anew. */
static void arm(struct mtls_reactor *r)
{
    mtls_tstamp at = r->heap_len > 0 ? r->heap[0]->at : MTLS_TSTAMP_NEVER;
    struct itimerspec its = {{0, 0}, {0, 0}};

    if (at >= r->armed_for)
        return;
    r->armed_for = at;
    its.it_value.tv_sec = (time_t)(at / 1000000u);
    its.it_value.tv_nsec = (long)(at % 1000000u) * 1000 + 1; /* 0 would disarm */
    timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

int mtls_timer_new(struct mtls_timer **out, struct mtls_reactor *r, mtls_timer_fn *fn, void *arg)
{
    struct mtls_timer *t;
    struct mtls_timer **grown;

    if (r->ntimers == r->heap_cap) { /* room for every timer that exists: setting one cannot fail */
        size_t cap = r->heap_cap == 0 ? 64 : r->heap_cap * 2;

        grown = realloc(r->heap, cap * sizeof(struct mtls_timer *));
        if (grown == NULL)
            return MTLS_ERR_NOMEM;
        r->heap = grown;
        r->heap_cap = cap;
    }
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return MTLS_ERR_NOMEM;
    t->reactor = r;
    t->pos = SIZE_MAX;
    t->fn = fn;
    t->arg = arg;
    r->ntimers++;
    *out = t;
    return 0;
}

void mtls_timer_set(struct mtls_timer *t, mtls_tstamp at)
{
    struct mtls_reactor *r = t->reactor;

    heap_remove(r, t);
    if (at == MTLS_TSTAMP_NEVER)
        return;
    t->at = at;
    heap_place(r, r->heap_len++, t);
    heap_up(r, t->pos);
    arm(r);
}

void mtls_timer_free(struct mtls_timer *t)
{
    if (t == NULL)
        return;
    heap_remove(t->reactor, t);
    t->reactor->ntimers--;
    free(t);
}

/* ---- running ---- */

/* Out of the way of programs that count on low numbers, or close them. */
static int high(int fd)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH);

    if (moved < 0)
        return fd;
    close(fd);
    return moved;
}

/* Whether both descriptors are still what they were. */
static bool wake_set(int epoll_fd, int wake_fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = SLOT_WAKE};

    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, wake_fd, &ev) == 0;
}

static bool has_descriptors(const struct mtls_reactor *r)
{
    bool has = wake_set(r->epoll_fd, r->wake_fd, EPOLLIN);

    if (has && __atomic_load_n(&poked, __ATOMIC_ACQUIRE)) /* it may have been undone just now */
        (void)wake_set(r->epoll_fd, r->wake_fd, EPOLLIN | EPOLLOUT);
    return has;
}

void mtls_reactor_on_poke(void (*fn)(void))
{
    poke_fn = fn;
}

void mtls_reactor_poke(void)
{
    uint64_t fds = __atomic_load_n(&poke_fds, __ATOMIC_ACQUIRE);
    int saved = errno;

    __atomic_store_n(&poked, true, __ATOMIC_RELEASE);
    if (fds != NO_FDS)
        (void)wake_set((int)(fds >> 32), (int)(uint32_t)fds, EPOLLIN | EPOLLOUT);
    errno = saved;
}

static void was_poked(const struct mtls_reactor *r)
{
    __atomic_store_n(&poked, false, __ATOMIC_RELEASE);
    (void)wake_set(r->epoll_fd, r->wake_fd, EPOLLIN); /* a poke from here on is heard again */
    if (poke_fn != NULL)
        poke_fn();
}

/* Its watches and timers still point to it: it is not freed. */
static void lose(struct mtls_reactor *r)
{
    if (r->thread_runs)
        pthread_detach(r->thread);
    r->thread_runs = false;
    r->lost = true;
    r->epoll_fd = r->wake_fd = r->timer_fd = -1;
    __atomic_store_n(&poke_fds, NO_FDS, __ATOMIC_RELEASE);
    r->older = lost_reactors;
    lost_reactors = r;
    if (the_reactor == r)
        the_reactor = NULL;
}

static struct mtls_reactor *reactor_new(void)
{
    struct mtls_reactor *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    r->armed_for = MTLS_TSTAMP_NEVER;
    r->epoll_fd = high(epoll_create1(EPOLL_CLOEXEC));
    r->wake_fd = high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    r->timer_fd = high(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (r->epoll_fd < 0 || r->wake_fd < 0 || r->timer_fd < 0 || slots_grow(r) != 0 ||
        epoll_add(r, r->wake_fd, EPOLLIN, SLOT_WAKE, 0) != 0 ||
        epoll_add(r, r->timer_fd, EPOLLIN, SLOT_TIMER, 0) != 0) {
        reactor_close(r);
        return NULL;
    }
    __atomic_store_n(&poke_fds, (uint64_t)(uint32_t)r->epoll_fd << 32 | (uint32_t)r->wake_fd,
                     __ATOMIC_RELEASE);
    return r;
}

struct mtls_reactor *mtls_reactor_get(void)
{
    pthread_once(&process_once, process_init);
    if (the_reactor != NULL && !stopped && !has_descriptors(the_reactor))
        lose(the_reactor);
    if (the_reactor == NULL && !stopped)
        the_reactor = reactor_new();
    return stopped ? NULL : the_reactor;
}

struct mtls_reactor *mtls_reactor_current(void)
{
    return the_reactor == NULL || stopped ? mtls_reactor_get() : the_reactor;
}

static void run_timers(struct mtls_reactor *r, mtls_tstamp now)
{
    size_t budget = r->heap_len; /* a timer that sets itself to the past waits for the next round */

    r->armed_for = MTLS_TSTAMP_NEVER;
    while (budget-- > 0 && r->heap_len > 0 && r->heap[0]->at <= now && !stopped) {
        struct mtls_timer *t = r->heap[0];

        heap_remove(r, t);
        t->fn(t->arg, now);
    }
    arm(r);
}

static void run_events(struct mtls_reactor *r, const struct epoll_event *events, int n)
{
    mtls_tstamp now = mtls_now();
    uint64_t drain;
    int i;

    r->crowded = n == BATCH;
    for (i = 0; i < n && !stopped; i++) {
        uint32_t slot = (uint32_t)events[i].data.u64;
        uint32_t generation = (uint32_t)(events[i].data.u64 >> 32);

        if (slot == SLOT_WAKE && (events[i].events & EPOLLOUT) != 0) {
            was_poked(r);
        } else if (slot == SLOT_WAKE || slot == SLOT_TIMER) {
            ssize_t got = read(slot == SLOT_WAKE ? r->wake_fd : r->timer_fd, &drain, sizeof(drain));

            (void)got;
            if (slot == SLOT_TIMER)
                run_timers(r, mtls_now());
        } else if (slot < r->nslots && r->slots[slot].watch != NULL &&
                   r->slots[slot].generation == generation) {
            struct mtls_watch *w = r->slots[slot].watch;

            w->fn(w->arg, events[i].events, now);
        }
    }
}

/* Waking up must not throw an application's thread off its processor in the middle of a handshake:
 * that costs a busy server more than all else here. Where a seccomp filter is in force the call is
 * left out, lest it be a deadly one. */
static void give_way(void)
{
    struct sched_param none = {.sched_priority = 0};

    if (prctl(PR_GET_SECCOMP) == 0 && sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

static void *thread_main(void *arg)
{
    struct mtls_reactor *r = arg;
    struct epoll_event events[BATCH];
    int epoll_fd = r->epoll_fd; /* lose() changes it, in another thread */
    bool stop = false;

    sem_post(&r->up);
    give_way();
    while (!stop) {
        int n = epoll_wait(epoll_fd, events, BATCH, -1), error = errno;

        mtls_engine_lock();
        mtls_closing_begin();
        if (n < 0 && error != EINTR && !r->lost)
            lose(r);
        stop = stopped || r->lost;
        if (!stop && n > 0)
            run_events(r, events, n);
        mtls_closing_unlock();
    }
    return NULL;
}

int mtls_reactor_start(struct mtls_reactor *r, bool app_driven)
{
    sigset_t all, before;
    int rc;

    if (stopped)
        return MTLS_ERR_STOPPED;
    if (r->thread_runs || r->app_driven)
        return 0;
    if (app_driven) {
        r->app_driven = true;
        return 0;
    }
    (void)sem_init(&r->up, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&r->thread, NULL, thread_main, r);
    while (rc == 0 && sem_wait(&r->up) != 0) /* whoever forks next must not copy the locks */
        continue;                            /* that a thread takes while it starts */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return MTLS_ERR_IO;
    r->thread_runs = true;
    return 0;
}

static void dispatch(struct mtls_reactor *r, int timeout_ms)
{
    struct epoll_event events[BATCH];
    int n, epoll_fd = r->epoll_fd;

    mtls_engine_unlock();
    n = epoll_wait(epoll_fd, events, BATCH, timeout_ms);
    mtls_engine_lock();
    if (n > 0 && !stopped && !r->lost)
        run_events(r, events, n);
}

void mtls_reactor_wait(struct mtls_reactor *r, pthread_cond_t *cond, mtls_tstamp until)
{
    mtls_tstamp now = mtls_now();
    struct timespec ts = {.tv_sec = (time_t)(until / 1000000u),
                          .tv_nsec = (long)(until % 1000000u) * 1000};

    if (until <= now)
        return;
    if (r->app_driven) {
        mtls_tstamp ms = (until - now + 999) / 1000;

        dispatch(r, ms > 1000 ? 1000 : (int)ms);
        return;
    }
    pthread_cond_timedwait(cond, &engine_mutex, &ts);
}

bool mtls_reactor_crowded(const struct mtls_reactor *r)
{
    return r->crowded;
}

int mtls_reactor_fd_lock(void)
{
    struct mtls_reactor *r;
    int fd = MTLS_ERR_STOPPED;

    mtls_engine_lock();
    r = mtls_reactor_get();
    if (r != NULL)
        fd = r->epoll_fd;
    mtls_engine_unlock();
    return fd;
}

int mtls_reactor_dispatch_lock(void)
{
    struct mtls_reactor *r;
    int err = MTLS_ERR_STOPPED;

    mtls_engine_lock();
    r = mtls_reactor_get();
    if (r != NULL) {
        dispatch(r, 0);
        err = 0;
    }
    mtls_engine_unlock();
    return err;
}
