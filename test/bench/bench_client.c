/* Concept: the benchmark's client, plain or hooked by its command line alone. One run is one
 * measurement, in one line of JSON: handshakes  COUNT full or resumed handshakes on THREADS
 * blocking threads throughput  BYTES up, then down, on one connection latency     from path 1's
 * connect to the first application byte back, once, after WARM unmeasured sessions */
#include <pthread.h>

#include <mtls/confirmation.h>

#include "bench.h"

enum { THREADS_MAX = 64 };

static struct {
    const char *host, *words, *cafile;
    unsigned port, bare; /* bare: port of the second connection without a protocol, 0 = none */
    SSL_CTX *ctx;
    bool announce, resume, confirm, keep, hollow;
    int count, threads, warm, hold;
    uint64_t bytes;
} client = {.host = "127.0.0.1", .count = 100, .threads = 4};

struct counts {
    int verified, resumed_verified, resumed, wrong;
};

static int tcp_connect(void)
{
    struct sockaddr_in sin = bench_addr(client.host, client.port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, "connect");
    bench_nodelay(fd);
    return fd;
}

static SSL *ssl_new(int fd, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(client.ctx);

    bench_check(ssl != NULL && SSL_set_tlsext_host_name(ssl, BENCH_NAME) == 1 &&
                    X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), BENCH_NAME, 0) == 1 &&
                    SSL_set_fd(ssl, fd) == 1 &&
                    (session == NULL || SSL_set_session(ssl, session) == 1),
                "SSL_new");
    return ssl;
}

static void ssl_end(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    if (SSL_shutdown(ssl) == 0)
        (void)SSL_shutdown(ssl); /* until the peer's: its tickets are read on the way */
    SSL_free(ssl);
    close(fd);
}

static SSL *handshake(SSL_SESSION *session)
{
    static _Thread_local int bare = -1;
    SSL *ssl = ssl_new(tcp_connect(), session);

    if (client.bare != 0 && bare < 0)
        bare = bench_bare_connect("127.0.1.1", client.bare, NULL);
    if (bare >= 0)
        bench_bare_begin(bare);
    bench_check(SSL_connect(ssl) == 1, "SSL_connect");
    if (bare >= 0) {
        bench_bare_await(bare);
        bench_bare_confirm(bare, client.keep);
    }
    if (!client.keep)
        bare = -1;
    return ssl;
}

static void order(SSL *ssl, uint8_t what, uint64_t bytes)
{
    uint8_t out[BENCH_ORDER_LEN] = {what};

    bench_put64(out + 1, bytes);
    bench_check(SSL_write(ssl, out, sizeof(out)) == (int)sizeof(out), "SSL_write");
}

static void answer(SSL *ssl)
{
    uint8_t in[1];

    bench_check(SSL_read(ssl, in, 1) == 1, "SSL_read");
}

/* A session whose ticket is here. */
static SSL_SESSION *ticket(void)
{
    SSL *ssl = handshake(NULL);
    SSL_SESSION *session;

    order(ssl, BENCH_ECHO, 0);
    answer(ssl);
    session = SSL_get1_session(ssl);
    bench_check(SSL_SESSION_is_resumable(session) == 1, "ticket");
    ssl_end(ssl);
    return session;
}

/* ---- handshakes ---- */

static SSL_SESSION *resumed_from;

/* confirm=resume: by the server's own ticket, on a path 2 of its own. */
static void confirm(SSL *ssl, struct mtls_confirmation *c, struct counts *counts)
{
    bench_check(mtls_confirmation_run(c, ssl) == 1, "mtls_confirmation_run");
    counts->verified += mtls_confirmation_verdict(c) == MTLS_VERDICT_VERIFIED;
    mtls_confirmation_free(c);
    ssl_end(ssl);
}

static struct mtls_confirmation *confirmation(void)
{
    struct mtls_confirmation *c =
        mtls_confirmation_new(client.words, BENCH_NAME, (uint16_t)client.port, NULL);

    bench_check(c != NULL, "mtls_confirmation_new");
    return c;
}

static void *hands_main(void *arg)
{
    struct counts *counts = arg;
    int n = client.count / client.threads;

    for (; client.confirm && n > 0; n--) {
        struct mtls_confirmation *c = confirmation();

        confirm(handshake(NULL), c, counts);
    }
    while (n-- > 0) {
        SSL *ssl = handshake(resumed_from);
        enum mtls_outcome outcome = mtls_get_outcome(ssl);

        counts->verified += outcome == MTLS_OUTCOME_VERIFIED;
        counts->resumed_verified += outcome == MTLS_OUTCOME_RESUMED_VERIFIED;
        counts->resumed += SSL_session_reused(ssl) == 1;
        counts->wrong +=
            client.words != NULL ? outcome == MTLS_OUTCOME_NONE : outcome != MTLS_OUTCOME_NONE;
        ssl_end(ssl);
    }
    return NULL;
}

/* Sessions that stay open while others are measured. */
static void hold(SSL **held)
{
    for (int i = 0; i < client.hold; i++)
        held[i] = handshake(NULL);
}

static void release(SSL **held)
{
    for (int i = 0; i < client.hold; i++)
        ssl_end(held[i]);
    free(held);
}

static int hands(void)
{
    SSL **held = calloc((size_t)client.hold + 1, sizeof(SSL *));
    struct counts counts[THREADS_MAX] = {{0, 0, 0, 0}}, all = {0, 0, 0, 0};
    pthread_t threads[THREADS_MAX];
    uint64_t cpu, wall;
    int i;

    resumed_from = client.resume ? ticket() : NULL;
    for (i = 0; i < client.warm; i++)
        ssl_end(handshake(resumed_from));
    bench_check(held != NULL, "memory");
    hold(held);
    if (client.hold > 0) { /* the driver looks at the server's clock now */
        puts("{}");
        fflush(stdout);
        (void)getchar();
    }
    cpu = bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    wall = bench_clock_ns(CLOCK_MONOTONIC);
    for (i = 0; i < client.threads; i++)
        bench_check(pthread_create(&threads[i], NULL, hands_main, &counts[i]) == 0,
                    "pthread_create");
    for (i = 0; i < client.threads; i++) {
        pthread_join(threads[i], NULL);
        all.verified += counts[i].verified;
        all.resumed_verified += counts[i].resumed_verified;
        all.resumed += counts[i].resumed;
        all.wrong += counts[i].wrong;
    }
    printf("{\"cpu_ns\": %" PRIu64 ", \"wall_ns\": %" PRIu64
           ", \"count\": %d, \"verified\": %d, \"resumed_verified\": %d, \"resumed\": %d, "
           "\"wrong\": %d}\n",
           bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu, bench_clock_ns(CLOCK_MONOTONIC) - wall,
           client.count / client.threads * client.threads, all.verified, all.resumed_verified,
           all.resumed, all.wrong);
    fflush(stdout);
    SSL_SESSION_free(resumed_from);
    release(held);
    return all.wrong != 0;
}

/* ---- throughput ---- */

static void send_all(SSL *ssl)
{
    static const uint8_t block[BENCH_RECORD];
    uint64_t left = client.bytes;

    order(ssl, BENCH_UP, left);
    while (left > 0) {
        int n = SSL_write(ssl, block, left < sizeof(block) ? (int)left : (int)sizeof(block));

        bench_check(n > 0, "SSL_write");
        left -= (uint64_t)n;
    }
    answer(ssl);
}

static void receive_all(SSL *ssl)
{
    static uint8_t block[BENCH_RECORD];
    uint64_t left = client.bytes;

    order(ssl, BENCH_DOWN, left);
    while (left > 0) {
        int n = SSL_read(ssl, block, sizeof(block));

        bench_check(n > 0, "SSL_read");
        left -= (uint64_t)n;
    }
}

static int throughput(void)
{
    SSL *ssl = handshake(NULL);
    uint64_t began, up, down;

    bench_check(client.words == NULL || mtls_get_outcome(ssl) == MTLS_OUTCOME_VERIFIED, "outcome");
    began = bench_clock_ns(CLOCK_MONOTONIC);
    send_all(ssl);
    up = bench_clock_ns(CLOCK_MONOTONIC) - began;
    began = bench_clock_ns(CLOCK_MONOTONIC);
    receive_all(ssl);
    down = bench_clock_ns(CLOCK_MONOTONIC) - began;
    printf("{\"bytes\": %" PRIu64 ", \"up_ns\": %" PRIu64 ", \"down_ns\": %" PRIu64 "}\n",
           client.bytes, up, down);
    ssl_end(ssl);
    return 0;
}

/* ---- latency ---- */

static SSL *first_byte(uint64_t *connected)
{
    uint64_t began = bench_clock_ns(CLOCK_MONOTONIC);
    SSL *ssl;
    int fd;

    if (client.announce)
        bench_check(mtls_announce(client.ctx, BENCH_NAME, (uint16_t)client.port) == 1,
                    "mtls_announce");
    fd = tcp_connect();
    *connected = bench_clock_ns(CLOCK_MONOTONIC) - began;
    ssl = ssl_new(fd, NULL);
    bench_check(SSL_connect(ssl) == 1, "SSL_connect");
    order(ssl, BENCH_ECHO, 0);
    answer(ssl);
    return ssl;
}

static int latency(void)
{
    uint64_t began, connected = 0, took = 0;
    char *json;
    SSL *ssl;

    for (int i = 0; i < client.warm; i++)
        ssl_end(first_byte(&connected));
    began = bench_clock_ns(CLOCK_MONOTONIC);
    ssl = first_byte(&connected);
    took = bench_clock_ns(CLOCK_MONOTONIC) - began;
    json = client.words != NULL ? mtls_report_json(ssl) : NULL;
    printf("{\"ns\": %" PRIu64 ", \"connect_ns\": %" PRIu64
           ", \"outcome\": \"%s\", \"report\": %s}\n",
           took, connected, mtls_outcome_name(mtls_get_outcome(ssl)), json != NULL ? json : "null");
    OPENSSL_free(json);
    ssl_end(ssl);
    return 0;
}

static void option(int opt)
{
    switch (opt) {
    case 'h':
        client.host = optarg;
        break;
    case 'P':
        client.port = (unsigned)atoi(optarg);
        break;
    case 'w':
        client.words = optarg;
        break;
    case 'a':
        client.cafile = optarg;
        break;
    case 'p':
        bench_pin(atoi(optarg));
        break;
    case 'n':
        client.count = atoi(optarg);
        break;
    case 't':
        client.threads = atoi(optarg);
        break;
    case 'W':
        client.warm = atoi(optarg);
        break;
    case 'H':
        client.hold = atoi(optarg);
        break;
    case 'b':
        client.bytes = strtoull(optarg, NULL, 10);
        break;
    case 'B':
        client.bare = (unsigned)atoi(optarg);
        break;
    case 'K':
        client.keep = true;
        break;
    case 'A':
        client.announce = true;
        break;
    case 'r':
        client.resume = true;
        break;
    case 'C':
        client.confirm = true;
        break;
    case 'o':
        client.hollow = true;
        break;
    default:
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"host", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'P'},
                                            {"words", required_argument, NULL, 'w'},
                                            {"cafile", required_argument, NULL, 'a'},
                                            {"cpu", required_argument, NULL, 'p'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"warm", required_argument, NULL, 'W'},
                                            {"hold", required_argument, NULL, 'H'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"announce", no_argument, NULL, 'A'},
                                            {"resume", no_argument, NULL, 'r'},
                                            {"bare", required_argument, NULL, 'B'},
                                            {"keep-bare", no_argument, NULL, 'K'},
                                            {"confirm", no_argument, NULL, 'C'},
                                            {"hollow", no_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
        option(opt);
    if (optind + 1 != argc || client.cafile == NULL || client.threads < 1 ||
        client.threads > THREADS_MAX)
        return 1;
    client.ctx = bench_client_ctx(client.confirm ? NULL : client.words, client.cafile);
    if (client.hollow)
        bench_hollow(client.ctx);
    if (strcmp(argv[optind], "handshakes") == 0)
        return hands();
    return strcmp(argv[optind], "throughput") == 0 ? throughput() : latency();
}
