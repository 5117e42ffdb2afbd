/* The record of a run: lines, the counts of its first page, and who has it open. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "apps/mtlsize_record.h"

/* As the preloaded library opens it: another file description than ours. */
static int writer(const struct record *r)
{
    char path[sizeof r->name];
    int fd;

    snprintf(path, sizeof path, "%.*s", (int)strcspn(r->name, "#"), r->name);
    fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void test_record(void **state)
{
    static const char line[] = "{\"event\": \"refused\", \"why\": \"x\"}\n";
    struct log_summary s = {.pid = 0};
    struct record r;
    struct stat st;
    char *big = malloc(LOG_LINE_MAX + 2);
    int fd;

    assert_int_equal(record_make(&r), 0);
    fd = writer(&r);
    assert_int_equal(record_read(&r, &s, false), 0);
    put(fd, line);
    put(fd, "{\"event\": ");
    assert_int_equal(record_read(&r, &s, false), 0);
    assert_true(s.refused == 1 && s.damaged == 0);
    put(fd, "\"later\"}\n");
    assert_int_equal(record_read(&r, &s, false), 0);
    assert_true(s.refused == 1 && s.damaged == 0);
    for (int i = 0; i < 1000; i++) /* what is read takes no memory */
        put(fd, line);
    assert_int_equal(record_read(&r, &s, false), 0);
    assert_int_equal(s.refused, 1001);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size > 30000 && st.st_blocks * 512 <= 3 * RECORD_HEAD);
    memset(big, ' ', LOG_LINE_MAX + 1);
    big[LOG_LINE_MAX + 1] = '\0';
    put(fd, big);
    assert_int_equal(record_read(&r, &s, false), 0);
    assert_true(s.damaged > 0);
    free(big);
    record_close(&r);
    close(fd);
}

/* A server's sessions: plain ones have lines, too, as long as there are few. */
static void test_record_counted(void **state)
{
    static const char plain[] = "{\"event\": \"session\", \"outcome\": \"plain\", \"role\": "
                                "\"server\", \"peer\": \"192.0.2.1:1\"}\n";
    struct preload_record head = {.counted = {3, 2, PRELOAD_PLAIN_LINES, 1}};
    struct log_summary s = {.pid = 0};
    struct record r;
    int fd;

    assert_int_equal(record_make(&r), 0);
    fd = writer(&r);
    for (int i = 0; i < PRELOAD_PLAIN_LINES; i++)
        put(fd, plain);
    assert_int_equal(pwrite(r.fd, &head, sizeof head, 0), sizeof head);
    for (int i = 0; i < 2; i++) { /* what has not changed is not counted again */
        assert_int_equal(record_read(&r, &s, false), 0);
        assert_true(s.verified == 3 && s.resumed == 2 && s.failed == 1 && s.refused_peers == 1);
        assert_true(s.plain == PRELOAD_PLAIN_LINES && s.plain_count == 1 && s.plain_more == 0);
    }
    head.counted[PRELOAD_COUNTED_PLAIN] += 5;
    head.counted[PRELOAD_COUNTED_VERIFIED]++;
    assert_int_equal(pwrite(r.fd, &head, sizeof head, 0), sizeof head);
    assert_int_equal(record_read(&r, &s, true), 0);
    assert_true(s.verified == 4 && s.plain == PRELOAD_PLAIN_LINES + 5 && s.plain_more == 5);
    assert_false(log_is_bad(&s, false));
    record_close(&r);
    close(fd);
}

static void test_record_damage(void **state)
{
    struct log_summary s = {.pid = 0};
    uint64_t lost = 2;
    struct record r;
    int fd;

    assert_int_equal(record_make(&r), 0);
    fd = writer(&r);
    put(fd, "{\"event\": \"later\"}");
    assert_int_equal(record_read(&r, &s, false), 0);
    assert_false(log_is_bad(&s, true));
    assert_int_equal(record_read(&r, &s, true), 0); /* cut off */
    assert_int_equal(s.damaged, 1);
    s.damaged = 0;
    assert_false(log_is_bad(&s, true));
    close(fd);
    assert_int_equal(pwrite(r.fd, &lost, sizeof lost, 0), sizeof lost);
    assert_int_equal(record_read(&r, &s, true), 0);
    assert_true(s.lost == 2 && log_is_bad(&s, true));
    close(r.fd);
    assert_int_equal(record_read(&r, &s, true), -1);
}

/* It is known by a lock that goes with its reader. */
static void test_record_lock(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct record r;
    int fd;

    assert_int_equal(record_make(&r), 0);
    fd = writer(&r);
    assert_int_equal(fcntl(fd, F_GETLK, &lock), 0);
    assert_int_not_equal(lock.l_type, F_UNLCK);
    record_close(&r);
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_GETLK, &lock), 0);
    assert_int_equal(lock.l_type, F_UNLCK);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_counted),
        cmocka_unit_test(test_record_damage),
        cmocka_unit_test(test_record_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
