/* Concept: what a session costs in memory, by the allocator's own count (mallinfo2 before and
 * after, divided): core COUNT                      the pure table alone: sessions that wait, and
 * the same with a claim each pending COUNT WORDS|plain ...   a server whose clients went silent
 * after the ClientHello established COUNT WORDS|plain CLIENT-WORDS|plain ...   both ends of
 * sessions that are decided and kept The peer is a child process, so that the numbers are of one
 * end alone. */
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "bench.h"
#include "mtls/core/path2_server.h"
#include "mtls/core/wire_ext.h"
#include "mtls/core/wire_frame.h"
#include "mtls/net/engine.h"

enum { WARM = 64 };

static const char *cert, *key, *cafile;

static size_t in_use(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* ---- core ---- */

static void join_of(struct mtls_crypto *crypto, uint32_t i, uint8_t secret[MTLS_SECRET_LEN],
                    uint8_t join[MTLS_JOIN_LEN])
{
    memset(secret, 0x5a, MTLS_SECRET_LEN);
    memcpy(secret, &i, sizeof(i));
    bench_check(mtls_crypto_join(crypto, secret, join) == 0, "join");
}

static void sessions_add(struct mtls_p2s *p, struct mtls_crypto *crypto, uint32_t count)
{
    static const uint8_t ek[MTLS_EK_LEN] = {1}, th[MTLS_SHA256_LEN] = {2};
    uint8_t secret[MTLS_SECRET_LEN], join[MTLS_JOIN_LEN];
    struct mtls_p2s_session *x;
    struct mtls_keys keys;

    bench_check(mtls_keys_init(&keys, ek, th, sizeof(th)) == 0, "keys");
    for (uint32_t i = 0; i < count; i++) {
        join_of(crypto, i, secret, join);
        bench_check(mtls_p2s_session_new(&x, p, join, NULL, 1) == 0 &&
                        mtls_p2s_session_keys(x, &keys, 1) == 0,
                    "session");
    }
}

/* A connection of its own for each claim, as fresh ones are. */
static void claims_add(struct mtls_p2s *p, struct mtls_crypto *crypto, uint32_t count)
{
    struct mtls_addr peer = {.family = 4, .port = 1};
    uint8_t secret[MTLS_SECRET_LEN], join[MTLS_JOIN_LEN], wire[MTLS_PREFACE_LEN + MTLS_HELLO_LEN];
    struct mtls_p2s_conn *c;
    size_t len;

    for (uint32_t i = 0; i < count; i++) {
        join_of(crypto, i, secret, join);
        memcpy(peer.ip, &i, sizeof(i));
        memcpy(wire, mtls_preface, MTLS_PREFACE_LEN);
        mtls_frame_hello(wire + MTLS_PREFACE_LEN, 1, 443, 0, secret, secret);
        bench_check(mtls_p2s_conn_new(&c, p, &peer, NULL, 1) == 0 &&
                        mtls_p2s_conn_input(c, wire, sizeof(wire), 1) == 0,
                    "claim");
        (void)mtls_p2s_conn_out(c, &len);
        mtls_p2s_conn_sent(c, len);
    }
}

static int core(uint32_t count)
{
    struct mtls_p2s_config config = {.max_pending = count + 1,
                                     .per_source = 256,
                                     .claim_ttl = 1u << 30,
                                     .hello_ttl = 1u << 30,
                                     .idle_ttl = 1u << 30,
                                     .ended_ttl = 1u << 30};
    static const struct mtls_p2s_events none;
    struct mtls_p2s_stats stats;
    struct mtls_crypto *crypto;
    struct mtls_p2s *p = NULL;
    size_t at[3];
    uint64_t ns[3];

    bench_check(mtls_engine_crypto(&crypto) == 0 &&
                    mtls_p2s_new(&p, crypto, &config, &none, NULL) == 0,
                "table");
    at[0] = in_use();
    ns[0] = bench_clock_ns(CLOCK_MONOTONIC);
    sessions_add(p, crypto, count);
    at[1] = in_use();
    ns[1] = bench_clock_ns(CLOCK_MONOTONIC);
    claims_add(p, crypto, count);
    at[2] = in_use();
    ns[2] = bench_clock_ns(CLOCK_MONOTONIC);
    mtls_p2s_stats(p, &stats);
    bench_check(stats.sessions == count && stats.proofs == count, "proofs");
    printf("{\"count\": %u, \"session_bytes\": %.1f, \"claim_bytes\": %.1f, \"session_ns\": %.0f, "
           "\"claim_ns\": %.0f}\n",
           count, (double)(at[1] - at[0]) / count, (double)(at[2] - at[1]) / count,
           (double)(ns[1] - ns[0]) / count, (double)(ns[2] - ns[1]) / count);
    mtls_p2s_free(p);
    return 0;
}

/* ---- real sessions ---- */

static int add_offer(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
                     size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    static uint8_t buf[MTLS_EXT_CH_MAX];
    struct mtls_ext_ch ch = {.nver = 1, .versions = {MTLS_VERSION_1}};
    uint32_t *next = arg;
    int n;

    if (context != SSL_EXT_CLIENT_HELLO)
        return 0;
    (*next)++;
    memcpy(ch.join, next, sizeof(*next));
    n = mtls_ext_ch_encode(&ch, buf, sizeof(buf));
    *out = buf;
    *outlen = (size_t)n;
    return n > 0 ? 1 : -1;
}

static int tcp_to(unsigned port)
{
    struct sockaddr_in sin = bench_addr("127.0.0.1", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, "connect");
    return fd;
}

/* Sends a ClientHello each, with our extension, and no more. */
static void silent_clients(unsigned port, int count)
{
    SSL_CTX *ctx = bench_client_ctx(NULL, cafile);
    static uint32_t next;

    SSL_CTX_add_custom_ext(ctx, MTLS_EXT_TYPE,
                           SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS, add_offer,
                           NULL, &next, NULL, NULL);
    for (int i = 0; i < count; i++) {
        SSL *ssl = SSL_new(ctx);
        BIO *out = BIO_new(BIO_s_mem());
        int fd = tcp_to(port);
        char *hello;
        long len;

        SSL_set_tlsext_host_name(ssl, BENCH_NAME);
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
        bench_check(SSL_connect(ssl) == -1 && (len = BIO_get_mem_data(out, &hello)) > 0 &&
                        write(fd, hello, (size_t)len) == len,
                    "ClientHello");
        SSL_free(ssl);
    }
}

static void keeping_clients(unsigned port, int count, const char *words, int tell)
{
    SSL_CTX *ctx = bench_client_ctx(words, cafile);
    double bytes;
    size_t began = 0;

    for (int i = 0; i < WARM + count; i++) {
        SSL *ssl = SSL_new(ctx);
        char in[1];

        if (i == WARM)
            began = in_use();
        SSL_set_tlsext_host_name(ssl, BENCH_NAME);
        X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), BENCH_NAME, 0);
        SSL_set_fd(ssl, tcp_to(port));
        bench_check(SSL_connect(ssl) == 1, "SSL_connect");
        bench_check(words == NULL || mtls_get_outcome(ssl) == MTLS_OUTCOME_VERIFIED, "outcome");
        bench_check(SSL_read(ssl, in, 1) == 1, "SSL_read");
    }
    bytes = (double)(in_use() - began) / count;
    bench_check(write(tell, &bytes, sizeof(bytes)) == sizeof(bytes), "write");
}

static int listen_any(unsigned *port)
{
    struct sockaddr_in sin = bench_addr("127.0.0.1", 0);
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(bind(fd, (struct sockaddr *)&sin, len) == 0 && listen(fd, 1024) == 0 &&
                    getsockname(fd, (struct sockaddr *)&sin, &len) == 0,
                "listen");
    *port = ntohs(sin.sin_port);
    return fd;
}

static SSL *accept_one(SSL_CTX *ctx, int listener, bool pending)
{
    int fd = accept(listener, NULL, NULL);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    SSL *ssl = SSL_new(ctx);

    bench_nodelay(fd);
    SSL_set_fd(ssl, fd);
    if (pending) {
        bench_check(poll(&p, 1, -1) == 1 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "poll");
        bench_check(SSL_accept(ssl) == -1 && SSL_get_error(ssl, -1) == SSL_ERROR_WANT_READ,
                    "SSL_accept");
    } else {
        bench_check(SSL_accept(ssl) == 1 && SSL_write(ssl, "k", 1) == 1, "SSL_accept");
    }
    return ssl;
}

static double accept_all(SSL_CTX *ctx, int listener, int count, bool pending)
{
    size_t began = 0;

    for (int i = 0; i < WARM + count; i++) {
        if (i == WARM)
            began = in_use();
        (void)accept_one(ctx, listener, pending);
    }
    return (double)(in_use() - began) / count;
}

static const char *words_of(const char *arg)
{
    return strcmp(arg, "plain") == 0 ? NULL : arg;
}

/* The words of the client may hold %s for the server's path-2 address, told through the pipe. */
static void child(int from, int to, unsigned port, int count, const char *words)
{
    char path2[64] = "", text[512];
    ssize_t n = read(from, path2, sizeof(path2) - 1);
    const char *hole = words != NULL ? strstr(words, "%s") : NULL;

    bench_check(n >= 0, "read");
    if (hole != NULL)
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(hole - words), words, path2, hole + 2);
    if (to < 0)
        silent_clients(port, WARM + count);
    else
        keeping_clients(port, count, hole != NULL ? text : words, to);
    (void)pause(); /* until the parent has counted */
}

static void child_died(int number)
{
    (void)number;
    _exit(1); /* it has said why */
}

static int sessions(bool pending, int count, const char *server_words, const char *client_words)
{
    int down[2], up[2], listener;
    const char *path2 = NULL;
    double server, client = 0;
    unsigned port;
    SSL_CTX *ctx;
    pid_t pid;

    bench_check(pipe(down) == 0 && pipe(up) == 0, "pipe");
    listener = listen_any(&port);
    signal(SIGCHLD, child_died);
    pid = fork();
    if (pid == 0)
        child(down[0], pending ? -1 : up[1], port, count, client_words);
    ctx = bench_server_ctx(server_words, cert, key);
    path2 = server_words != NULL ? mtls_ssl_ctx_get0_listener(ctx, 0) : "-";
    bench_check(write(down[1], path2, strlen(path2)) > 0, "write");
    server = accept_all(ctx, listener, count, pending);
    bench_check(pending || read(up[0], &client, sizeof(client)) == sizeof(client), "read");
    signal(SIGCHLD, SIG_DFL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    printf("{\"count\": %d, \"server_bytes\": %.1f, \"client_bytes\": %.1f}\n", count, server,
           client);
    fflush(stdout);
    _exit(0); /* the sessions are left to the system */
}

int main(int argc, char **argv)
{
    struct rlimit files;

    bench_check(argc >= 3, "usage");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (strcmp(argv[1], "core") == 0)
        return core((uint32_t)atoi(argv[2]));
    bench_check(argc == 8, "usage");
    cert = argv[5];
    key = argv[6];
    cafile = argv[7];
    return sessions(strcmp(argv[1], "pending") == 0, atoi(argv[2]), words_of(argv[3]),
                    words_of(argv[4]));
}
