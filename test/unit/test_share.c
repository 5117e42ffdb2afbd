/* The memory that processes share: its lock against the dead, the stopped and the hostile; the
 * named memory against others who were there first; members of other namespaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/engine.h"
#include "mtls/net/reactor.h"
#include "mtls/net/share.h"
#include "mtls/net/share_lock.h"

enum { TURNS = 20000, SLACK_US = 2000000, TTL = 60 * 1000000 };

struct shared {
    struct mtls_lock lock;
    uint32_t beat;
    uint64_t counted;
};

static struct shared *both;

static int start(void **state)
{
    both = mmap(NULL, sizeof(*both), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return both == MAP_FAILED;
}

static int take_down(void **state)
{
    return munmap(both, sizeof(*both));
}

static int ended(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* One at a time. */
static int count_up(uint32_t first)
{
    for (uint32_t i = 0; i < TURNS; i++) {
        while (!mtls_lock_take(&both->lock, first + i, MTLS_SHARE_WAIT_US, NULL, NULL))
            ;
        both->counted++;
        mtls_lock_give(&both->lock, first + i);
    }
    return 0;
}

static void one_at_a_time(void **state)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(count_up(1));
    count_up(1000000);
    assert_int_equal(ended(pid), 0);
    assert_int_equal(both->counted, 2 * TURNS);
    assert_false(mtls_lock_dirty(&both->lock, false));
    assert_int_equal(both->lock.word, 0);
}

static pid_t child_takes_it(int *ready, int *go)
{
    int up[2], down[2];
    pid_t pid;
    char c;

    assert_int_equal(pipe(up) | pipe(down), 0);
    pid = fork();
    if (pid == 0) {
        close(down[1]);
        if (!mtls_lock_take(&both->lock, 7, 0, NULL, NULL) || write(up[1], "x", 1) != 1)
            _exit(1);
        if (read(down[0], &c, 1) != 1)
            _exit(2);
        mtls_lock_give(&both->lock, 7);
        _exit(0);
    }
    close(up[1]);
    close(down[0]);
    assert_int_equal(read(up[0], &c, 1), 1);
    *ready = up[0];
    *go = down[1];
    return pid;
}

static mtls_tstamp take_timed(uint32_t ticket)
{
    mtls_tstamp began = mtls_now();

    assert_true(mtls_lock_take(&both->lock, ticket, MTLS_SHARE_WAIT_US, NULL, NULL));
    return mtls_now() - began;
}

/* A process dies with it: the next one waits once, and repairs. */
static void holder_dies(void **state)
{
    int ready, go;
    pid_t pid = child_takes_it(&ready, &go);
    mtls_tstamp us;

    kill(pid, SIGKILL);
    (void)ended(pid);
    us = take_timed(8);
    assert_true(us >= MTLS_LOCK_STEAL_US && us < MTLS_LOCK_STEAL_US + SLACK_US);
    assert_true(mtls_lock_dirty(&both->lock, true));
    mtls_lock_give(&both->lock, 8);
    (void)take_timed(9);
    assert_false(mtls_lock_dirty(&both->lock, true));
    mtls_lock_give(&both->lock, 9);
    close(ready);
    close(go);
}

/* A stopped one costs the others one wait; when it goes on it finds out, and all is repaired. */
static void holder_is_stopped(void **state)
{
    int ready, go, status;
    pid_t pid = child_takes_it(&ready, &go);
    mtls_tstamp us;

    kill(pid, SIGSTOP);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    us = take_timed(8);
    assert_true(us >= MTLS_LOCK_STEAL_US && us < MTLS_LOCK_STEAL_US + SLACK_US);
    assert_true(mtls_lock_dirty(&both->lock, true));
    kill(pid, SIGCONT);
    assert_int_equal(write(go, "x", 1), 1);
    assert_int_equal(ended(pid), 0);
    assert_int_equal(both->lock.word & 0x7fffffff, 8); /* not given away by it */
    assert_true(mtls_lock_dirty(&both->lock, true));
    mtls_lock_give(&both->lock, 8);
    assert_int_equal(both->lock.word, 0);
    close(ready);
    close(go);
}

static uint32_t beats(const void *arg)
{
    return both->beat++;
}

/* Who shows that it is at work is not robbed; but nobody is waited for without end. */
static void holder_is_busy(void **state)
{
    mtls_tstamp began = mtls_now(), us;

    both->lock.word = 5;
    assert_false(mtls_lock_take(&both->lock, 8, MTLS_SHARE_WAIT_US, beats, NULL));
    us = mtls_now() - began;
    assert_true(us >= MTLS_SHARE_WAIT_US && us < MTLS_SHARE_WAIT_US + SLACK_US);
    assert_int_equal(both->lock.word & 0x7fffffff, 5);
    assert_false(mtls_lock_dirty(&both->lock, true));
}

/* ---- share=NAME ---- */

static struct mtls_crypto *crypto;
static char path[64], name[32];

static int name_new(void **state)
{
    (void)snprintf(name, sizeof(name), "unit%ld", (long)getpid());
    (void)snprintf(path, sizeof(path), "/dev/shm/mtls3-%lu-%s", (unsigned long)geteuid(), name);
    return 0;
}

static int name_gone(void **state)
{
    (void)unlink(path);
    return 0;
}

static int shared_open(uint32_t max_pending)
{
    int err;

    mtls_engine_lock();
    err = mtls_engine_crypto(&crypto);
    if (err == 0)
        err = mtls_share_open(name, max_pending, crypto);
    mtls_engine_unlock();
    return err;
}

static bool alive(const struct mtls_dir_proc *p)
{
    return true;
}

static int enter_and_count(uint32_t *procs)
{
    const uint8_t socket_name[MTLS_DIR_NAME_LEN] = {9};
    struct mtls_dir_stats s;
    struct mtls_dir *d;
    int err;

    mtls_engine_lock();
    err = mtls_share_enter(socket_name, alive, 0, TTL);
    d = mtls_share_lock();
    if (d != NULL)
        mtls_dir_stats(d, &s);
    mtls_share_unlock();
    *procs = s.procs;
    mtls_engine_unlock();
    return err;
}

/* Each in a process of its own: the memory is opened once for all. */
static int child_opens(uint32_t max_pending, uint32_t *procs)
{
    int status, fds[2];
    int32_t said[2] = {1, 0};
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        uint32_t n = 0;

        said[0] = shared_open(max_pending);
        if (said[0] == 0)
            said[0] = enter_and_count(&n);
        said[1] = (int32_t)n;
        _exit(write(fds[1], said, sizeof(said)) != sizeof(said));
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], said, sizeof(said)), sizeof(said));
    close(fds[0]);
    status = ended(pid);
    assert_int_equal(status, 0);
    if (procs != NULL)
        *procs = (uint32_t)said[1];
    return said[0];
}

/* The second one finds what the first has made, with its limits. */
static void found_by_name(void **state)
{
    uint32_t procs = 0;
    struct stat st;

    assert_int_equal(child_opens(64, &procs), 0);
    assert_int_equal(procs, 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true((size_t)st.st_blocks * 512 >= (size_t)st.st_size); /* real room */
    assert_int_equal(child_opens(128, &procs), 0);
    assert_int_equal(procs, 2);
}

/* Its maker died before it was through with it. */
static void begun_only(void **state)
{
    uint32_t procs = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 5000), 0);
    close(fd);
    assert_int_equal(child_opens(64, &procs), 0);
    assert_int_equal(procs, 1);
}

static void others_were_first(void **state)
{
    static const char junk[8192] = {1, 0, 0, 0, 99};
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    char second[80];

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0666), 0); /* others may write to it */
    assert_int_equal(child_opens(64, NULL), MTLS_ERR_SHARE);
    assert_int_equal(fchmod(fd, 0600), 0);
    (void)snprintf(second, sizeof(second), "%s-second", path);
    assert_int_equal(link(path, second), 0);
    assert_int_equal(child_opens(64, NULL), MTLS_ERR_SHARE);
    assert_int_equal(unlink(second), 0);
    assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk)); /* of another version */
    assert_int_equal(child_opens(64, NULL), MTLS_ERR_SHARE);
    assert_int_equal(ftruncate(fd, 0), 0);
    if (geteuid() == 0) { /* another user's */
        assert_int_equal(fchown(fd, 65534, 65534), 0);
        assert_int_equal(child_opens(64, NULL), MTLS_ERR_SHARE);
        assert_int_equal(fchown(fd, 0, 0), 0);
    }
    assert_int_equal(child_opens(64, NULL), 0);
    close(fd);
}

/* A small /dev/shm of this process's own. */
static int small_memory(void)
{
    if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0)
        return 1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return 1;
    return mount("shm", "/dev/shm", "tmpfs", 0, "size=1m") != 0;
}

/* /dev/shm is full: an error now, no SIGBUS at the first write; what fits is taken. */
static void no_room(void **state)
{
    pid_t pid = fork();
    struct stat st;

    if (pid == 0) {
        if (small_memory() != 0)
            _exit(1);
        if (child_opens(65536, NULL) != MTLS_ERR_SHARE_ROOM)
            _exit(2);
        if (stat(path, &st) != 0 || st.st_size != 0)
            _exit(3);
        _exit(child_opens(64, NULL) == 0 ? 0 : 4);
    }
    assert_int_equal(ended(pid), 0);
}

/* ---- Who is alive ---- */

static bool dead(const struct mtls_dir_proc *p)
{
    return false;
}

/* Enters, and says how many members there are then. */
static int child_enters(mtls_share_alive_fn *fn, int unshared)
{
    const uint8_t socket_name[MTLS_DIR_NAME_LEN] = {8};
    pid_t pid = fork();
    int status, n = 0;
    pid_t inner;

    if (pid > 0) {
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    mtls_share_fork_child();
    if (unshared != 0 && unshare(unshared | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0)
        _exit(100);
    inner = unshared == 0 ? 0 : fork(); /* a new pid namespace is its children's */
    if (inner > 0)
        _exit(waitpid(inner, &status, 0) == inner && WIFEXITED(status) ? WEXITSTATUS(status) : 101);
    mtls_engine_lock();
    if (mtls_share_enter(socket_name, fn, 0, TTL) == 0) {
        struct mtls_dir_proc p;
        unsigned i;

        for (i = 0; i < MTLS_DIR_PROCS_MAX; i++)
            n += mtls_dir_proc_at(mtls_share_peek(), i, &p);
    }
    mtls_engine_unlock();
    _exit(n);
}

/* The dead are those whose sockets are silent, whatever number they have in whichever namespace. */
static void dead_and_alive(void **state)
{
    assert_int_equal(shared_open(64), 0);
    assert_int_equal(child_enters(alive, 0), 1); /* it ends, and nobody has said so */
    assert_int_equal(child_enters(alive, 0), 2);
    assert_int_equal(child_enters(alive, CLONE_NEWPID), 3);
    assert_int_equal(child_enters(dead, CLONE_NEWPID), 1);
    assert_int_equal(child_enters(dead, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_at_a_time, start, take_down),
        cmocka_unit_test_setup_teardown(holder_dies, start, take_down),
        cmocka_unit_test_setup_teardown(holder_is_stopped, start, take_down),
        cmocka_unit_test_setup_teardown(holder_is_busy, start, take_down),
        cmocka_unit_test_setup_teardown(found_by_name, name_new, name_gone),
        cmocka_unit_test_setup_teardown(begun_only, name_new, name_gone),
        cmocka_unit_test_setup_teardown(others_were_first, name_new, name_gone),
        cmocka_unit_test_setup_teardown(no_room, name_new, name_gone),
        cmocka_unit_test_setup_teardown(dead_and_alive, name_new, name_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
