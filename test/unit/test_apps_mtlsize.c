/* mtlsize's texts: what the record of a run says, configuration words in layers, systemd units,
 * scripts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "apps/mtlsize_file.h"
#include "apps/mtlsize_log.h"
#include "apps/mtlsize_settings.h"
#include "apps/mtlsize_unit.h"
#include "apps/options.h"

/* ---- The lines of a record */

static void test_member(void **state)
{
    static const char object[] = "{\"a\": {\"event\": \"no\", \"x\": [\"}\", 1]}, \"n\": 12, "
                                 "\"t\":true, \"q\": \"a\\\"\\u00e9b\\\\\", \"event\": \"yes\"}";
    static const char *const broken[] = {
        "",
        "x",
        "{",
        "[]",
        "{\"event\"}",
        "{\"event\"",
        "{\"event\": \"x",
        "{\"a\": {\"event\": \"x\"}",
        "{\"a\" 1, \"event\": \"x\"}",
        "{\"a\": \"\\",
        "{\"a\": \"\\u00",
        "{\"a\": , \"event\": \"x\"}",
        "{a: 1, \"event\": \"x\"}",
    };
    char out[16];

    assert_true(log_member(object, "event", out, sizeof out));
    assert_string_equal(out, "yes");
    assert_true(log_member(object, "n", out, sizeof out));
    assert_string_equal(out, "12");
    assert_true(log_member(object, "t", out, sizeof out));
    assert_string_equal(out, "true");
    assert_true(log_member(object, "q", out, sizeof out));
    assert_string_equal(out, "a\"?b\\");
    assert_true(log_member(object, "event", out, 3));
    assert_string_equal(out, "ye");
    assert_true(log_member(object, "a", out, sizeof out));
    assert_string_equal(out, "{\"event\": \"no\",");
    assert_false(log_member(object, "x", out, sizeof out));
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_false(log_member(broken[i], "event", out, sizeof out));
}

static struct log_summary sum(const char *text)
{
    struct log_summary s = {.pid = 0};
    char *copy = strdup(text);
    size_t len = strlen(text);

    s.damaged += log_text(&s, copy, len) != len ? 1 : 0;
    free(copy);
    return s;
}

#define SESSION(outcome, peer, more)                                                               \
    "{\"event\": \"session\", \"program\": \"curl\", \"outcome\": \"" outcome                      \
    "\", \"peer\": \"" peer "\"" more "}\n"

static void test_good_runs(void **state)
{
    static const char *const texts[] = {
        "",
        SESSION("verified", "a:1", ""),
        SESSION("resumed-verified", "a:1", "") SESSION("plain", "b:1", ""),
        "{\"event\": \"later\"}\n", /* events that say nothing of protection */
        "{\"event\": \"notice\", \"why\": \"x is linked statically\"}\n",
        SESSION("failed", "a:1", ", \"reason\": \"path2-timeout\"") SESSION("verified", "a:1", ""),
        SESSION("failed", "a:1", ", \"role\": \"server\""),
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct log_summary s = sum(texts[i]);

        assert_false(log_is_bad(&s, false));
    }
}

static void test_bad_runs(void **state)
{
    static const char *const texts[] = {
        SESSION("failed", "a:1", ", \"reason\": \"downgrade\""),
        SESSION("failed", "a:1", ", \"role\": \"client\""),
        SESSION("failed", "a:1", "") SESSION("verified", "b:1", ""), /* another peer */
        SESSION("verified", "a:1", "") SESSION("failed", "a:1", ""),
        SESSION("failed", "a:1", "") SESSION("plain", "a:1", ""),
        SESSION("failed", "", "") SESSION("verified", "", ""), /* peers unknown */
        SESSION("failed", "a:1", ", \"reason\": \"downgrade-late\"") SESSION("verified", "a:1", ""),
        SESSION("odd", "a:1", ""),
        "{\"event\": \"refused\", \"why\": \"gnutls\"}\n",
        "{\"event\": \"session\", \"outcome\": \"verified\"}", /* cut off */
        "nonsense\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct log_summary s = sum(texts[i]);

        if (!log_is_bad(&s, true))
            fail_msg("%s", texts[i]);
    }
}

/* As libmtls reports it: the peer is the name with the port of path 1, or path 1's other end. */
static void test_peers(void **state)
{
#define REPORT(outcome, name, remote)                                                              \
    "{\"event\": \"session\", \"program\": \"p\", \"outcome\": \"" outcome "\", \"name\": \"" name \
    "\", \"paths\": [{\"local\": \"c:9\", \"remote\": \"" remote "\"}, {\"remote\": \"x:1\"}]}\n"
    struct log_summary s = sum(REPORT("failed", "h.example", "192.0.2.1:443")
                                   REPORT("verified", "h.example", "192.0.2.2:443"));

    assert_string_equal(s.problems[0].peer, "h.example:443");
    assert_false(log_is_bad(&s, false));
    s = sum(REPORT("failed", "h.example", "192.0.2.1:443")
                REPORT("verified", "h.example", "192.0.2.1:444"));
    assert_true(log_is_bad(&s, false));
    s = sum(REPORT("failed", "", "[2001:db8::1]:443") REPORT("verified", "", "[2001:db8::1]:443"));
    assert_string_equal(s.problems[0].peer, "[2001:db8::1]:443");
    assert_false(log_is_bad(&s, false));
}

/* The process that was started must have said that it loaded the library. */
static void test_loaded(void **state)
{
    static const char right[] = "{\"event\": \"loaded\", \"program\": \"p\", \"pid\": 77}";
    static const char wrong[] = "{\"event\": \"loaded\", \"program\": \"p\", \"pid\": 7}";
    struct log_summary s = {.pid = 77};

    log_line(&s, wrong);
    assert_true(log_is_bad(&s, true));
    log_line(&s, right);
    assert_false(log_is_bad(&s, true));
    log_line(&s, wrong);
    assert_false(log_is_bad(&s, true));
}

/* The same notice a thousand times takes one place. */
static void test_notices(void **state)
{
    struct log_summary s = {.pid = 0};

    for (int i = 0; i < 1000; i++)
        log_line(&s, "{\"event\": \"notice\", \"program\": \"p\", \"why\": \"x\"}");
    log_line(&s, "{\"event\": \"notice\", \"program\": \"q\", \"why\": \"x\"}");
    assert_int_equal(s.problem_count, 2);
    assert_false(log_is_bad(&s, false));
}

static void test_unhooked(void **state)
{
    struct log_summary s = sum(
        "{\"event\": \"unhooked\", \"program\": \"p\", \"why\": \"gnutls\", \"peer\": \"h:1\"}\n");

    assert_true(log_is_bad(&s, false));
    assert_false(log_is_bad(&s, true));
    assert_int_equal(s.unhooked, 1);
    assert_string_equal(s.problems[0].why, "gnutls");
    assert_string_equal(s.problems[0].peer, "h:1");
    assert_string_equal(s.problems[0].program, "p");
}

static void test_log_bounds(void **state)
{
    struct log_summary s = {0};

    for (int i = 0; i < LOG_PROBLEMS_MAX; i++)
        log_line(&s, SESSION("failed", "a:1", ""));
    assert_int_equal(s.more, 0);
    log_line(&s, SESSION("verified", "a:1", ""));
    assert_false(log_is_bad(&s, false));
    log_line(&s, SESSION("failed", "a:1", "")); /* no room: never healed */
    log_line(&s, SESSION("verified", "a:1", ""));
    assert_int_equal(s.more, 1);
    assert_true(log_is_bad(&s, false));
}

static void test_plain_peers(void **state)
{
    struct log_summary s = sum(SESSION("plain", "a:1", "") SESSION("plain", "b:1", "")
                                   SESSION("plain", "a:1", "") SESSION("verified", "c:1", ""));
    char line[200];

    assert_int_equal(s.plain_count, 2);
    assert_string_equal(s.plain_peers[0].peer, "a:1");
    assert_string_equal(s.plain_peers[0].program, "curl");
    assert_int_equal(s.plain_peers[0].count, 2);
    assert_int_equal(s.plain_peers[1].count, 1);
    for (int i = 2; i < LOG_PLAIN_MAX + 3; i++) {
        snprintf(line, sizeof line,
                 "{\"event\": \"session\", \"outcome\": \"plain\", \"peer\": \"x:%d\"}", i);
        log_line(&s, line);
    }
    assert_int_equal(s.plain_count, LOG_PLAIN_MAX);
    assert_int_equal(s.plain_more, 3);
    assert_int_equal(s.plain, LOG_PLAIN_MAX + 4);
}

/* What confirm=resume came to; an alarm is never healed. */
static void test_verdicts(void **state)
{
    struct log_summary s =
        sum(SESSION("verified", "a:1", ", \"verdict\": \"verified\", \"reason\": \"resumed\"")
                SESSION("plain", "b:1", ", \"verdict\": \"unproven\", \"reason\": \"no-ticket\"")
                    SESSION("verified", "c:1", ""));

    assert_false(log_is_bad(&s, false));
    assert_true(s.verdicts[LOG_VERIFIED] == 1 && s.verdicts[LOG_UNPROVEN] == 1);
    assert_true(s.verdicts[LOG_CONSISTENT] == 0 && s.verdicts[LOG_ALARM] == 0);
    assert_string_equal(s.plain_peers[0].why, "unproven: no-ticket");
    s = sum(SESSION("failed", "a:1", ", \"verdict\": \"unproven\", \"reason\": \"no-ticket\"")
                SESSION("verified", "a:1", ""));
    assert_false(log_is_bad(&s, false));
    s = sum(SESSION("failed", "a:1", ", \"verdict\": \"alarm\", \"meaning\": \"other key\"")
                SESSION("verified", "a:1", ""));
    assert_true(log_is_bad(&s, false) && s.problems[0].alarm && s.verdicts[LOG_ALARM] == 1);
    assert_string_equal(s.problems[0].text, "other key");
}

/* ---- Configuration words */

static void test_merge(void **state)
{
    static const struct {
        const char *under, *over, *merged;
    } rows[] = {
        {NULL, "policy=prefer", "policy=prefer"},
        {"policy=require path2=dev=a", "policy=prefer", "path2=dev=a policy=prefer"},
        {" path2=dev=a\tpath2=dev=b  need=2 ", "path2=dev=c", "need=2 path2=dev=c"},
        {"path2=dev=a", "", "path2=dev=a"},
        {"pathological=1", "path=2", "pathological=1 path=2"},
        {"name=x", "names=y", "name=x names=y"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct settings s = {.len = 0};

        if (rows[i].over[0] != '\0')
            assert_int_equal(settings_add(&s, NULL, rows[i].over), 0);
        assert_int_equal(settings_merge(&s, rows[i].under), 0);
        assert_string_equal(s.text, rows[i].merged);
    }
}

static void test_settings_bounds(void **state)
{
    struct settings s = {.len = 0};
    char long_word[MTLS_CONFIG_TEXT_MAX + 2];

    assert_int_equal(settings_add(&s, "path2", "dev=a b"), -1);
    assert_int_equal(settings_add(&s, "path2", "dev=a"), 0);
    memset(long_word, 'x', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    assert_int_equal(settings_add(&s, NULL, long_word), -1);
    assert_string_equal(s.text, "path2=dev=a");
    assert_int_equal(settings_merge(&s, long_word), -1);
    long_word[MTLS_CONFIG_TEXT_MAX] = '\0';
    assert_int_equal(settings_merge(&s, long_word), -1);
    s = (struct settings){.len = 0};
    assert_int_equal(settings_merge(&s, long_word), 0);
}

static void test_settings_check(void **state)
{
    static const char *const bad[] = {"",
                                      "policy=require",
                                      "policy=off path2=dev=lo",
                                      "path2=",
                                      "nonsense",
                                      "policy=perhaps",
                                      "path2=dev=lo path2=x=y",
                                      "path2=dev=lo need=2",
                                      "single-port=on",
                                      "single-port=on listen=192.0.2.1:914",
                                      "tls-port=443 policy=require"};
    static struct mtls_config config;
    struct settings s = {.len = 0};
    char msg[256] = "";

    unsetenv("MTLS_CONFIG");
    assert_int_equal(settings_add(&s, NULL, "path2=dev=lo,remote=192.0.2.1"), 0);
    assert_int_equal(settings_check(&s, false, &config, msg, sizeof msg), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        s = (struct settings){.len = 0};
        msg[0] = '\0';
        assert_int_equal(settings_add(&s, NULL, bad[i]), 0);
        assert_int_equal(settings_check(&s, false, &config, msg, sizeof msg), -1);
        assert_true(msg[0] != '\0');
    }
    s = (struct settings){.len = 0};
    assert_int_equal(settings_add(&s, "listen", "192.0.2.1:914"), 0);
    assert_int_equal(settings_check(&s, false, &config, msg, sizeof msg), 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_config_file(void **state)
{
    char path[] = "/tmp/mtlsize-unit-XXXXXX", msg[256];
    struct settings s = {.len = 0};
    int fd = mkstemp(path);

    close(fd);
    write_text(path, "# a path\npath2=dev=a # the mobile one\n\n  need=1\tpolicy=prefer");
    assert_int_equal(settings_add_config(&s, path, msg, sizeof msg), 0);
    assert_string_equal(s.text, "path2=dev=a need=1 policy=prefer");
    assert_int_equal(settings_add_config(&s, "tfo=off", msg, sizeof msg), 0);
    assert_string_equal(s.text, "path2=dev=a need=1 policy=prefer tfo=off");
    unlink(path);
    assert_int_equal(settings_add_config(&s, path, msg, sizeof msg), -1);
    assert_non_null(strstr(msg, path));
}

/* ---- systemd units */

static void test_unit_names(void **state)
{
    static const char *const bad[] = {"",    ".",        "..",      "a/b", "../a",
                                      "a b", "x.socket", "x.timer", "a\n", "a;b"};
    struct unit *u = malloc(sizeof *u);
    char why[256];

    assert_int_equal(unit_name(u, "/r", "nginx", why, sizeof why), 0);
    assert_string_equal(u->name, "nginx.service");
    assert_string_equal(u->drop_in, "/r/etc/systemd/system/nginx.service.d/zz-mtls.conf");
    assert_int_equal(unit_name(u, "", "pg@15-main.service", why, sizeof why), 0);
    assert_string_equal(u->name, "pg@15-main.service");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why[0] = '\0';
        assert_int_equal(unit_name(u, "", bad[i], why, sizeof why), -1);
        assert_true(why[0] != '\0');
    }
    free(u);
}

static struct unit *new_unit(const char *name)
{
    struct unit *u = malloc(sizeof *u);
    char why[256];

    assert_non_null(u);
    assert_int_equal(unit_name(u, "", name, why, sizeof why), 0);
    for (int i = 0; i < UNIT_VARIABLES; i++)
        u->variables[i] = (struct unit_assigned){.from = -1, .unset = -1};
    u->source_count = 1;
    return u;
}

static void test_unit_keys(void **state)
{
    struct unit *u = new_unit("x");

    unit_apply(u, "ExecStart", "-@/usr/sbin/x x -f");
    unit_apply(u, "ExecStart", "\"/opt/a b/y\" z");
    assert_int_equal(u->command_count, 2);
    assert_string_equal(u->commands[1], "\"/opt/a b/y\" z");
    unit_apply(u, "ExecStart", "");
    assert_int_equal(u->command_count, 0);
    for (int i = 0; i < UNIT_PROGRAMS_MAX; i++)
        unit_apply(u, "ExecStart", "/x");
    assert_false(u->too_much);
    unit_apply(u, "ExecStart", "/x");
    assert_true(u->too_much);
    unit_apply(u, "EnvironmentFile", "-/etc/default/x");
    assert_string_equal(u->environment_files[0], "/etc/default/x");
    unit_apply(u, "EnvironmentFile", "");
    assert_int_equal(u->environment_file_count, 0);
    unit_apply(u, "User", "www");
    assert_string_equal(u->user, "www");
    unit_apply(u, "User", "root");
    assert_string_equal(u->user, "");
    unit_apply(u, "RootDirectory", "/srv");
    assert_string_equal(u->root_directory, "/srv");
    unit_apply(u, "RootDirectory", "/");
    assert_string_equal(u->root_directory, "");
    free(u);
}

/* What our drop-in (the second source) sets holds as long as no other source touches it. */
static void test_unit_environment(void **state)
{
    struct unit *u = new_unit("x");
    const struct unit_assigned *v = &u->variables[UNIT_PRELOAD];

    unit_apply(u, "Environment", "A=1 \"LD_PRELOAD=/a.so /b.so\" B=2 LD_PRELOADS=x");
    assert_string_equal(u->preload, "/a.so /b.so");
    assert_true(v->set && v->from == 0);
    u->source_count = 2;
    u->ours = 1;
    unit_apply(u, "Environment", "\"LD_PRELOAD=/a.so /b.so:/c.so\"");
    unit_apply(u, "Environment", "\"MTLSIZE_UNHOOKED=allow\"");
    assert_string_equal(u->preload, "/a.so /b.so");
    assert_string_equal(u->our_preload, "/a.so /b.so:/c.so");
    assert_true(u->our_allow && v->set && v->from == 1);
    u->source_count = 3;
    unit_apply(u, "Environment", "C=3 MTLS_CONFIGURATION=1");
    assert_int_equal(v->from, 1);
    assert_int_equal(u->variables[UNIT_CONFIG].from, -1);
    unit_apply(u, "Environment", "LD_PRELOAD=");
    assert_true(v->set && v->from == 2);
    assert_string_equal(u->preload, "");
    unit_apply(u, "Environment", "");
    assert_true(!v->set && v->from == 2 && u->variables[UNIT_UNHOOKED].from == 2);
    unit_apply(u, "UnsetEnvironment", "A LD_PRELOADS");
    assert_int_equal(v->unset, -1);
    unit_apply(u, "UnsetEnvironment", "A LD_PRELOAD");
    assert_int_equal(v->unset, 2);
    unit_apply(u, "UnsetEnvironment", "");
    assert_int_equal(v->unset, -1);
    unit_apply(u, "PassEnvironment", "HOME LD_PRELOAD");
    assert_true(u->passes_preload);
    unit_apply(u, "PassEnvironment", "");
    assert_false(u->passes_preload);
    free(u);
}

/* The first word decides whether the list allows or forbids; later ones add and remove. */
static void test_unit_families(void **state)
{
    static const struct {
        const char *values[3];
        bool lacks_netlink;
    } rows[] = {
        {{"AF_INET AF_UNIX"}, true},
        {{"AF_INET AF_NETLINK"}, false},
        {{"AF_INET", "AF_NETLINK"}, false},
        {{"AF_NETLINK", "AF_INET"}, false},
        {{"AF_INET AF_NETLINK", "~AF_NETLINK"}, true},
        {{"~AF_PACKET"}, false},
        {{"~AF_NETLINK"}, true},
        {{"~AF_NETLINK", "AF_NETLINK"}, false},
        {{"none"}, true},
        {{"none", ""}, false},
        {{"AF_INET", ""}, false},
        {{""}, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct unit *u = new_unit("x");

        for (size_t k = 0; k < 3 && rows[i].values[k] != NULL; k++)
            unit_apply(u, "RestrictAddressFamilies", rows[i].values[k]);
        if ((u->families_set && u->families_netlink != u->families_allow) != rows[i].lacks_netlink)
            fail_msg("row %zu", i);
        free(u);
    }
}

/* Lines as systemd reads them: a comment does not go on, and is no part of a line that does. */
static void test_unit_lines(void **state)
{
    static const struct {
        const char *text, *user;
    } rows[] = {
        {"[Service]\nUser=a", "a"},
        {"\xef\xbb\xbf[Service]\r\n  User = a  \r\n", "a"},
        {"[Service]\n# comment \\\nUser=a\n", "a"},
        {"[Service]\n;User=b\nUser=\\\n# comment\na\n", "a"},
        {"[Service]\nNice=1 \\\nUser=b\nUser=a\n", "a"},
        {"[Service]\nNice=1 \\\\\nUser=a\n", "a"},
        {"[Unit]\nUser=b\n[Service]\nUser=a\n[Install]\nUser=b\n", "a"},
        {"[Service]\nUser=b\nUser=\n", ""},
        {"[Service]\nUser=a\nNice=1 \\", "a"},
        {"", ""},
        {"\\\n\\\n", ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct unit *u = new_unit("x");
        char *text = strdup(rows[i].text);

        unit_apply_text(u, text);
        if (strcmp(u->user, rows[i].user) != 0)
            fail_msg("row %zu: \"%s\"", i, u->user);
        free(text);
        free(u);
    }
}

static void test_unit_specifiers(void **state)
{
    static const struct {
        const char *unit, *in, *out;
    } rows[] = {
        {"a-b@c-d", "/x/%p/%i/%j/%%", "/x/a-b/c-d/b/%"},
        {"a-b@c", "%n %N", "a-b@c.service a-b@c"},
        {"a-b", "%p%N%j %t %S %E", "a-ba-bb /run /var/lib /etc"},
        {"a", "%i", NULL},
        {"a@", "%i", NULL},
        {"a", "%h", NULL},
        {"a", "x%", NULL},
        {"a", "", ""},
    };
    char out[64];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct unit *u = new_unit(rows[i].unit);

        assert_int_equal(unit_expand(u, rows[i].in, out, sizeof out), rows[i].out != NULL);
        if (rows[i].out != NULL)
            assert_string_equal(out, rows[i].out);
        assert_false(unit_expand(u, "0123456789", out, 10));
        assert_true(unit_expand(u, "012345678", out, 10));
        free(u);
    }
}

static void test_commands(void **state)
{
    static const struct {
        const char *command, *program;
        int rv;
    } rows[] = {
        {"/usr/sbin/x -f", "/usr/sbin/x", 0},
        {"-@/usr/sbin/x y", "/usr/sbin/x", 0},
        {"\"/opt/a b/y\" z", "/opt/a b/y", 0},
        {"/usr/bin/env -0v FOO=1 x", "x", 0},
        {"/usr/bin/env FOO=1 x -u LD_PRELOAD", "x", 0},
        {"/usr/bin/env -C /tmp -u FOO env x", "x", 0},
        {"/usr/bin/env --chdir=/tmp -uFOO --unset=BAR x", "x", 0},
        {"/usr/bin/env -S \"A=1 x\" y", "x", 0},
        {"/usr/bin/env -Srun y", "run", 0},
        {"/usr/bin/env -i x", "x", 1},
        {"env - x", "x", 1},
        {"env -vi x", "x", 1},
        {"env --ignore-environment A=1 x", "x", 1},
        {"env -u LD_PRELOAD x", NULL, -1},
        {"env -uLD_PRELOAD x", NULL, -1},
        {"env -vu LD_PRELOAD x", NULL, -1},
        {"env --unset=MTLS_CONFIG x", "x", 1},
        {"env --unset MTLS_CONFIG x", "x", 1},
        {"env LD_PRELOAD=/x.so x", "x", 1},
        {"env LD_PRELOAD= x", NULL, -1},
        {"env MTLS_CONFIG=policy=off x", NULL, -1},
        {"env -i MTLS_CONFIG=x y", NULL, -1},
        {"env -i -u LD_PRELOAD x", "x", 1},
        {"env env MTLSIZE_UNHOOKED=allow x", NULL, -1},
        {"env -S \"-u LD_PRELOAD x\"", NULL, -1},
        {"env LD_PRELOADS=/x.so x", "x", 0},
        {"/usr/bin/sudo -u x y", NULL, -1},
        {"/bin/su - x -c y", NULL, -1},
        {"/bin/su x -c y", "/bin/su", 0},
        {"/usr/sbin/chroot /srv x", NULL, -1},
        {"/usr/bin/setpriv --reset-env x", NULL, -1},
        {"/usr/bin/systemd-run --pipe x", NULL, -1},
        {"/usr/bin/unshare -n --root=/srv x", NULL, -1},
        {"/usr/bin/unshare -R/srv x", NULL, -1},
        {"/usr/bin/unshare -n x -R", "/usr/bin/unshare", 0},
        {"/usr/bin/nsenter -t 1 -m x", NULL, -1},
        {"/usr/bin/nsenter -t 1 -n x -m 5", "/usr/bin/nsenter", 0},
        {"/usr/bin/setpriv --reuid 1 x", "/usr/bin/setpriv", 0},
        {"/bin/sh -c 'unset LD_PRELOAD; exec x'", NULL, -1},
        {"/bin/sh -c 'exec x'", "/bin/sh", 0},
        {"/usr/bin/printf LD_PRELOAD", "/usr/bin/printf", 0},
        {"env", "env", 0},
    };
    char program[PATH_MAX], why[512];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (unit_command(rows[i].command, program, why, sizeof why) != rows[i].rv)
            fail_msg("%s", rows[i].command);
        if (rows[i].program != NULL)
            assert_string_equal(program, rows[i].program);
    }
}

static void test_drop_in(void **state)
{
    char *text = unit_drop_in("/c%%d.so", "/a b.so:/c%%d.so",
                              "path2=via=socks5h://h:1 name=\"x%y\\z\"", false, NULL);

    assert_string_equal(
        text,
        UNIT_MARK "[Unit]\nAssertPathExists=/c%%d.so\n"
                  "[Service]\nEnvironment=\"LD_PRELOAD=/a b.so:/c%%d.so\"\n"
                  "Environment=\"MTLS_CONFIG=path2=via=socks5h://h:1 name=\\\"x%%y\\\\z\\\"\"\n"
                  "Environment=\"MTLSIZE_UNHOOKED=refuse\"\n");
    free(text);
    text = unit_drop_in("/c.so", "/c.so", "need=1", true, NULL);
    assert_string_equal(text, UNIT_MARK "[Unit]\nAssertPathExists=/c.so\n"
                                        "[Service]\nEnvironment=\"LD_PRELOAD=/c.so\"\n"
                                        "Environment=\"MTLS_CONFIG=need=1\"\n"
                                        "Environment=\"MTLSIZE_UNHOOKED=allow\"\n");
    free(text);
    assert_null(unit_drop_in("/c.so\nx", "/c.so", "", false, NULL));
    assert_null(unit_drop_in("/c.so", "/c.so\n[Install]", "", false, NULL));
    assert_null(unit_drop_in("/c.so", "/c.so", "a=b\nc=d", false, NULL));
}

/* ---- Programs and scripts */

static void test_interpreters(void **state)
{
    static const struct {
        const char *text, *name;
        int rv;
    } rows[] = {
        {"#!/bin/sh\nx", "/bin/sh", 1},
        {"#! /usr/bin/perl -w\n", "/usr/bin/perl", 1},
        {"#!/usr/bin/env python3\n", "python3", 1},
        {"#!/usr/bin/env -S A=b perl -w\n", "perl", 1},
        {"#!/bin/sh", "/bin/sh", 1},
        {"#!\n/bin/sh", NULL, -1},
        {"#!", NULL, -1},
        {"#!/usr/bin/env\n", NULL, -1},
        {"#!/usr/bin/env -i\n", NULL, -1},
        {"", NULL, 0},
        {"#", NULL, 0},
        {"x#!/bin/sh", NULL, 0},
    };
    char out[PATH_MAX];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(
            script_interpreter((const uint8_t *)rows[i].text, strlen(rows[i].text), out),
            rows[i].rv);
        if (rows[i].name != NULL)
            assert_string_equal(out, rows[i].name);
    }
}

static int no_flags(void *arg, int id, const char *value)
{
    return 0;
}

/* Flags end at the program's name: its own flags are not read. */
static void test_rest(void **state)
{
    static const struct option_def defs[] = {{1, 'v', "verbose", NULL, "", 0},
                                             {0, 0, NULL, NULL, NULL, 0}};
    char *argv[] = {"run", "-v", "curl", "--unknown", "-z", NULL};
    char *dashes[] = {"run", "--", "-odd", NULL};
    char *none[] = {"run", "-v", NULL};
    struct options o = {.prog = "t", .defs = defs, .stop_at_word = true};

    assert_int_equal(options_parse(&o, 5, argv, no_flags, NULL), 0);
    assert_int_equal(o.rest, 2);
    o = (struct options){.prog = "t", .defs = defs, .stop_at_word = true};
    assert_int_equal(options_parse(&o, 3, dashes, no_flags, NULL), 0);
    assert_int_equal(o.rest, 2);
    o = (struct options){.prog = "t", .defs = defs, .stop_at_word = true};
    assert_int_equal(options_parse(&o, 2, none, no_flags, NULL), 0);
    assert_int_equal(o.rest, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member),
        cmocka_unit_test(test_good_runs),
        cmocka_unit_test(test_bad_runs),
        cmocka_unit_test(test_unhooked),
        cmocka_unit_test(test_loaded),
        cmocka_unit_test(test_notices),
        cmocka_unit_test(test_plain_peers),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_log_bounds),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_settings_bounds),
        cmocka_unit_test(test_settings_check),
        cmocka_unit_test(test_config_file),
        cmocka_unit_test(test_unit_names),
        cmocka_unit_test(test_unit_keys),
        cmocka_unit_test(test_unit_environment),
        cmocka_unit_test(test_unit_families),
        cmocka_unit_test(test_unit_lines),
        cmocka_unit_test(test_unit_specifiers),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_drop_in),
        cmocka_unit_test(test_interpreters),
        cmocka_unit_test(test_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
