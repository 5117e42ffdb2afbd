/* Downgrade: path 1 hides the extension, path 2 shows READY: at once, within the grace, or after
 * it. */
#include "gate_lab.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_more = PTHREAD_COND_INITIALIZER;
static struct {
    unsigned n, late;
    bool late_ssl;
    char json[256];
} told;

static void tell(SSL *ssl, enum mtls_outcome outcome, int reason, const char *json, void *arg)
{
    pthread_mutex_lock(&told_lock);
    told.n++;
    if (reason == MTLS_ERR_DOWNGRADE_LATE) {
        told.late++;
        told.late_ssl = ssl != NULL;
        snprintf(told.json, sizeof(told.json), "%s", json);
    }
    pthread_cond_broadcast(&told_more);
    pthread_mutex_unlock(&told_lock);
}

static void wait_late(void)
{
    struct timespec ts;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += LAB_LIMIT_MS / 1000;
    pthread_mutex_lock(&told_lock);
    while (told.late == 0 && rc == 0)
        rc = pthread_cond_timedwait(&told_more, &told_lock, &ts);
    pthread_mutex_unlock(&told_lock);
    assert_int_equal(rc, 0);
}

static void lab_prefer(struct lab *l)
{
    memset(&told, 0, sizeof(told));
    lab_make(l, NULL, "prefer", "grace=1000");
    mtls_ssl_ctx_set_outcome_callback(l->client, tell, NULL);
}

/* Whatever the policy: READY is here before the extension is missed. */
static void at_once(void **state)
{
    static const char *const policies[] = {"prefer", "require"};
    int i;

    for (i = 0; i < 2; i++) {
        struct lab l;

        lab_make(&l, NULL, policies[i], "");
        relay_hold(&l.p1, false, true);
        lab_start(&l);
        relay_wait(&l.p2, S2C, 2, 1);
        relay_release_after(&l.p1, 20);
        lab_join(&l);
        assert_failed(&l.c, MTLS_ERR_DOWNGRADE);
        assert_int_equal(l.s.got, 0);
        lab_ends(&l);
        lab_run(&l); /* the host is remembered now */
        assert_int_equal(l.c.outcome, MTLS_OUTCOME_FAILED);
        assert_int_equal(l.c.got, 0);
        lab_free(&l);
    }
}

static void within_grace(void **state)
{
    int style;

    for (style = BLOCKING; style <= ASYNC; style++) {
        struct lab l;

        if (!tells_fd((enum style)style))
            continue;
        lab_prefer(&l);
        l.c.style = (enum style)style;
        relay_hold(&l.p2, true, true);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_release_after(&l.p2, 200);
        lab_join(&l);
        assert_failed(&l.c, MTLS_ERR_DOWNGRADE);
        assert_int_equal(l.s.got, 0);
        assert_true(l.c.ms < 5000);
        assert_true(l.c.cpu_us < CPU_MAX_US);
        lab_free(&l);
    }
}

/* The twin: nothing comes, and after the grace it is plain, and stays plain. */
static void silence(void **state)
{
    int style;

    for (style = BLOCKING; style <= ASYNC; style++) {
        struct lab l;

        if (!tells_fd((enum style)style))
            continue;
        lab_prefer(&l);
        l.c.style = (enum style)style;
        relay_hold(&l.p2, true, true);
        lab_run(&l);
        assert_plain(&l.c, MTLS_ERR_NOT_OFFERED);
        assert_int_equal(l.c.got, 5);
        assert_true(l.c.ms >= 950 && l.c.ms < 5000);
        assert_true(l.c.calls <= 30);
        assert_true(l.c.cpu_us < CPU_MAX_US);
        assert_int_equal(told.n, 1);
        lab_free(&l);
    }
}

static void after_grace(void **state)
{
    struct lab l;
    char buf[16];

    lab_prefer(&l);
    l.c.keep = l.c.no_data = l.s.keep = l.s.no_data = true;
    relay_hold(&l.p2, true, true);
    lab_run(&l);
    assert_plain(&l.c, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(SSL_write(l.c.ssl, "hello", 5), 5);
    assert_int_equal(SSL_read(l.s.ssl, buf, sizeof(buf)), 5);
    relay_hold(&l.p2, false, false);
    wait_late();
    assert_int_equal(mtls_get_outcome(l.c.ssl), MTLS_OUTCOME_FAILED);
    assert_int_equal(mtls_get_reason(l.c.ssl), MTLS_ERR_DOWNGRADE_LATE);
    assert_true(SSL_read(l.c.ssl, buf, sizeof(buf)) <= 0); /* torn down */
    assert_true(SSL_read(l.s.ssl, buf, sizeof(buf)) <= 0);
    assert_int_equal(told.late, 1);
    assert_int_equal(told.n, 2);
    assert_false(told.late_ssl);
    assert_non_null(strstr(told.json, "exposed"));
    ERR_clear_error();
    end_close(&l.c);
    end_close(&l.s);
    lab_ends(&l);
    lab_run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_FAILED);
    assert_true(l.c.reason == MTLS_ERR_REMEMBERED || l.c.reason == MTLS_ERR_DOWNGRADE);
    assert_int_equal(l.c.got, 0);
    relay_hold(&l.p2, true, true); /* without READY it is the memory alone */
    lab_ends(&l);
    lab_run(&l);
    assert_failed(&l.c, MTLS_ERR_REMEMBERED);
    lab_free(&l);
}

/* The application has freed the SSL long since: it is told all the same, the host is remembered. */
static void after_free(void **state)
{
    struct lab l;

    lab_prefer(&l);
    relay_hold(&l.p2, true, true);
    lab_run(&l);
    assert_plain(&l.c, MTLS_ERR_NOT_OFFERED);
    relay_hold(&l.p2, false, false);
    wait_late();
    relay_hold(&l.p2, true, true);
    lab_ends(&l);
    lab_run(&l);
    assert_failed(&l.c, MTLS_ERR_REMEMBERED);
    lab_free(&l);
}

/* By its number alone, which may be another thread's: not seen by checkers of data races. */
static int stat_of(int fd, struct stat *st)
{
    return (int)syscall(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
}

/* Descriptors of this process that are the same socket. */
static unsigned copies_of(int fd)
{
    struct stat socket_stat, st;
    unsigned n = 0;
    int i;

    assert_int_equal(stat_of(fd, &socket_stat), 0);
    for (i = 0; i < 4096; i++)
        n += stat_of(i, &st) == 0 && st.st_ino == socket_stat.st_ino &&
             st.st_dev == socket_stat.st_dev;
    return n;
}

/* The watch's copy of path 1 is not a fork child's to keep open. */
static void not_in_a_fork_child(void **state)
{
    struct lab l;
    int status = -1;
    pid_t pid;

    lab_prefer(&l);
    l.c.keep = l.c.no_data = l.s.keep = l.s.no_data = true;
    relay_hold(&l.p2, true, true);
    lab_run(&l);
    assert_plain(&l.c, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(copies_of(l.c.fd), 2);
    pid = fork();
    if (pid == 0)
        _exit(copies_of(l.c.fd) == 1 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(copies_of(l.c.fd), 2); /* the parent watches on */
    end_close(&l.c);
    end_close(&l.s);
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_once),    cmocka_unit_test(within_grace),
        cmocka_unit_test(silence),    cmocka_unit_test(after_grace),
        cmocka_unit_test(after_free), cmocka_unit_test(not_in_a_fork_child),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
