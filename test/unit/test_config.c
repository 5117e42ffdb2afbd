/* The configuration: every word accepted beside its refused twins, layers, canonical text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/config.h"

/* 64 hexadecimal digits */
#define KEY16 "001f2e3d4c5b6a79"
#define KEY64 KEY16 KEY16 KEY16 "8897a6b5c4d3e2e0"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Applies text to the defaults. */
static int apply(struct mtls_config *c, const char *text)
{
    mtls_config_init(c);
    return mtls_config_apply(c, text, NULL, 0);
}

static void assert_error(const char *text, int code, const char *mentions)
{
    struct mtls_config c, before;
    char msg[256] = "";
    int r;

    mtls_config_init(&c);
    memset(c.name, 'n', 3); /* something of an earlier layer */
    before = c;
    r = mtls_config_apply(&c, text, msg, sizeof(msg));
    if (r != code || strstr(msg, mentions) == NULL)
        fail_msg("'%.60s': %d '%s', expected %d and '%s'", text, r, msg, code, mentions);
    assert_memory_equal(&c, &before, sizeof(c));
    assert_int_equal(mtls_config_apply(&c, text, NULL, 0), code);
    for (size_t i = 0; msg[i] != '\0'; i++)
        assert_true(msg[i] >= ' ' && msg[i] <= '~');
}

static void confirmation_words(void **state)
{
    struct mtls_config c;

    assert_int_equal(apply(&c, NULL), 0);
    assert_int_equal(c.confirm, MTLS_WAY_EXPORTER);
    assert_false(c.accept_consistent || c.expose_certificate);
    assert_int_equal(c.nalternate, 0);
    assert_int_equal(apply(&c, "confirm=auto accept=consistent expose-certificate=on "
                               "alternate=" KEY64),
                     0);
    assert_int_equal(c.confirm, MTLS_WAY_AUTO);
    assert_true(c.accept_consistent && c.expose_certificate);
    assert_int_equal(c.nalternate, 1);
    assert_int_equal(c.alternate[0][0], 0x00);
    assert_int_equal(c.alternate[0][1], 0x1f);
    assert_int_equal(c.alternate[0][31], 0xe0);
    assert_int_equal(mtls_config_apply(&c, "confirm=exporter", NULL, 0), 0);
    assert_int_equal(c.confirm, MTLS_WAY_EXPORTER);
}

static void defaults(void **state)
{
    struct mtls_config c;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(apply(&c, i == 0 ? NULL : i == 1 ? "" : " \t\r\n "), 0);
        assert_int_equal(c.policy, MTLS_POLICY_UNSET);
        assert_int_equal(c.npath2, 0);
        assert_int_equal(c.need, 1);
        assert_string_equal(c.name, "");
        assert_int_equal(c.deadline_ms, 10000);
        assert_int_equal(c.grace_ms, 1000);
        assert_true(c.early && c.tfo && c.reuse && !c.reactor_app);
        assert_string_equal(c.hosts, "");
        assert_int_equal(c.resume_max_s, 86400);
        assert_int_equal(c.nlisten + c.naddress + c.ntls_ports, 0);
        assert_int_equal(c.advertise, -1);
        assert_int_equal(c.memory_s, 15552000);
        assert_int_equal(c.max_pending, 65536);
        assert_int_equal(c.per_source, 256);
        assert_int_equal(mtls_config_finish(&c, NULL, 0), 0);
        assert_int_equal(c.policy, MTLS_POLICY_OFF);
    }
}

static void every_word(void **state)
{
    struct mtls_config c;

    assert_int_equal(
        apply(&c, "policy=prefer\tpath2=local=192.0.2.7,port=4434\npath2=auto need=2 "
                  "name=WWW.Example.ORG. deadline=2000 grace=1500 early=off tfo=off reuse=off "
                  "hosts=/var/lib/mtls/hosts=1 evidence=/var/lib/mtls/evidence evidence-of=all "
                  "resume=0 reactor=app listen=127.0.0.1:0,[::1]:914 "
                  "advertise=0 address=192.0.2.9:1 address=[2001:DB8::1]:65535 "
                  "tls-port=443,8443 tls-port=1 memory=0 max-pending=1 per-source=1048576"),
        0);
    assert_int_equal(c.policy, MTLS_POLICY_PREFER);
    assert_int_equal(c.npath2, 2);
    assert_int_equal(c.path2[0].local.family, 4);
    assert_memory_equal(c.path2[0].local.ip, "\xc0\x00\x02\x07\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(c.path2[0].port, 4434);
    assert_false(c.path2[0].is_auto);
    assert_true(c.path2[1].is_auto);
    assert_int_equal(c.need, 2);
    assert_string_equal(c.name, "www.example.org");
    assert_int_equal(c.deadline_ms, 2000);
    assert_int_equal(c.grace_ms, 1500);
    assert_true(!c.early && !c.tfo && !c.reuse && c.reactor_app);
    assert_string_equal(c.hosts, "/var/lib/mtls/hosts=1");
    assert_string_equal(c.evidence, "/var/lib/mtls/evidence");
    assert_true(c.evidence_all);
    assert_int_equal(c.resume_max_s, 0);
    assert_int_equal(c.nlisten, 2);
    assert_int_equal(c.listen[0].port, 0);
    assert_int_equal(c.listen[1].family, 6);
    assert_int_equal(c.listen[1].port, 914);
    assert_int_equal(c.advertise, 0);
    assert_int_equal(c.naddress, 2);
    assert_int_equal(c.address[1].port, 65535);
    assert_int_equal(c.ntls_ports, 3);
    assert_int_equal(c.tls_ports[0], 443);
    assert_int_equal(c.tls_ports[2], 1);
    assert_int_equal(c.memory_s, 0);
    assert_int_equal(c.max_pending, 1);
    assert_int_equal(c.per_source, 1048576);
    assert_int_equal(mtls_config_finish(&c, NULL, 0), 0);
}

/* Each accepted word beside what is nearly it. */
static const struct {
    const char *good, *bad;
    int code;
    const char *mentions;
} twins[] = {
    {"policy=off", "policy=of", MTLS_ERR_CONFIG_VALUE, "policy=of"},
    {"policy=require", "policy=Require", MTLS_ERR_CONFIG_VALUE, "policy=Require"},
    {"policy=require", "policy=requirex", MTLS_ERR_CONFIG_VALUE, "policy"},
    {"policy=require", "policies=require", MTLS_ERR_CONFIG_KEY, "policies"},
    {"policy=require", "Policy=require", MTLS_ERR_CONFIG_KEY, "Policy"},
    {"policy=require", "policy", MTLS_ERR_CONFIG_SYNTAX, "policy"},
    {"policy=require", "policy=", MTLS_ERR_CONFIG_VALUE, "policy: has no value"},
    {"policy=require", "=require", MTLS_ERR_CONFIG_SYNTAX, "=require"},
    {"policy=require", "policy=require policy=require", MTLS_ERR_CONFIG_CONFLICT, "policy"},
    {"policy=require", "policy=re\001quire", MTLS_ERR_CONFIG_SYNTAX, "policy=re?quire"},
    {"policy=require", "policy=require\v", MTLS_ERR_CONFIG_SYNTAX, "policy"},
    {"policy=require", "policy=require\x7f", MTLS_ERR_CONFIG_SYNTAX, "policy"},
    {"need=1", "need=0", MTLS_ERR_CONFIG_VALUE, "need=0"},
    {"need=8", "need=9", MTLS_ERR_CONFIG_CONFLICT, "need=9"},
    {"need=8", "need=08", MTLS_ERR_CONFIG_VALUE, "need=08"},
    {"need=8", "need=+8", MTLS_ERR_CONFIG_VALUE, "need"},
    {"need=8", "need=8,1", MTLS_ERR_CONFIG_VALUE, "need"},
    {"name=a", "name=a..b", MTLS_ERR_CONFIG_VALUE, "name=a..b"},
    {"name=192.0.2.1", "name=192.0.2.1:443", MTLS_ERR_CONFIG_VALUE, "name"},
    {"name=xn--bcher-kva.example",
     "name=b\xc3\xbc"
     "cher.example",
     MTLS_ERR_CONFIG_VALUE, "name"},
    {"deadline=100", "deadline=99", MTLS_ERR_CONFIG_VALUE,
     "deadline=99: must be a number from 100 to"},
    {"deadline=120000", "deadline=120001", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"deadline=5000", "deadline=5000ms", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"deadline=5000", "deadline=4294972296", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"deadline=5000", "deadline=18446744073709556616", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"deadline=5000", "deadline=-5000", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"deadline=5000", "deadline=0x1388", MTLS_ERR_CONFIG_VALUE, "deadline"},
    {"grace=1000", "grace=999", MTLS_ERR_CONFIG_VALUE, "grace"},
    {"grace=60000", "grace=60001", MTLS_ERR_CONFIG_VALUE, "grace"},
    {"early=on", "early=yes", MTLS_ERR_CONFIG_VALUE, "early=yes: must be on or off"},
    {"tfo=off", "tfo=0", MTLS_ERR_CONFIG_VALUE, "tfo"},
    {"reuse=on", "reuse=On", MTLS_ERR_CONFIG_VALUE, "reuse"},
    {"reactor=thread", "reactor=on", MTLS_ERR_CONFIG_VALUE, "reactor=on: must be app or thread"},
    {"hosts=/a", "hosts=/a/", MTLS_ERR_CONFIG_VALUE, "hosts"},
    {"hosts=none", "hosts=", MTLS_ERR_CONFIG_VALUE, "hosts"},
    {"evidence=/a", "evidence=", MTLS_ERR_CONFIG_VALUE, "evidence"},
    {"evidence-of=failed", "evidence-of=some", MTLS_ERR_CONFIG_VALUE, "evidence-of"},
    {"resume=604800", "resume=604801", MTLS_ERR_CONFIG_VALUE, "resume"},
    {"listen=127.0.0.1:0", "listen=127.0.0.1", MTLS_ERR_CONFIG_VALUE,
     "listen=127.0.0.1: must be ADDR:PORT"},
    {"listen=[::]:1", "listen=::1", MTLS_ERR_CONFIG_VALUE, "listen"},
    {"listen=0.0.0.0:1", "listen=localhost:1", MTLS_ERR_CONFIG_VALUE, "listen"},
    {"listen=0.0.0.0:1", "listen=0.0.0.0:1,", MTLS_ERR_CONFIG_VALUE, "listen"},
    {"listen=0.0.0.0:65535", "listen=0.0.0.0:65536", MTLS_ERR_CONFIG_VALUE, "listen"},
    {"advertise=65535", "advertise=65536", MTLS_ERR_CONFIG_VALUE, "advertise"},
    {"address=192.0.2.1:914", "address=192.0.2.1:0", MTLS_ERR_CONFIG_VALUE, "address"},
    {"address=192.0.2.1:914", "address=0.0.0.0:914", MTLS_ERR_CONFIG_VALUE, "address"},
    {"address=192.0.2.1:914", "address=224.0.0.1:914", MTLS_ERR_CONFIG_VALUE, "address"},
    {"tls-port=1", "tls-port=0", MTLS_ERR_CONFIG_VALUE, "tls-port"},
    {"tls-port=65535,1", "tls-port=65535,,1", MTLS_ERR_CONFIG_VALUE, "tls-port"},
    {"memory=315360000", "memory=315360001", MTLS_ERR_CONFIG_VALUE, "memory"},
    {"max-pending=1048576", "max-pending=1048577", MTLS_ERR_CONFIG_VALUE, "max-pending"},
    {"max-pending=1", "max-pending=0", MTLS_ERR_CONFIG_VALUE, "max-pending"},
    {"per-source=1", "per-source=0", MTLS_ERR_CONFIG_VALUE, "per-source"},
    {"share=web_1-a", "share=../web", MTLS_ERR_CONFIG_VALUE, "share"},
    {"single-port=on", "single-port=yes", MTLS_ERR_CONFIG_VALUE, "single-port"},
    {"share=none", "share=web.1", MTLS_ERR_CONFIG_VALUE, "share"},
    {"confirm=resume", "confirm=resumption", MTLS_ERR_CONFIG_VALUE, "confirm"},
    {"confirm=auto", "confirm=auto confirm=auto", MTLS_ERR_CONFIG_CONFLICT, "confirm"},
    {"confirm=exporter", "confirm=Exporter", MTLS_ERR_CONFIG_VALUE, "confirm"},
    {"accept=consistent", "accept=unproven", MTLS_ERR_CONFIG_VALUE, "accept"},
    {"accept=verified", "accept=alarm", MTLS_ERR_CONFIG_VALUE, "accept"},
    {"expose-certificate=on", "expose-certificate=yes", MTLS_ERR_CONFIG_VALUE, "expose"},
    {"alternate=" KEY64, "alternate=" KEY64 "0", MTLS_ERR_CONFIG_VALUE, "alternate"},
    {"alternate=" KEY64, "alternate=00", MTLS_ERR_CONFIG_VALUE, "alternate"},
    {"alternate=" KEY64 " alternate=" KEY64, "alternate=0" KEY64, MTLS_ERR_CONFIG_VALUE, "alt"},
    {"path2=auto", "path2=auto,", MTLS_ERR_CONFIG_SYNTAX, "path2"},
    {"path2=auto", "path2=Auto", MTLS_ERR_CONFIG_SYNTAX, "Auto"},
    {"path2=auto", "path2=auto,auto", MTLS_ERR_CONFIG_SYNTAX, "auto"},
    {"path2=auto,port=914", "path2=port=914,auto", MTLS_ERR_CONFIG_SYNTAX, "auto"},
    {"path2=auto", "path2=auto,dev=eth0", MTLS_ERR_CONFIG_CONFLICT, "auto"},
    {"path2=auto", "path2=auto,local=192.0.2.1", MTLS_ERR_CONFIG_CONFLICT, "auto"},
    {"path2=auto", "path2=auto,remote=a", MTLS_ERR_CONFIG_CONFLICT, "auto"},
    {"path2=auto", "path2=auto,via=socks5h://a:1", MTLS_ERR_CONFIG_CONFLICT, "auto"},
    {"path2=auto,tunnel=no", "path2=auto,tunnel=yes", MTLS_ERR_CONFIG_CONFLICT, "tunnel"},
    {"path2=dev=eth0", "path2=dev=", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=dev=eth0", "path2=dev=eth0,dev=eth0", MTLS_ERR_CONFIG_CONFLICT, "dev"},
    {"path2=dev=eth0", "path2=device=eth0", MTLS_ERR_CONFIG_KEY, "device"},
    {"path2=dev=eth0", "path2=eth0", MTLS_ERR_CONFIG_SYNTAX, "eth0"},
    {"path2=dev=0123456789abcde", "path2=dev=0123456789abcdef", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=dev=...", "path2=dev=..", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=dev=a.1", "path2=dev=a:1", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=dev=a.1", "path2=dev=a/1", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=dev=a.1", "path2=dev=a\xff", MTLS_ERR_CONFIG_VALUE, "dev"},
    {"path2=local=::1", "path2=local=[::1]:5", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=127.0.0.1", "path2=local=127.0.0.1:5", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=127.0.1.1", "path2=local=host", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=127.0.1.1", "path2=local=0.0.0.0", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=fe80::1", "path2=local=ff02::1", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=fe80::1", "path2=local=fe80::1%eth0", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=192.0.2.1", "path2=local=192.0.2.01", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=local=192.0.2.1", "path2=local=192.0.2", MTLS_ERR_CONFIG_VALUE, "local"},
    {"path2=remote=h:1", "path2=remote=h:0", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=h:1", "path2=remote=h:", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=h:1", "path2=remote=:1", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=h:1", "path2=remote=h:1:2", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=h:1", "path2=remote=[h]:1", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=[::1]:1", "path2=remote=[::1]1", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=[::1]", "path2=remote=[::1", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=[::1]", "path2=remote=::1]", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=192.0.2.1", "path2=remote=[192.0.2.1]", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=192.0.2.1", "path2=remote=255.255.255.255", MTLS_ERR_CONFIG_VALUE, "remote"},
    {"path2=remote=h:1,port=1", "path2=remote=h:1,port=2", MTLS_ERR_CONFIG_CONFLICT, "port"},
    {"path2=port=1", "path2=port=0", MTLS_ERR_CONFIG_VALUE, "port"},
    {"path2=port=65535", "path2=port=65536", MTLS_ERR_CONFIG_VALUE, "port"},
    {"path2=resolver=::1", "path2=resolver=dns.example", MTLS_ERR_CONFIG_VALUE, "resolver"},
    {"path2=resolver=192.0.2.1:5353", "path2=resolver=0.0.0.0", MTLS_ERR_CONFIG_VALUE, "resolver"},
    {"path2=via=socks5h://h:1080", "path2=via=socks5h://h", MTLS_ERR_CONFIG_VALUE, "via"},
    {"path2=via=socks5h://h:1080", "path2=via=socks5://h:1080", MTLS_ERR_CONFIG_VALUE, "via"},
    {"path2=via=socks5h://h:1080", "path2=via=socks5h://h:1080/", MTLS_ERR_CONFIG_VALUE, "via"},
    {"path2=via=socks5h://h:1080", "path2=via=socks5h://u@h:1080", MTLS_ERR_CONFIG_VALUE, "via"},
    {"path2=via=socks5h://h:1080", "path2=via=h:1080", MTLS_ERR_CONFIG_VALUE, "via"},
    {"path2=dev=wg0,tunnel=yes", "path2=remote=h,tunnel=yes", MTLS_ERR_CONFIG_CONFLICT, "tunnel"},
    {"path2=local=::1,tunnel=yes", "path2=tunnel=yes", MTLS_ERR_CONFIG_CONFLICT, "tunnel"},
    {"path2=via=socks5h://h:1,tunnel=yes", "path2=via=socks5h://h:1,tunnel=y",
     MTLS_ERR_CONFIG_VALUE, "tunnel=y"},
    {"path2=distinct=both", "path2=distinct=none", MTLS_ERR_CONFIG_VALUE, "distinct"},
    {"path2=local=127.0.0.1,remote=127.0.1.1,distinct=server", "path2=local=127.0.0.1,remote=::1",
     MTLS_ERR_CONFIG_CONFLICT, "famil"},
    {"path2=local=127.0.0.1,remote=name", "path2=local=::1,remote=127.0.0.1:5",
     MTLS_ERR_CONFIG_CONFLICT, "famil"},
    {"path2=local=127.0.0.1,remote=::1,via=socks5h://127.0.0.1:1",
     "path2=local=127.0.0.1,remote=127.0.0.1,via=socks5h://[::1]:1", MTLS_ERR_CONFIG_CONFLICT,
     "via"},
};

static void words_and_twins(void **state)
{
    struct mtls_config c;

    for (size_t i = 0; i < COUNT(twins); i++) {
        if (apply(&c, twins[i].good) != 0)
            fail_msg("refused: %s", twins[i].good);
        assert_error(twins[i].bad, twins[i].code, twins[i].mentions);
    }
}

/* An error in the last word leaves nothing of the first ones. */
static void all_or_nothing(void **state)
{
    struct mtls_config c;

    assert_int_equal(apply(&c, "deadline=500 path2=auto hosts=/f policy=off"), 0);
    assert_error("deadline=500 path2=auto hosts=/f policy=on", MTLS_ERR_CONFIG_VALUE, "policy=on");
}

static void too_many(void **state)
{
    struct mtls_config c;
    char text[1024] = "";

    for (int i = 0; i < MTLS_PATHS_MAX; i++)
        strcat(text, "path2=auto ");
    assert_int_equal(apply(&c, text), 0);
    assert_int_equal(c.npath2, MTLS_PATHS_MAX);
    strcat(text, "path2=auto");
    assert_error(text, MTLS_ERR_CONFIG_CONFLICT, "path2: more than 8");

    strcpy(text, "listen=127.0.0.1:0");
    for (int i = 1; i < MTLS_LISTEN_MAX; i++)
        strcat(text, i % 2 != 0 ? ",[::1]:0" : " listen=[::1]:0");
    assert_int_equal(apply(&c, text), 0);
    assert_int_equal(c.nlisten, MTLS_LISTEN_MAX);
    strcat(text, " listen=[::1]:0");
    assert_error(text, MTLS_ERR_CONFIG_CONFLICT, "listen");

    strcpy(text, "address=127.0.0.1:1");
    for (int i = 1; i < MTLS_LISTEN_MAX; i++)
        strcat(text, ",[::1]:2");
    assert_int_equal(apply(&c, text), 0);
    strcat(text, ",[::1]:2");
    assert_error(text, MTLS_ERR_CONFIG_CONFLICT, "address");

    strcpy(text, "tls-port=1");
    for (int i = 1; i < MTLS_TLS_PORTS_MAX; i++)
        strcat(text, ",2");
    assert_int_equal(apply(&c, text), 0);
    assert_int_equal(c.ntls_ports, MTLS_TLS_PORTS_MAX);
    strcat(text, ",3");
    assert_error(text, MTLS_ERR_CONFIG_CONFLICT, "tls-port");
}

static void too_long(void **state)
{
    static char text[MTLS_CONFIG_TEXT_MAX + 2];
    struct mtls_config c;
    char name[300];

    memset(text, ' ', MTLS_CONFIG_TEXT_MAX);
    memcpy(text, "need=2", 6);
    assert_int_equal(apply(&c, text), 0);
    assert_int_equal(c.need, 2);
    text[MTLS_CONFIG_TEXT_MAX] = ' ';
    assert_error(text, MTLS_ERR_CONFIG_SYNTAX, "longer than 8192");

    memset(text, 0, sizeof(text));
    strcpy(text, "hosts=");
    memset(text + 6, 'f', MTLS_FILE_MAX);
    assert_int_equal(apply(&c, text), 0);
    assert_int_equal(strlen(c.hosts), MTLS_FILE_MAX);
    text[6 + MTLS_FILE_MAX] = 'f';
    assert_error(text, MTLS_ERR_CONFIG_VALUE, "hosts");

    /* The longest specification there is has room for its canonical text. */
    memset(name, 'a', 253);
    name[253] = '\0';
    name[63] = name[127] = name[191] = '.';
    (void)snprintf(text, sizeof(text),
                   "path2=local=1111:2222:3333:4444:5555:6666:7777:8888,dev=123456789012345,"
                   "remote=%s:65535,resolver=[1111:2222:3333:4444:5555:6666:7777:8888]:65535,"
                   "via=socks5h://%s:65535,tunnel=yes,distinct=server",
                   name, name);
    assert_int_equal(apply(&c, text), 0);
    assert_string_equal(c.path2[0].text, text + 6);
}

static void layers(void **state)
{
    struct mtls_config c;

    assert_int_equal(apply(&c, "policy=prefer path2=dev=a path2=dev=b listen=127.0.0.1:1 "
                               "tls-port=1 address=192.0.2.1:1 need=2 hosts=/f"),
                     0);
    assert_int_equal(mtls_config_apply(&c, "policy=require path2=dev=c hosts=none", NULL, 0), 0);
    assert_int_equal(c.policy, MTLS_POLICY_REQUIRE);
    assert_int_equal(c.npath2, 1);
    assert_string_equal(c.path2[0].dev, "c");
    assert_int_equal(c.nlisten, 1);
    assert_int_equal(c.need, 2);
    assert_string_equal(c.hosts, "");
    assert_int_equal(
        mtls_config_apply(&c, "listen=[::1]:2 listen=[::1]:3 tls-port=4,5 address=192.0.2.2:2",
                          NULL, 0),
        0);
    assert_int_equal(c.npath2, 1);
    assert_int_equal(c.nlisten, 2);
    assert_int_equal(c.listen[0].port, 2);
    assert_int_equal(c.ntls_ports, 2);
    assert_int_equal(c.tls_ports[0], 4);
    assert_int_equal(c.naddress, 1);
    assert_int_equal(c.address[0].port, 2);
    assert_int_equal(mtls_config_apply(&c, NULL, NULL, 0), 0);
    assert_int_equal(c.nlisten, 2);
}

static void finish(void **state)
{
    static const struct {
        const char *text;
        int code;
        enum mtls_policy policy;
    } cases[] = {
        {"path2=auto", 0, MTLS_POLICY_REQUIRE},
        {"listen=127.0.0.1:0", 0, MTLS_POLICY_REQUIRE},
        {"policy=prefer path2=auto", 0, MTLS_POLICY_PREFER},
        {"policy=off path2=auto", 0, MTLS_POLICY_OFF},
        {"policy=require", 0, MTLS_POLICY_REQUIRE},
        {"policy=prefer", 0, MTLS_POLICY_PREFER},
        {"need=8 path2=auto", 0, MTLS_POLICY_REQUIRE},
        {"need=2 path2=dev=a path2=dev=b", 0, MTLS_POLICY_REQUIRE},
        {"need=3 path2=dev=a path2=dev=b", MTLS_ERR_CONFIG_CONFLICT, MTLS_POLICY_UNSET},
        {"need=2", MTLS_ERR_CONFIG_CONFLICT, MTLS_POLICY_UNSET},
    };
    struct mtls_config c;
    char msg[100];

    for (size_t i = 0; i < COUNT(cases); i++) {
        msg[0] = '\0';
        assert_int_equal(apply(&c, cases[i].text), 0);
        assert_int_equal(mtls_config_finish(&c, msg, sizeof(msg)), cases[i].code);
        assert_int_equal(c.policy, cases[i].policy);
        assert_int_equal(mtls_config_finish(&c, NULL, 0), cases[i].code);
        if (cases[i].code != 0)
            assert_non_null(strstr(msg, "need"));
    }
}

/* Equal specifications have equal text, different ones do not. */
static void canonical_paths(void **state)
{
    static const char *const same[][2] = {
        {"auto", "auto"},
        {"auto,distinct=client,tunnel=no", "auto"},
        {"distinct=both,resolver=192.0.2.1:53,port=4434,local=192.0.2.7",
         "local=192.0.2.7,port=4434,resolver=192.0.2.1,distinct=both"},
        {"remote=EXAMPLE.Org.:443,port=443", "remote=example.org:443"},
        {"port=443,remote=example.org", "remote=example.org:443"},
        {"local=2001:DB8:0:0::1", "local=2001:db8::1"},
        {"local=[2001:db8::1]", "local=2001:db8::1"},
        {"remote=[2001:db8:0::5]:44", "remote=[2001:db8::5]:44"},
        {"remote=::ffff:192.0.2.1", "remote=192.0.2.1"},
        {"resolver=2001:db8::1", "resolver=2001:db8::1"},
        {"resolver=[2001:db8::1]:53", "resolver=2001:db8::1"},
        {"resolver=[2001:db8::1]:54", "resolver=[2001:db8::1]:54"},
        {"tunnel=yes,via=socks5h://Proxy.Example:9050,remote=h",
         "remote=h,via=socks5h://proxy.example:9050,tunnel=yes"},
        {"port=914", "port=914"},
        {"tunnel=no", "distinct=client"},
        {"distinct=server", "distinct=server"},
    };
    struct mtls_config c;
    char text[600];

    for (size_t i = 0; i < COUNT(same); i++) {
        for (size_t j = 0; j < 2; j++) {
            (void)snprintf(text, sizeof(text), "path2=%s", same[i][j]);
            assert_int_equal(apply(&c, text), 0);
            assert_string_equal(c.path2[0].text, same[i][1]);
        }
        memset(c.path2[0].text, 'x', sizeof(c.path2[0].text));
        assert_int_equal(mtls_path_spec_format(&c.path2[0]), 0);
        assert_string_equal(c.path2[0].text, same[i][1]);
    }
}

static void assert_round_trip(const char *text)
{
    struct mtls_config a, b;
    static char out[MTLS_CONFIG_TEXT_MAX + 1], again[MTLS_CONFIG_TEXT_MAX + 1];
    int n, m;

    assert_int_equal(apply(&a, text), 0);
    n = mtls_config_format(&a, out, sizeof(out));
    assert_true(n >= 0);
    assert_int_equal(strlen(out), n);
    assert_int_equal(apply(&b, out), 0);
    m = mtls_config_format(&b, again, sizeof(again));
    assert_int_equal(n, m);
    assert_string_equal(out, again);
    assert_memory_equal(&a, &b, sizeof(a));
    for (int cap = 0; cap <= n; cap++)
        assert_int_equal(mtls_config_format(&a, again, (size_t)cap), MTLS_ERR_ARG);
    assert_int_equal(mtls_config_format(&a, again, (size_t)n + 1), n);
}

static void format(void **state)
{
    struct mtls_config c;
    char out[200];

    for (size_t i = 0; i < COUNT(twins); i++)
        assert_round_trip(twins[i].good);
    assert_round_trip("policy=prefer path2=local=192.0.2.7,port=4434 path2=auto need=2 name=a.b "
                      "deadline=2000 grace=1500 early=off tfo=off reuse=off hosts=/h resume=0 "
                      "reactor=app listen=127.0.0.1:0,[::1]:914 advertise=0 address=192.0.2.9:1 "
                      "tls-port=443,8443 memory=0 max-pending=1 per-source=2 share=web "
                      "single-port=on");
    assert_round_trip("confirm=resume accept=consistent expose-certificate=on alternate=" KEY64);
    assert_int_equal(apply(&c, "listen=[::1]:0,0.0.0.0:914 need=1 path2=auto"), 0);
    assert_true(mtls_config_format(&c, out, sizeof(out)) > 0);
    assert_string_equal(out, "path2=auto listen=[::1]:0 listen=0.0.0.0:914");
}

static void hosts_and_addresses(void **state)
{
    static const struct {
        const char *text, *name;
        uint8_t family;
        uint16_t port;
    } good[] = {
        {"192.0.2.1:443", "192.0.2.1", 4, 443},
        {"192.0.2.1", "192.0.2.1", 4, 0},
        {"[2001:db8::1]:443", "2001:db8::1", 6, 443},
        {"[2001:db8::1]", "2001:db8::1", 6, 0},
        {"2001:DB8::1", "2001:db8::1", 6, 0},
        {"Host:443", "host", 0, 443},
        {"host.", "host", 0, 0},
        {"_sip._tcp.a-b.example:1", "_sip._tcp.a-b.example", 0, 1},
        {"::", "::", 6, 0},
        {"3com.example", "3com.example", 0, 0},
        {"::ffff:10.0.0.1", "10.0.0.1", 4, 0},
    };
    static const char *const bad[] = {
        "",          ":",          ":1",      "host:",    "host:0",    "host:65536", "host:1x",
        "host: 1",   "ho st",      "-a",      "a-",       "a.-b",      "a..b",       ".",
        "..",        ".a",         "a..",     "[",        "[]",        "[]:1",       "[::1",
        "[::1]x",    "[::1]:",     "[::1]:0", "[host]:1", "[1.2.3.4]", "1.2.3",      "1.2.3.4.5",
        "256.1.1.1", "1.2.3.04",   "1",       "1.",       "a.1",       "::1::",      ":::",
        "12345::",   "fe80::1%lo", "h/",      "h@h",      "\xc3\xa4",  "h\t",        "*.h",
    };
    struct mtls_host h, untouched;
    struct mtls_host again;
    char text[64];
    int len;

    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(mtls_host_parse(&h, good[i].text), 0);
        assert_string_equal(h.name, good[i].name);
        assert_int_equal(h.addr.family, good[i].family);
        assert_int_equal(h.addr.port, good[i].port);
        if (h.addr.family == 0)
            continue;
        len = mtls_addr_format(&h.addr, text, 56);
        assert_int_equal(len, strlen(text));
        assert_int_equal(mtls_host_parse(&again, text), 0);
        assert_memory_equal(&h, &again, sizeof(h));
    }
    memset(&h, 7, sizeof(h));
    untouched = h;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (mtls_host_parse(&h, bad[i]) != MTLS_ERR_CONFIG_VALUE)
            fail_msg("accepted: '%s'", bad[i]);
        assert_memory_equal(&h, &untouched, sizeof(h));
    }
    assert_int_equal(mtls_host_parse(&h, NULL), MTLS_ERR_CONFIG_VALUE);
    memset(&h, 0, sizeof(h));
    assert_int_equal(mtls_addr_format(&h.addr, text, sizeof(text)), 0);
    assert_string_equal(text, "");
}

/* Every octet and the ends of the ports; what does not fit is cut, and its length said. */
static void ipv4_text(void **state)
{
    char text[64], want[64];
    struct mtls_addr a = {.family = 4};

    for (unsigned i = 0; i < 256; i++) {
        static const unsigned ports[] = {0, 1, 9, 10, 914, 65535};
        unsigned port = ports[i % COUNT(ports)];
        int len;

        memcpy(a.ip, (uint8_t[]){(uint8_t)i, (uint8_t)(i + 100), (uint8_t)(i + 200), 0}, 4);
        a.port = (uint16_t)port;
        snprintf(want, sizeof(want), port != 0 ? "%u.%u.%u.0:%u" : "%u.%u.%u.0", a.ip[0], a.ip[1],
                 a.ip[2], port);
        len = mtls_addr_format(&a, text, sizeof(text));
        assert_string_equal(text, want);
        assert_int_equal(len, strlen(want));
        assert_int_equal(mtls_addr_format(&a, text, 8), len);
        assert_int_equal(strlen(text), 7);
        assert_memory_equal(text, want, 7);
    }
    memset(text, 'x', sizeof(text));
    assert_int_equal(mtls_addr_format(&a, text, 0), strlen(want));
    assert_int_equal(text[0], 'x');
}

static void names(void **state)
{
    char in[400], out[MTLS_HOST_MAX + 1];

    assert_int_equal(mtls_name_canonical("WWW.Example.COM.", out), 0);
    assert_string_equal(out, "www.example.com");
    assert_int_equal(mtls_name_canonical("2001:DB8::0:1", out), 0);
    assert_string_equal(out, "2001:db8::1");
    assert_int_equal(mtls_name_canonical("192.0.2.1", out), 0);
    assert_int_equal(mtls_name_canonical(NULL, out), MTLS_ERR_CONFIG_VALUE);
    assert_int_equal(mtls_name_canonical("", out), MTLS_ERR_CONFIG_VALUE);
    assert_int_equal(mtls_name_canonical("host:443", out), MTLS_ERR_CONFIG_VALUE);

    memset(in, 'a', sizeof(in));
    in[63] = '\0';
    assert_int_equal(mtls_name_canonical(in, out), 0);
    in[63] = 'a';
    in[64] = '\0';
    assert_int_equal(mtls_name_canonical(in, out), MTLS_ERR_CONFIG_VALUE);

    memset(in, 'a', sizeof(in));
    in[63] = in[127] = in[191] = '.';
    in[253] = '\0';
    assert_int_equal(mtls_name_canonical(in, out), 0);
    assert_string_equal(in, out);
    in[253] = '.';
    in[254] = '\0';
    assert_int_equal(mtls_name_canonical(in, out), 0);
    assert_int_equal(strlen(out), 253);
    in[253] = 'a';
    assert_int_equal(mtls_name_canonical(in, out), MTLS_ERR_CONFIG_VALUE);
    in[254] = 'a'; /* no end within the bound */
    in[399] = '\0';
    assert_int_equal(mtls_name_canonical(in, out), MTLS_ERR_CONFIG_VALUE);
}

/* Messages are cut, never overrun. */
static void messages_of_any_size(void **state)
{
    char guard[140];

    for (size_t cap = 0; cap <= 128; cap++) {
        struct mtls_config c;

        mtls_config_init(&c);
        memset(guard, 'G', sizeof(guard));
        assert_int_equal(mtls_config_apply(&c, "path2=via=socks5h://nobody@nowhere:0", guard, cap),
                         MTLS_ERR_CONFIG_VALUE);
        assert_true(cap == 0 || strnlen(guard, cap) < cap);
        for (size_t i = cap; i < sizeof(guard); i++)
            assert_int_equal(guard[i], 'G');
    }
}

/* Every single byte of a full configuration changed: refused or accepted, and then it can be
 * written and read again. */
static void mutations(void **state)
{
    static const char text[] =
        "policy=prefer path2=local=192.0.2.7,port=4434,resolver=[2001:db8::1]:53,"
        "via=socks5h://192.0.2.5:1080,tunnel=yes,distinct=both need=1 listen=[::1]:0";
    static const char bytes[] = "\001 ,=:.[]-019azAZ/\xff";
    char changed[sizeof(text)];
    unsigned refused = 0, accepted = 0;

    for (size_t i = 0; i < sizeof(text) - 1; i++)
        for (size_t j = 0; j < sizeof(bytes) - 1; j++) {
            struct mtls_config c;

            memcpy(changed, text, sizeof(text));
            changed[i] = bytes[j];
            if (apply(&c, changed) != 0) {
                refused++;
                continue;
            }
            accepted++;
            assert_round_trip(changed);
        }
    for (size_t i = 0; i < sizeof(text); i++) {
        struct mtls_config c;

        memcpy(changed, text, sizeof(text));
        changed[i] = '\0';
        if (apply(&c, changed) == 0)
            assert_round_trip(changed);
    }
    assert_true(refused > 1000 && accepted > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(confirmation_words),
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_word),
        cmocka_unit_test(words_and_twins),
        cmocka_unit_test(all_or_nothing),
        cmocka_unit_test(too_many),
        cmocka_unit_test(too_long),
        cmocka_unit_test(layers),
        cmocka_unit_test(finish),
        cmocka_unit_test(canonical_paths),
        cmocka_unit_test(format),
        cmocka_unit_test(ipv4_text),
        cmocka_unit_test(names),
        cmocka_unit_test(hosts_and_addresses),
        cmocka_unit_test(mutations),
        cmocka_unit_test(messages_of_any_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
