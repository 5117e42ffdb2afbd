/* The client's secondary connections on real sockets: what their end means, where they lead, and
 * how many are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "mtls/net/engine.h"
#include "mtls/net/path2_conn.h"
#include "mtls/net/path2_pool.h"
#include "mtls/net/path2_socket.h"
#include "mtls/net/reactor.h"
#include "mtls/net/route.h"
#include "mtls/net/secondary.h"
#include "netns.h"

enum { FILES = 256, ROOM = FILES / 4 };

static int listener;
static struct mtls_addr there;
static uint8_t secret[MTLS_SECRET_LEN] = {1};

static struct mtls_path_spec spec_of(const char *text)
{
    struct mtls_config config;
    char line[200];

    mtls_config_init(&config);
    (void)snprintf(line, sizeof(line), "path2=%s", text);
    assert_int_equal(mtls_config_apply(&config, line, NULL, 0), 0);
    return config.path2[0];
}

static struct mtls_path2_request request(const struct mtls_path_spec *spec, const char *name)
{
    return (struct mtls_path2_request){
        .name = name, .port1 = 443, .spec = spec, .reuse = true, .secret = secret};
}

static int start(void **state)
{
    struct rlimit files;
    struct mtls_host h;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = FILES;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    assert_int_equal(mtls_host_parse(&h, "203.0.113.1"), 0);
    netns_go_there();
    assert_int_equal(mtls_path2_listen(&h.addr, &listener, &there), 0);
    netns_go_here();
    mtls_engine_lock();
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), true), 0);
    mtls_engine_unlock();
    return 0;
}

/* One round of the reactor, at most so long. */
static void work(int timeout_ms)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};

    assert_true(p.fd >= 0);
    (void)!poll(&p, 1, timeout_ms);
    assert_int_equal(mtls_reactor_dispatch_lock(), 0);
}

static struct mtls_path2_claim *claim_new(const struct mtls_path2_request *req)
{
    struct mtls_path2_claim *claim = NULL;

    mtls_engine_lock();
    assert_int_equal(mtls_path2_claim_new(&claim, req, NULL, NULL, mtls_now()), 0);
    mtls_engine_unlock();
    return claim;
}

static void claim_free(struct mtls_path2_claim *claim)
{
    mtls_engine_lock();
    mtls_path2_claim_free(claim);
    mtls_engine_unlock();
}

static struct mtls_path_status status_of(const struct mtls_path2_claim *claim)
{
    struct mtls_path_status s;

    mtls_engine_lock();
    mtls_path2_claim_status(claim, &s);
    mtls_engine_unlock();
    return s;
}

/* The server's end of the next connection, once its first byte is here. */
static int accept_one(void)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    char c;
    int fd;

    for (int i = 0; i < 1000 && poll(&p, 1, 0) <= 0; i++)
        work(10);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    p.fd = fd;
    for (int i = 0; i < 1000 && poll(&p, 1, 0) <= 0; i++)
        work(10);
    assert_int_equal(recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT), 1);
    return fd;
}

static int wait_failed(const struct mtls_path2_claim *claim)
{
    for (int i = 0; i < 1000 && status_of(claim).state != MTLS_PATH_FAILED; i++)
        work(10);
    assert_int_equal(status_of(claim).state, MTLS_PATH_FAILED);
    return status_of(claim).error;
}

/* The pool's own socket that leads to the listener. */
static int pools_socket(void)
{
    struct sockaddr_storage ss;
    struct mtls_addr a;

    for (int fd = 3; fd < FILES; fd++) {
        socklen_t len = sizeof(ss);

        if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0 &&
            mtls_addr_from_sockaddr(&a, (struct sockaddr *)&ss, len) == 0 && a.port == there.port &&
            memcmp(a.ip, there.ip, 4) == 0)
            return fd;
    }
    fail();
    return -1;
}

/* [DWN-4] A close or a reset before READY is the server's word. */
static void test_closed(void **state)
{
    struct mtls_path_spec spec = spec_of("dev=v0,remote=203.0.113.1");
    struct mtls_path2_request req = request(&spec, "a.example");
    struct linger reset = {.l_onoff = 1};

    spec.port = there.port;
    for (int i = 0; i < 2; i++) {
        struct mtls_path2_claim *claim = claim_new(&req);
        int fd = accept_one();

        if (i == 1)
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        close(fd);
        assert_int_equal(wait_failed(claim), MTLS_ERR_PATH_CLOSED);
        claim_free(claim);
    }
}

/* [DWN-4] Silence on an open connection is not, nor what the network says of it. */
static void test_lost(void **state)
{
    struct mtls_path_spec spec = spec_of("dev=v0,remote=203.0.113.1");
    struct mtls_path2_request req = request(&spec, "b.example");
    struct mtls_path2_claim *claim, *second;
    unsigned short_ms = 50;
    int fd;

    spec.port = there.port;
    claim = claim_new(&req);
    fd = accept_one();
    assert_int_equal(
        setsockopt(pools_socket(), IPPROTO_TCP, TCP_USER_TIMEOUT, &short_ms, sizeof(short_ms)), 0);
    netns_go_there();
    netns_sh("ip link set p0 down");
    netns_go_here();
    second = claim_new(&req);
    assert_int_equal(wait_failed(claim), MTLS_ERR_PATH_TIMEOUT);
    assert_int_equal(wait_failed(second), MTLS_ERR_PATH_TIMEOUT);
    netns_go_there();
    netns_sh("ip link set p0 up");
    netns_go_here();
    claim_free(claim);
    claim_free(second);
    close(fd);
}

/* An address from the memory without a port of its own leads to path 2's port [PATH-5]. */
static void test_stored_port(void **state)
{
    struct mtls_path_spec spec = spec_of("dev=v0");
    struct mtls_path2_request req = request(&spec, "c.example");
    struct mtls_addr stored = there;
    struct mtls_path2_claim *claim;

    spec.port = there.port;
    stored.port = 0;
    req.stored = &stored;
    req.nstored = 1;
    claim = claim_new(&req);
    close(accept_one());
    (void)wait_failed(claim);
    claim_free(claim);
    spec.port = 1; /* and one with a port to its own */
    stored.port = there.port;
    claim = claim_new(&req);
    close(accept_one());
    (void)wait_failed(claim);
    claim_free(claim);
}

/* Whether a kept connection to name is open. */
static bool is_warm(const struct mtls_path_spec *spec, const char *name)
{
    struct mtls_path2_request req = request(spec, name);
    bool warm;

    mtls_engine_lock();
    warm = mtls_path2_is_warm(&req, mtls_now());
    mtls_engine_unlock();
    return warm;
}

/* Kept connections make room for new ones, the oldest first; one with an open claim never. */
static void test_full(void **state)
{
    struct mtls_path_spec spec = spec_of("dev=v0,remote=203.0.113.1");
    struct mtls_path2_claim *claims[ROOM + 1] = {NULL}, *extra = NULL;
    struct mtls_path2_request req;
    char names[ROOM + 2][16];
    int fds[ROOM + 2], i;

    spec.port = there.port;
    for (i = 0; i < ROOM + 2; i++)
        (void)snprintf(names[i], sizeof(names[i]), "h%d.example", i);
    for (i = 0; i < ROOM; i++) {
        req = request(&spec, names[i]);
        claims[i] = claim_new(&req);
        fds[i] = accept_one();
    }
    req = request(&spec, names[ROOM]);
    mtls_engine_lock();
    assert_int_equal(mtls_path2_claim_new(&extra, &req, NULL, NULL, mtls_now()), MTLS_ERR_LIMIT);
    mtls_engine_unlock();
    for (i = 1; i < ROOM; i++) /* all but the very oldest are kept without a claim now */
        claim_free(claims[i]);
    assert_true(is_warm(&spec, names[1]));
    for (i = ROOM; i < ROOM + 2; i++) {
        req = request(&spec, names[i]);
        extra = claim_new(&req);
        assert_int_equal(status_of(extra).state, MTLS_PATH_STARTING);
        fds[i] = accept_one();
        claim_free(extra);
        assert_false(is_warm(&spec, names[i - ROOM + 1]));
        assert_true(is_warm(&spec, names[i - ROOM + 2]));
        assert_true(is_warm(&spec, names[i]));
    }
    assert_int_equal(status_of(claims[0]).state, MTLS_PATH_STARTING);
    claim_free(claims[0]);
    for (i = 0; i < ROOM + 2; i++)
        close(fds[i]);
}

/* READY and PROOF for the claim that fd's connection begins with. */
static void answer_claim(int fd)
{
    uint8_t in[MTLS_PREFACE_LEN + MTLS_HELLO_LEN], zero[32] = {0}, hash[MTLS_SHA256_LEN];
    uint8_t out[MTLS_PREFACE_LEN + MTLS_READY_LEN + MTLS_PROOF_LEN];
    const struct mtls_bytes hello = {in + MTLS_PREFACE_LEN, MTLS_HELLO_LEN};
    struct mtls_crypto *crypto;

    assert_int_equal(recv(fd, in, sizeof(in), MSG_WAITALL), sizeof(in));
    mtls_engine_lock();
    assert_int_equal(mtls_engine_crypto(&crypto), 0);
    assert_int_equal(mtls_crypto_sha256(crypto, &hello, 1, hash), 0);
    mtls_engine_unlock();
    memcpy(out, mtls_preface, MTLS_PREFACE_LEN);
    mtls_frame_ready(out + MTLS_PREFACE_LEN, 1, MTLS_READY_OK, zero, hash);
    mtls_frame_proof(out + MTLS_PREFACE_LEN + MTLS_READY_LEN, 1, 0, 1, zero);
    assert_int_equal(send(fd, out, sizeof(out), MSG_NOSIGNAL), sizeof(out));
}

static struct tcp_info info_of(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info;
}

/* CONFIRM leaves at once: with the end of a connection that is not kept in the same segment, or
 * alone. */
static void test_last_word(void **state)
{
    struct mtls_path_spec spec = spec_of("dev=v0,remote=203.0.113.1");

    spec.port = there.port;
    for (int reuse = 0; reuse < 2; reuse++) {
        struct mtls_path2_request req = request(&spec, reuse ? "kept.example" : "once.example");
        uint8_t tag[MTLS_TAG_LEN] = {0}, in[256];
        struct mtls_path2_claim *claim;
        struct pollfd p = {.events = POLLIN};
        unsigned before;
        int fd;

        req.reuse = reuse == 1;
        claim = claim_new(&req);
        p.fd = fd = accept_one();
        answer_claim(fd);
        for (int i = 0; i < 1000 && status_of(claim).state != MTLS_PATH_PROOF; i++)
            work(10);
        for (int i = 0; i < 1000 && info_of(fd).tcpi_unacked > 0; i++)
            work(10);
        before = info_of(fd).tcpi_segs_in;
        mtls_engine_lock();
        assert_int_equal(mtls_path2_claim_confirm(claim, 0, 1, 1, tag), 0);
        mtls_engine_unlock();
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(recv(fd, in, sizeof(in), MSG_DONTWAIT), MTLS_CONFIRM_LEN);
        assert_int_equal(recv(fd, in, sizeof(in), MSG_DONTWAIT), reuse ? -1 : 0);
        assert_int_equal(info_of(fd).tcpi_segs_in, before + 1);
        claim_free(claim);
        assert_int_equal(is_warm(&spec, req.name), reuse);
        close(fd);
        while (is_warm(&spec, req.name))
            work(10);
    }
}

/* [PATH-9] A connection whose device is not the one that it was noted on is not known, however
 * often it is looked at. */
static void test_moved(void **state)
{
    struct mtls_path2_conn c = {.state = CONN_OPEN};
    struct mtls_path_facts facts, path1;
    unsigned scope = 0;

    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c.fd >= 0);
    {
        struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(there.port)};

        memcpy(&sin.sin_addr, there.ip, 4);
        assert_int_equal(connect(c.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    }
    mtls_path2_conn_note(&c);
    mtls_path2_conn_facts(&c, &facts);
    assert_true(facts.known);
    path1 = facts;
    (void)mtls_secondary_judge(NULL, 0, c.fd, &path1, &scope);
    assert_true(path1.known && path1.ifindex == facts.ifindex);

    c.facts_then.ifindex++;
    path1.ifindex++;
    for (int i = 0; i < 2; i++) {
        mtls_path2_conn_facts(&c, &facts);
        assert_false(facts.known);
        (void)mtls_secondary_judge(NULL, 0, c.fd, &path1, &scope);
        assert_int_equal(path1.ifindex, c.facts_then.ifindex); /* and so it is moved again */
    }
    close(c.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed),      cmocka_unit_test(test_lost),
        cmocka_unit_test(test_stored_port), cmocka_unit_test(test_last_word),
        cmocka_unit_test(test_full),        cmocka_unit_test(test_moved),
    };

    netns_setup();
    return cmocka_run_group_tests(tests, start, NULL);
}
