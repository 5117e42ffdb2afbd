/* The resolver that belongs to path 2's own link, read from systemd-networkd's state of the link.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mtls/net/resolve.h"

static int link_resolver(const char *text, size_t len, struct mtls_addr *out)
{
    char dir[] = "/tmp/mtls-links-XXXXXX", path[64];
    int fd, err;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/7", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
    memset(out, 0, sizeof(*out));
    err = mtls_link_resolver(dir, 7, out);
    assert_int_equal(mtls_link_resolver(dir, 8, out), MTLS_ERR_PATH_RESOLVE);
    unlink(path);
    rmdir(dir);
    return err;
}

static void test_link_file(void **state)
{
    static const struct {
        const char *text, *addr; /* NULL: none */
    } cases[] = {
        {"# This is private data.\nADMIN_STATE=configured\nDNS=192.0.2.53 192.0.2.54\nNTP=\n",
         "192.0.2.53:53"},
        {"DNS=2001:db8::53", "[2001:db8::53]:53"},
        {"DNS=127.0.0.53 ::1 192.0.2.53\n", "192.0.2.53:53"},
        {"DNS=192.0.2.53:5353#dns.example\n", "192.0.2.53:5353"},
        {"DNS=[2001:db8::53]:853#dns.example\n", "[2001:db8::53]:853"},
        {"DNS=fe80::1%eth0 192.0.2.53\n", "[fe80::1]:53"},
        {"DNS=[fe80::1%2]:99\n", "[fe80::1]:99"},
        {"DNS=\nDNS=192.0.2.53\n", "192.0.2.53:53"},
        {"DNS=name.example 0.0.0.0 192.0.2.53\n", "192.0.2.53:53"},
        {"DNS=\n", NULL},
        {"DNS=127.0.0.53\n", NULL},
        {"XDNS=192.0.2.53\nFALLBACK_DNS=192.0.2.53\n", NULL},
        {" DNS=192.0.2.53\n", NULL},
        {"", NULL},
    };
    struct mtls_addr a;
    char text[64];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int err = link_resolver(cases[i].text, strlen(cases[i].text), &a);

        assert_int_equal(err, cases[i].addr != NULL ? 0 : MTLS_ERR_PATH_RESOLVE);
        if (err == 0) {
            mtls_addr_format(&a, text, sizeof(text));
            assert_string_equal(text, cases[i].addr);
        }
    }
    assert_int_equal(link_resolver("X\0DNS=192.0.2.53\n", 17, &a), MTLS_ERR_PATH_RESOLVE);
}

static void test_link_file_bounds(void **state)
{
    static char big[9000];
    static const char line[] = "DNS=192.0.2.53\n";
    const size_t n = sizeof(line) - 1;
    struct mtls_addr a;

    memset(big, '\n', sizeof(big));
    memcpy(big + 8191 - n, line, n);
    assert_int_equal(link_resolver(big, 8191, &a), 0);
    assert_int_equal(link_resolver(big, 8192, &a), MTLS_ERR_PATH_RESOLVE);
    for (size_t cut = 0; cut < n;
         cut++) { /* at every byte: an address or none, never another file's */
        int err = link_resolver(line, cut, &a);

        assert_true(err == 0 || err == MTLS_ERR_PATH_RESOLVE);
        assert_true(err != 0 || cut >= strlen("DNS=192.0.2.5"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_file),
        cmocka_unit_test(test_link_file_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
