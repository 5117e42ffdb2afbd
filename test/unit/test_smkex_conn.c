/* SMKEX over real sockets on two real paths: handshakes of blocking and non-blocking programs,
 * policies, server keys, data and ends. */
#include "smkex_lab.h"

static char folder[] = "/tmp/smkex-test-XXXXXX";

/* ---- Two paths ---- */

static void verified_without_blocking_or_spinning(void **state)
{
    struct smkex_ctx *server = server_context(""), *client = client_context(server, "");

    for (int i = 0; i < 20; i++) { /* the first over a new path 2, the others over the kept one */
        struct pair p = handshake(client, server);

        expect(&p, SMKEX_OUTCOME_VERIFIED);
        assert_int_equal(smkex_get_scope(p.s[0]) & MTLS_SCOPE_CLIENT, MTLS_SCOPE_CLIENT);
        assert_true(p.calls[0] <= 4 && p.calls[1] <= 4);
        both_ways(&p);
        pair_free(&p);
    }
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

static void *blocking_server(void *arg)
{
    struct pair *p = arg;

    p->rc[1] = smkex_handshake(p->s[1]);
    return NULL;
}

static void verified_on_blocking_sockets(void **state)
{
    struct smkex_ctx *server = server_context(""), *client = client_context(server, "");
    struct pair p = {0};
    pthread_t thread;

    connect_pair(p.fd);
    set_blocking(p.fd[0], true);
    set_blocking(p.fd[1], true);
    assert_int_equal(smkex_client_new(&p.s[0], client, p.fd[0], NULL), 0);
    assert_int_equal(smkex_server_new(&p.s[1], server, p.fd[1]), 0);
    assert_int_equal(pthread_create(&thread, NULL, blocking_server, &p), 0);
    p.rc[0] = smkex_handshake(p.s[0]);
    pthread_join(thread, NULL);
    expect(&p, SMKEX_OUTCOME_VERIFIED);
    both_ways(&p);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

static void offer_leaves_at_once(void **state)
{
    struct smkex_ctx *single = context("mode=single"), *off = context("policy=off");
    struct pair p = {0};
    uint8_t first[2];

    connect_pair(p.fd);
    assert_int_equal(smkex_client_new(&p.s[0], off, p.fd[0], NULL), 0);
    assert_int_equal(recv(p.fd[1], first, 2, 0), -1);
    smkex_free(p.s[0]);
    assert_int_equal(smkex_client_new(&p.s[0], single, p.fd[0], NULL), 0);
    set_blocking(p.fd[1], true);
    assert_int_equal(recv(p.fd[1], first, 2, MSG_WAITALL), 2);
    assert_memory_equal(first, "\xf0S", 2);
    pair_free(&p);
    smkex_ctx_free(single);
    smkex_ctx_free(off);
}

static int silent_path2(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;
    int fd;

    netns_go_there();
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    netns_go_here();
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static void *blocking_client(void *arg)
{
    struct pair *p = arg;

    p->rc[0] = smkex_handshake(p->s[0]);
    return NULL;
}

/* ANSWER is here, the keys are made, path 2 is silent: who then sees path 1 end says that, and
 * does not wait for the deadline. */
static void blocking_client_sees_the_end_behind_answer(void **state)
{
    struct smkex_ctx *server = server_context(""), *client;
    struct pair p = {0};
    pthread_t thread;
    uint16_t port;
    int silent = silent_path2(&port);
    struct pollfd fd = {.events = POLLIN};

    client = context("path2=dev=v1,remote=203.0.113.1:%u deadline=20000", port);
    connect_pair(p.fd);
    set_blocking(p.fd[0], true);
    assert_int_equal(smkex_client_new(&p.s[0], client, p.fd[0], "203.0.113.1"), 0);
    assert_int_equal(smkex_server_new(&p.s[1], server, p.fd[1]), 0);
    fd.fd = p.fd[1];
    assert_int_equal(poll(&fd, 1, 20000), 1);
    assert_int_equal(smkex_handshake(p.s[1]), SMKEX_WANT_READ);
    assert_int_equal(pthread_create(&thread, NULL, blocking_client, &p), 0);
    shutdown(p.fd[1], SHUT_WR);
    pthread_join(thread, NULL);
    assert_int_equal(p.rc[0], MTLS_ERR_PEER_CLOSED);
    pair_free(&p);
    close(silent);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

static void contexts_may_go_first(void **state)
{
    struct smkex_ctx *server = server_context(""), *client = client_context(server, "");
    struct pair p = handshake(client, server);

    smkex_ctx_free(client);
    smkex_ctx_free(server);
    both_ways(&p);
    pair_free(&p);
}

/* Path 2 over path 1's own device counts for nothing [PATH-7]. */
static void same_device_is_no_second_path(void **state)
{
    struct smkex_ctx *server = server_context("deadline=2000");
    struct smkex_ctx *client = context("path2=dev=v0,remote=203.0.113.1:%u", path2_port(server));
    struct pair p = handshake(client, server);

    assert_int_equal(p.rc[0], MTLS_ERR_PATH_NOT_DISTINCT);
    assert_int_equal(smkex_handshake(p.s[0]), MTLS_ERR_PATH_NOT_DISTINCT);
    assert_true(p.rc[1] < 0);
    assert_int_equal(smkex_get_outcome(p.s[1]), SMKEX_OUTCOME_FAILED);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

/* The client's OFFER reaches a server whose path 2 is elsewhere: nobody confirms. */
static void without_proof_nothing_is_sent_or_delivered(void **state)
{
    struct smkex_ctx *server = server_context("deadline=400"), *other = server_context("");
    struct smkex_ctx *client = context("path2=dev=v1,remote=203.0.113.1:1 deadline=1000");
    struct pair p = handshake(client, server);
    char buf[8];

    assert_int_equal(p.rc[0], MTLS_ERR_PATH_REFUSED);
    assert_int_equal(smkex_write(p.s[0], "x", 1), MTLS_ERR_PATH_REFUSED);
    assert_true(p.rc[1] == MTLS_ERR_CONFIRM_MISSING || p.rc[1] == MTLS_ERR_PEER_CLOSED);
    assert_int_equal(smkex_read(p.s[1], buf, sizeof buf), p.rc[1]);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(other);
    smkex_ctx_free(server);
}

/* ---- Single path, policies ---- */

static void single_path_is_called_so(void **state)
{
    struct smkex_ctx *server = context("mode=single"), *client = context("mode=single groups=p256");
    struct pair p = handshake(client, server);

    expect(&p, SMKEX_OUTCOME_SINGLE);
    both_ways(&p);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

/* [SPM-3] */
static void modes_do_not_meet(void **state)
{
    struct smkex_ctx *server = server_context("deadline=2000"), *single = context("mode=single");
    struct smkex_ctx *client = client_context(server, "deadline=2000");
    struct pair p = handshake(single, server);

    assert_int_equal(p.rc[0], MTLS_ERR_SMKEX_REFUSED);
    assert_int_equal(p.rc[1], MTLS_ERR_SMKEX_CHOICE);
    pair_free(&p);
    p = handshake(client, single);
    assert_int_equal(p.rc[0], MTLS_ERR_SMKEX_REFUSED);
    assert_int_equal(p.rc[1], MTLS_ERR_SMKEX_CHOICE);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(single);
    smkex_ctx_free(server);
}

static void plain_client_by_policy(void **state)
{
    static const struct {
        const char *words;
        int rc;
    } cases[] = {{"policy=require deadline=2000", MTLS_ERR_SMKEX_FOREIGN}, {"policy=prefer", 0}};

    for (int i = 0; i < 2; i++) {
        struct smkex_ctx *server = server_context(cases[i].words);
        struct pair p = {0};
        char got[8];

        connect_pair(p.fd);
        assert_int_equal(smkex_server_new(&p.s[1], server, p.fd[1]), 0);
        assert_int_equal(send(p.fd[0], "GET ", 4, 0), 4);
        drive(&p);
        assert_int_equal(p.rc[1], cases[i].rc);
        if (cases[i].rc == 0) {
            assert_int_equal(smkex_get_outcome(p.s[1]), SMKEX_OUTCOME_PLAIN);
            assert_int_equal(smkex_read(p.s[1], got, sizeof got), 4);
            assert_memory_equal(got, "GET ", 4);
            assert_int_equal(smkex_write(p.s[1], "no", 2), 2);
            assert_int_equal(smkex_shutdown(p.s[1]), 0);
            set_blocking(p.fd[0], true);
            assert_int_equal(recv(p.fd[0], got, sizeof got, MSG_WAITALL), 2);
        }
        pair_free(&p);
        smkex_ctx_free(server);
    }
}

/* What a server does that does not speak SMKEX: answers in its own tongue, closes, says nothing,
 * resets. */
static struct pair plain_server(struct smkex_ctx *client, int how)
{
    struct pair p = {0};

    connect_pair(p.fd);
    assert_int_equal(smkex_client_new(&p.s[0], client, p.fd[0], "203.0.113.1"), 0);
    if (how == 0)
        assert_int_equal(send(p.fd[1], "HTTP/1.1 400\r\n", 14, 0), 14);
    if (how == 1)
        shutdown(p.fd[1], SHUT_RDWR);
    if (how == 3) {
        struct linger reset = {.l_onoff = 1};

        setsockopt(p.fd[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(p.fd[1]);
        p.fd[1] = -1;
    }
    drive(&p);
    return p;
}

static void plain_server_by_policy(void **state)
{
    struct smkex_ctx *require =
        context("path2=dev=v1,remote=203.0.113.1:1 policy=require deadline=1500");
    struct smkex_ctx *prefer = context("path2=dev=v1,remote=203.0.113.1:1 policy=prefer");
    static const int why[] = {MTLS_ERR_SMKEX_FOREIGN, MTLS_ERR_PEER_CLOSED, MTLS_ERR_DEADLINE,
                              MTLS_ERR_PEER_CLOSED};

    for (int how = 0; how < 4; how++) {
        struct pair p = plain_server(require, how);
        int fd[2];
        char got[8];

        assert_int_equal(p.rc[0], why[how]);
        pair_free(&p);
        p = plain_server(prefer, how);
        assert_int_equal(p.rc[0], SMKEX_RECONNECT);
        assert_int_equal(smkex_get_outcome(p.s[0]), SMKEX_OUTCOME_PLAIN);
        assert_int_equal(smkex_write(p.s[0], "x", 1), SMKEX_RECONNECT);
        connect_pair(fd);
        assert_int_equal(smkex_set_plain_fd(p.s[0], fd[0]), 0);
        assert_int_equal(smkex_set_plain_fd(p.s[0], fd[0]), MTLS_ERR_ARG);
        assert_int_equal(smkex_write(p.s[0], "clear", 5), 5);
        set_blocking(fd[1], true);
        assert_int_equal(recv(fd[1], got, 5, MSG_WAITALL), 5);
        pair_free(&p);
        close(fd[0]);
        close(fd[1]);
    }
    smkex_ctx_free(require);
    smkex_ctx_free(prefer);
}

/* [SPO-3] [DWN-1]: path 2 says that the server speaks SMKEX. */
static void stripped_path_1_is_no_plain_server(void **state)
{
    struct smkex_ctx *server = server_context("");
    struct smkex_ctx *client = client_context(server, "policy=prefer");
    struct pair p = plain_server(client, 0);

    assert_int_equal(p.rc[0], MTLS_ERR_DOWNGRADE);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

static void policy_off_is_plain(void **state)
{
    struct smkex_ctx *off = context("policy=off");
    struct pair p = handshake(off, off);

    expect(&p, SMKEX_OUTCOME_PLAIN);
    both_ways(&p);
    pair_free(&p);
    smkex_ctx_free(off);
}

static void bad_configurations_are_refused(void **state)
{
    static const char *const bad[] = {
        "mode=both",
        "groups=",
        "groups=x25519,x25519",
        "suites=aes128,",
        "pad=16385",
        "pad=",
        "key=",
        "key-change=maybe",
        "mode=single mode=single",
        "mode=single path2=dev=v1",
        "colour=red",
        "key=/nowhere/at/all",
    };
    char msg[128];
    struct smkex_ctx *ctx;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int rc = smkex_ctx_new(&ctx, bad[i], msg, sizeof msg);

        assert_true(rc < 0);
        assert_null(ctx);
        assert_true(strlen(msg) > 5);
    }
    smkex_ctx_free(context("suites=chacha20 groups=p256,x25519 pad=16384 mode=multipath "
                           "key-change=refuse policy=prefer"));
}

static void no_second_path_is_an_error_under_every_policy(void **state)
{
    struct smkex_ctx *prefer = context("policy=prefer"), *require = context("");
    struct smkex *s;
    int fd[2];

    connect_pair(fd);
    assert_int_equal(smkex_client_new(&s, prefer, fd[0], NULL), MTLS_ERR_PATH_NONE);
    assert_int_equal(smkex_client_new(&s, require, fd[0], NULL), MTLS_ERR_PATH_NONE);
    assert_null(s);
    close(fd[0]);
    close(fd[1]);
    smkex_ctx_free(prefer);
    smkex_ctx_free(require);
}

/* ---- Server keys [TOF] ---- */

static void make_key(const char *name)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    EVP_PKEY_free(key);
}

/* One handshake with a server of this key ("" = none); the client's result. */
static int meet(const char *key, const char *client_words, const char *mode, enum smkex_key *status)
{
    bool single = mode[0] != '\0';
    char words[256];
    struct smkex_ctx *server, *client;
    struct pair p;
    int rc;

    snprintf(words, sizeof words, "deadline=2000 memory=1000 %s %s%s%s%s", mode,
             key[0] != '\0' ? "key=" : "", key[0] != '\0' ? folder : "", key[0] != '\0' ? "/" : "",
             key);
    server = single ? context("%s", words) : server_context(words);
    snprintf(words, sizeof words, "hosts=%s/hosts deadline=2000 %s %s", folder, mode, client_words);
    client = single ? context("%s", words) : client_context(server, words);
    p = handshake(client, server);
    rc = p.rc[0];
    *status = smkex_get_key(p.s[0]);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
    return rc;
}

static void forget(void)
{
    char path[128];

    snprintf(path, sizeof path, "%s/hosts", folder);
    assert_int_equal(smkex_forget_host(path, "203.0.113.1", port1), 0);
}

static void keys_are_trusted_on_first_use(void **state)
{
    static const char *const modes[] = {"", "mode=single"};
    enum smkex_key status;

    for (int i = 0; i < 2; i++) {
        forget();
        assert_int_equal(meet("a", "", modes[i], &status), 0);
        assert_int_equal(status, SMKEX_KEY_NEW);
        assert_int_equal(meet("a", "", modes[i], &status), 0);
        assert_int_equal(status, SMKEX_KEY_KNOWN);
        assert_int_equal(meet("b", "", modes[i], &status), MTLS_ERR_SMKEX_KEY_CHANGED);
        assert_int_equal(status, SMKEX_KEY_CHANGED);
        assert_int_equal(meet("", "", modes[i], &status), MTLS_ERR_SMKEX_KEY_MISSING);
        assert_int_equal(meet("a", "", modes[i], &status), 0); /* nothing was replaced */
        assert_int_equal(status, SMKEX_KEY_KNOWN);
    }
}

/* [TOF-4] */
static void only_two_paths_vouch_for_a_change(void **state)
{
    enum smkex_key status;

    forget();
    assert_int_equal(meet("a", "", "", &status), 0);
    assert_int_equal(meet("b", "key-change=vouch", "", &status), 0);
    assert_int_equal(status, SMKEX_KEY_CHANGED);
    assert_int_equal(meet("b", "", "", &status), 0);
    assert_int_equal(status, SMKEX_KEY_KNOWN);
    assert_int_equal(meet("a", "key-change=vouch", "mode=single", &status),
                     MTLS_ERR_SMKEX_KEY_CHANGED);
    assert_int_equal(meet("b", "", "mode=single", &status), 0);
}

static void servers_without_a_key_are_met_again(void **state)
{
    enum smkex_key status;

    forget();
    assert_int_equal(meet("", "", "", &status), 0);
    assert_int_equal(status, SMKEX_KEY_NONE);
    assert_int_equal(meet("", "", "", &status), 0);
    assert_int_equal(meet("a", "", "", &status), 0);
    assert_int_equal(status, SMKEX_KEY_NEW);
    assert_int_equal(meet("", "", "", &status), MTLS_ERR_SMKEX_KEY_MISSING);
}

/* ---- Data and ends ---- */

static void ends_are_told_from_cuts(void **state)
{
    struct smkex_ctx *single = context("mode=single");
    struct pair p = handshake(single, single);
    struct pollfd fd = {.fd = p.fd[1], .events = POLLIN};
    char buf[8];
    int n;

    assert_int_equal(smkex_shutdown(p.s[0]), 0);
    while ((n = smkex_read(p.s[1], buf, sizeof buf)) == SMKEX_WANT_READ)
        assert_true(poll(&fd, 1, 20000) > 0);
    assert_int_equal(n, 0);
    pass(&p, 1, "still open");
    shutdown(p.fd[1], SHUT_WR);
    fd.fd = p.fd[0];
    while ((n = smkex_read(p.s[0], buf, sizeof buf)) == SMKEX_WANT_READ)
        assert_true(poll(&fd, 1, 20000) > 0);
    assert_int_equal(n, MTLS_ERR_SMKEX_TRUNCATED);
    assert_int_equal(smkex_read(p.s[0], buf, sizeof buf), MTLS_ERR_SMKEX_TRUNCATED);
    pair_free(&p);
    smkex_ctx_free(single);
}

/* More than the sockets hold: what the writer cannot send waits for it, and nothing is lost. */
static void back_pressure_loses_nothing(void **state)
{
    enum { SIZE = 8 << 20 };
    struct smkex_ctx *single = context("mode=single pad=1000");
    struct pair p = handshake(single, single);
    uint8_t *data = malloc(SIZE), *got = malloc(SIZE);
    size_t sent = 0, have = 0;
    bool blocked = false;

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    assert_int_equal(smkex_update_key(p.s[0]), 0);
    while (have < SIZE) {
        int n = 0;

        while (sent < SIZE && (n = smkex_write(p.s[0], data + sent, SIZE - sent)) > 0)
            sent += (size_t)n;
        blocked = blocked || n == SMKEX_WANT_WRITE;
        assert_true(n >= 0 || n == SMKEX_WANT_WRITE);
        if (sent == SIZE)
            assert_true((n = smkex_flush(p.s[0])) == 0 || n == SMKEX_WANT_WRITE);
        while (have < SIZE && (n = smkex_read(p.s[1], got + have, 100000)) > 0)
            have += (size_t)n;
        assert_true(n > 0 || n == SMKEX_WANT_READ);
    }
    assert_true(blocked);
    assert_memory_equal(data, got, SIZE);
    free(data);
    free(got);
    pair_free(&p);
    smkex_ctx_free(single);
}

static void reports_are_json(void **state)
{
    struct smkex_ctx *server = server_context(""), *client = client_context(server, "");
    struct pair p = handshake(client, server);
    char *text = smkex_report_json(p.s[0]);

    assert_non_null(strstr(text, "{\"outcome\": \"verified\""));
    assert_non_null(strstr(text, "\"state\": \"confirmed\""));
    assert_non_null(strstr(text, "\"device\": \"v1\""));
    OPENSSL_free(text);
    text = smkex_report_json(p.s[1]);
    assert_non_null(strstr(text, "\"role\": \"server\""));
    assert_non_null(strstr(text, "10.2.0.2"));
    OPENSSL_free(text);
    pair_free(&p);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verified_without_blocking_or_spinning),
        cmocka_unit_test(verified_on_blocking_sockets),
        cmocka_unit_test(offer_leaves_at_once),
        cmocka_unit_test(blocking_client_sees_the_end_behind_answer),
        cmocka_unit_test(contexts_may_go_first),
        cmocka_unit_test(same_device_is_no_second_path),
        cmocka_unit_test(without_proof_nothing_is_sent_or_delivered),
        cmocka_unit_test(single_path_is_called_so),
        cmocka_unit_test(modes_do_not_meet),
        cmocka_unit_test(plain_client_by_policy),
        cmocka_unit_test(plain_server_by_policy),
        cmocka_unit_test(stripped_path_1_is_no_plain_server),
        cmocka_unit_test(policy_off_is_plain),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(no_second_path_is_an_error_under_every_policy),
        cmocka_unit_test(keys_are_trusted_on_first_use),
        cmocka_unit_test(only_two_paths_vouch_for_a_change),
        cmocka_unit_test(servers_without_a_key_are_met_again),
        cmocka_unit_test(ends_are_told_from_cuts),
        cmocka_unit_test(back_pressure_loses_nothing),
        cmocka_unit_test(reports_are_json),
    };
    int failed;

    netns_setup();
    assert_non_null(mkdtemp(folder));
    open_listener();
    make_key("a");
    make_key("b");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    netns_sh("rm -r %s", folder);
    return failed;
}
