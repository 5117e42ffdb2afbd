/* The words that mtlsize adds by itself, and what it says of those it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apps/mtlsize_machine.h"
#include "apps/mtlsize_settings.h"
#include "apps/mtlsize_unit.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

static void test_single_port(void **state)
{
    static struct mtls_config config;
    struct settings s;
    char msg[256] = "";

    s = (struct settings){.len = 0};
    assert_int_equal(settings_add(&s, NULL, "single-port=on tls-port=443"), 0);
    assert_int_equal(settings_check(&s, false, &config, msg, sizeof msg), 0);
    s = (struct settings){.len = 0};
    assert_int_equal(settings_check(&s, false, &config, msg, sizeof msg), -1);
    assert_non_null(strstr(msg, "MTLS_CONFIG"));
    assert_int_equal(settings_check(&s, true, &config, msg, sizeof msg), -1);
    assert_null(strstr(msg, "MTLS_CONFIG"));
}

static void test_settings_share(void **state)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    static const char *const units[] = {"nginx.service", "a.b.service", "a_b.service",
                                        "pool@.service", "pool@one.service"};
    char names[6][MTLS_CONFIG_TEXT_MAX + 1], lengthy[200];
    static struct mtls_config config;
    struct settings s;
    char msg[256];

    memset(lengthy, 'x', sizeof lengthy);
    strcpy(lengthy + 100, ".service");
    for (size_t i = 0; i < 6; i++) {
        s = (struct settings){.len = 0};
        assert_int_equal(settings_share(&s, i < 5 ? units[i] : lengthy), 0);
        assert_int_equal(settings_add(&s, "listen", "192.0.2.1:914"), 0);
        assert_int_equal(settings_check(&s, true, &config, msg, sizeof msg), 0);
        assert_true(config.share[0] != '\0' && strspn(config.share, legal) == strlen(config.share));
        strcpy(names[i], config.share);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(names[i], names[k]);
    }
    assert_string_equal(names[0], "nginx");
    assert_string_equal(names[2], "a_b");
    s = (struct settings){.len = 0};
    assert_int_equal(settings_add(&s, NULL, "share=none listen=192.0.2.1:914"), 0);
    assert_int_equal(settings_share(&s, "nginx.service"), 0);
    assert_string_equal(s.text, "share=none listen=192.0.2.1:914");
}

static void test_machine_lacks(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"path2=dev=lo,remote=192.0.2.1", NULL},
        {"path2=dev=no-such-dev0,remote=192.0.2.1", "no network device no-such-dev0"},
        {"path2=remote=192.0.2.1 path2=dev=no-such-dev1", "no network device no-such-dev1"},
        {"listen=127.0.0.1:914 listen=0.0.0.0:914 listen=[::]:914", NULL},
        {"listen=127.0.1.1:914", NULL},
        {"listen=127.0.0.1:914 listen=203.0.113.77:914", "no address 203.0.113.77 now"},
        {"listen=[2001:db8:77::1]:914", "no address 2001:db8:77::1 now"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct mtls_config config;
        char text[256], said[512] = "";
        unsigned n = 0;

        mtls_config_init(&config);
        assert_int_equal(mtls_config_apply(&config, cases[i].words, NULL, 0), 0);
        for (; machine_lacks(&config, n, text, sizeof text); n++)
            strcat(said, text);
        assert_int_equal(n, config.npath2 + config.nlisten);
        if (cases[i].says == NULL)
            assert_string_equal(said, "");
        else
            assert_non_null(strstr(said, cases[i].says));
    }
}

/* What starts a program elsewhere. */
static void test_leaves(void **state)
{
    static const struct {
        const char *argv[5];
        bool is_public, leaves;
    } rows[] = {
        {{"/usr/sbin/chroot", "/", "x"}, true, true},
        {{"chroot"}, true, true},
        {{"sudo", "x"}, true, true},
        {{"su", "-", "user"}, true, true},
        {{"su", "user", "-c", "a \"b\\"}, true, false},
        {{"su", "user", "-c", "-"}, true, true}, /* cautious */
        {{"su", "user", "-c", "a - b"}, true, false},
        {{"su", "user"}, false, true},
        {{"setpriv", "--reuid", "1", "x"}, true, false},
        {{"setpriv", "--reuid", "1", "x"}, false, true},
        {{"systemd-run", "x"}, true, true},
        {{"nsenter", "-t", "1", "-m", "x"}, true, true},
        {{"curl", "chroot"}, false, false},
        {{"sh", "-c", "LD_PRELOAD= x"}, true, false}, /* the library sees to that */
    };
    char why[512];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *argv[6] = {NULL};

        for (size_t k = 0; k < 5; k++)
            argv[k] = (char *)(uintptr_t)rows[i].argv[k];
        if (command_leaves(argv, rows[i].is_public, why, sizeof why) != rows[i].leaves ||
            (why[0] != '\0') != rows[i].leaves)
            fail_msg("%s %zu: %s", argv[0], i, why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_port),
        cmocka_unit_test(test_settings_share),
        cmocka_unit_test(test_machine_lacks),
        cmocka_unit_test(test_leaves),
    };

    unsetenv("MTLS_CONFIG");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
