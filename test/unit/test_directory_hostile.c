/* The directory's memory belongs to somebody hostile: whatever stands there, and however it changes
 * meanwhile, no call reads or writes outside of it, and each comes back soon. Pages without access
 * lie on both sides of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mtls/core/directory_mem.h"

enum { MAX = 64, MAX_ENDED = 32, JOINS = 80, TTL = 60, ROUNDS = 4000, LIMIT_MS = 2000 };

static const uint8_t seed[MTLS_DIR_SEED_LEN] = {1, 2, 3};
static uint64_t state_of_random = 88172645463325252u;

struct fix {
    uint8_t *pages, *mem;
    size_t size, page, len;
    struct mtls_dir *d;
    mtls_member a, b;
};

static uint32_t random_below(uint32_t n)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return (uint32_t)(state_of_random >> 32) % n;
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const uint8_t *join(uint32_t n)
{
    static uint8_t j[MTLS_JOIN_LEN];

    memset(j, 0, sizeof(j));
    memcpy(j, &n, sizeof(n));
    return j;
}

/* The memory ends where the page does, up to its alignment. */
static int start(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    struct mtls_dir_proc who = {.pid = 10};

    f->size = mtls_dir_size(MAX, MAX_ENDED);
    f->page = (size_t)sysconf(_SC_PAGESIZE);
    f->len = (f->size + f->page - 1) / f->page * f->page;
    f->pages = mmap(NULL, f->len + 2 * f->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(mprotect(f->pages + f->page, f->len, PROT_READ | PROT_WRITE), 0);
    f->mem = f->pages + f->page + (f->len - f->size) / 64 * 64;
    assert_int_equal(mtls_dir_new(&f->d, f->mem, MAX, MAX_ENDED, seed), 0);
    assert_int_equal(mtls_dir_enter(f->d, &who, &f->a), 0);
    assert_int_equal(mtls_dir_enter(f->d, &who, &f->b), 0);
    *state = f;
    return 0;
}

static int take_down(void **state)
{
    struct fix *f = *state;

    mtls_dir_free(f->d);
    munmap(f->pages, f->len + 2 * f->page);
    free(f);
    return 0;
}

static void has(void *arg, const uint8_t j[MTLS_JOIN_LEN], uint8_t *slots, uint8_t *nclaims)
{
    *slots = (uint8_t)random_below(256);
    *nclaims = (uint8_t)random_below(MTLS_SLOTS_MAX);
}

static void ask(struct fix *f, mtls_tstamp now)
{
    struct mtls_dir_proc p;
    struct mtls_dir_stats s;
    unsigned i;

    for (i = 0; i <= MTLS_DIR_PROCS_MAX; i++)
        (void)mtls_dir_proc_at(f->d, i, &p);
    (void)mtls_dir_heir(f->d, f->a);
    mtls_dir_stats(f->d, &s);
    assert_true(s.free <= 2 * MAX + MAX_ENDED && s.procs <= MTLS_DIR_PROCS_MAX);
}

/* Every operation; whatever they answer. */
static void work(struct fix *f, mtls_tstamp now)
{
    mtls_member who = random_below(2) ? f->a : f->b;
    uint32_t n = random_below(JOINS);
    struct mtls_dir_view view;
    uint8_t slot = 0;

    if (mtls_dir_session_add(f->d, who, join(n), now, &slot, &view) == 0)
        assert_true(slot < MTLS_SLOTS_MAX);
    (void)!mtls_dir_claim_add(f->d, who, join(random_below(JOINS)), now, &view);
    mtls_dir_look(f->d, join(random_below(JOINS)), &view);
    assert_true(view.nsessions <= MTLS_SLOTS_MAX && view.nclaims <= MTLS_SLOTS_MAX);
    mtls_dir_claim_move(f->d, f->a, f->b, join(random_below(JOINS)), now);
    mtls_dir_claim_end(f->d, who, join(random_below(JOINS)));
    mtls_dir_session_end(f->d, who, join(n), (uint8_t)random_below(12), now, TTL);
}

static void work_rarely(struct fix *f, mtls_tstamp now)
{
    struct mtls_dir_sweep s = {.member = f->a, .ttl = TTL, .has = has, .at = random_below(300)};
    struct mtls_dir_proc who = {.pid = 11};
    struct mtls_dir *other;
    mtls_member m;

    ask(f, now);
    (void)!mtls_dir_sweep(f->d, &s, random_below(400), now);
    mtls_dir_set_leaving(f->d, f->a);
    if (mtls_dir_enter(f->d, &who, &m) == 0)
        mtls_dir_remove(f->d, m, now, TTL);
    mtls_dir_remove(f->d, f->a, now, TTL);
    if (mtls_dir_enter(f->d, &who, &f->a) != 0)
        f->a = f->b;
    if (mtls_dir_open(&other, f->mem, f->size) == 0)
        mtls_dir_free(other);
    if (random_below(4) == 0 || mtls_dir_spoilt(f->d))
        mtls_dir_repair(f->d);
}

/* Small numbers and extremes do more harm than noise. */
static uint32_t poison(void)
{
    static const uint32_t words[] = {0, 1, 2, 63, 64, 159, 160, 161, 162, 1u << 16, 1u << 31, ~0u};
    uint32_t n = random_below(20);

    return n < 12 ? words[n] : n < 18 ? random_below(170) : random_below(UINT32_MAX);
}

static void spoil_once(struct fix *f)
{
    size_t procs = offsetof(struct mtls_dir_memory, procs);
    size_t behind = offsetof(struct mtls_dir_memory, numbers);
    uint32_t where = random_below(8), word = poison();
    size_t at;

    if (where < 2)
        at = random_below((uint32_t)procs); /* the head */
    else if (where < 3)
        at = procs + random_below(3 * sizeof(struct mtls_dir_proc));
    else
        at = behind + random_below((uint32_t)(f->size - behind));
    at = at / 4 * 4;
    if (random_below(3) == 0)
        f->mem[at] ^= (uint8_t)(1u << random_below(8));
    else
        memcpy(f->mem + at, &word, sizeof(word));
}

/* Between the calls. */
static void spoilt(void **state)
{
    struct fix *f = *state;
    unsigned round, i;

    for (round = 0; round < ROUNDS; round++) {
        uint64_t began = now_ms();

        for (i = random_below(6); i > 0; i--)
            spoil_once(f);
        for (i = 0; i < 8; i++)
            work(f, round);
        if (round % 8 == 0)
            work_rarely(f, round);
        assert_true(now_ms() - began < LIMIT_MS);
    }
}

/* After a repair it is a directory again, and works. */
static void repaired(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_view view;
    struct mtls_dir_stats s;
    mtls_tstamp now = 0;
    unsigned round, i;
    uint8_t slot;

    for (round = 0; round < 200; round++) {
        for (i = 0; i < 40; i++)
            spoil_once(f);
        for (i = 0; i < 8; i++)
            work(f, now);
        memset(((struct mtls_dir_memory *)f->mem)->procs, 0,
               sizeof(struct mtls_dir_proc[MTLS_DIR_PROCS_MAX]));
        mtls_dir_repair(f->d); /* nobody is a member: all that is left is nobody's */
        mtls_dir_sweep(f->d, &(struct mtls_dir_sweep){.ttl = 1, .has = has}, 1000, now);
        mtls_dir_repair(f->d);
        for (i = 0, now += 2; i < 2 * MAX + MAX_ENDED; i += 8, now += 2)
            mtls_dir_sweep(f->d, &(struct mtls_dir_sweep){.ttl = 1, .has = has}, 1000, now);
        mtls_dir_stats(f->d, &s);
        assert_int_equal(s.free, 2 * MAX + MAX_ENDED);
        assert_int_equal(mtls_dir_session_add(f->d, 1, join(round), now, &slot, &view), 0);
        assert_int_equal(mtls_dir_claim_add(f->d, 1, join(round), now, &view), 0);
        assert_int_equal(view.nsessions, 1);
        assert_false(mtls_dir_spoilt(f->d));
    }
}

/* Loops: the chain of every bucket, the free list, the queue. */
static void loops(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_memory *m = (struct mtls_dir_memory *)(void *)f->mem;
    struct mtls_dir_view view;
    uint64_t began = now_ms();
    uint8_t slot;
    unsigned i;

    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(1), 0, &view), 0);
    assert_false(mtls_dir_spoilt(f->d));
    for (i = 0; i < f->d->nbuckets; i++)
        f->d->buckets[i] = 1;
    f->d->entries[0].next = 1;
    mtls_dir_look(f->d, join(1), &view);
    assert_int_equal(view.nclaims, 1);
    assert_false(mtls_dir_spoilt(f->d));
    for (i = 0; i < 100000; i++)
        mtls_dir_look(f->d, join(2), &view);
    assert_true(mtls_dir_spoilt(f->d));
    mtls_dir_repair(f->d);
    assert_int_equal(mtls_dir_session_add(f->d, f->a, join(3), 0, &slot, &view), 0);
    mtls_dir_session_end(f->d, f->a, join(3), slot, 0, TTL);
    assert_false(mtls_dir_spoilt(f->d));
    f->d->entries[m->ended_head - 1].next_ended = m->ended_head;
    for (i = 0; i < 1000; i++)
        mtls_dir_expire(f->d, TTL);
    assert_true(mtls_dir_spoilt(f->d));
    mtls_dir_repair(f->d);
    m->free_head = 1; /* in use */
    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(4), 0, &view), MTLS_ERR_NOMEM);
    assert_true(mtls_dir_spoilt(f->d));
    mtls_dir_repair(f->d);
    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(4), 0, &view), 0);
    mtls_dir_look(f->d, join(1), &view);
    assert_int_equal(view.nclaims, 1);
    assert_true(now_ms() - began < 10 * LIMIT_MS);
}

/* The sizes that stand there are for those that open it; who has it open goes by its own. */
static void sizes(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_memory *m = (struct mtls_dir_memory *)(void *)f->mem;
    struct mtls_dir_view view;
    struct mtls_dir *d;
    uint32_t max;

    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(1), 0, &view), 0);
    for (max = 1; max != 0; max *= 2) {
        m->max = m->max_ended = max;
        if (mtls_dir_open(&d, f->mem, f->size) == 0) {
            assert_true(mtls_dir_size(max, max) <= f->size);
            mtls_dir_free(d);
        } else {
            assert_true(max > MAX / 2);
        }
        mtls_dir_look(f->d, join(1), &view);
        assert_int_equal(view.nclaims, 1);
        mtls_dir_repair(f->d);
    }
    m->seed[0]++;
    mtls_dir_look(f->d, join(1), &view);
    assert_int_equal(view.nclaims, 1);
}

static bool scribbling;

/* Somebody writes while the calls look. Not for the race checker: it is one on purpose. */
__attribute__((no_sanitize("thread"))) static void *scribble(void *arg)
{
    const struct fix *f = arg;
    uint64_t x = 0x9e3779b97f4a7c15u;

    while (__atomic_load_n(&scribbling, __ATOMIC_RELAXED)) {
        volatile uint32_t *at;
        unsigned i;

        for (i = 0; i < 1000; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            at = (volatile uint32_t *)(void *)(f->mem + (x >> 20) % (f->size / 4) * 4);
            *at = (x & 3) != 0 ? (uint32_t)(x >> 40) % 170 : (uint32_t)(x >> 32);
        }
        sched_yield();
    }
    return NULL;
}

static void while_looked_at(void **state)
{
    struct fix *f = *state;
    pthread_t thread;
    unsigned round, i;

    __atomic_store_n(&scribbling, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_create(&thread, NULL, scribble, f), 0);
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < 8; i++)
            work(f, round);
        if (round % 32 == 0)
            work_rarely(f, round);
    }
    __atomic_store_n(&scribbling, false, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(spoilt, start, take_down),
        cmocka_unit_test_setup_teardown(repaired, start, take_down),
        cmocka_unit_test_setup_teardown(loops, start, take_down),
        cmocka_unit_test_setup_teardown(sizes, start, take_down),
        cmocka_unit_test_setup_teardown(while_looked_at, start, take_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
