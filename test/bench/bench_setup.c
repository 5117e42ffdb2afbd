/* Concept: the benchmark's client for connection set-up: one sample for each line that it reads,
 * from the first connect() to the first byte of the server's answer, by wall clock. Plain TCP or
 * MPTCP below; nothing, SMKEX or TLS above; what the words say beside it. A driver asks several
 * such processes in turn, so that the ways which are compared share whatever else the machine does.
 */
#include <pthread.h>
#include <semaphore.h>

#include <mtls/confirmation.h>
#include <mtls/smkex.h>

#include "bench.h"
#include "mtls/net/route.h"

static struct {
    const char *host, *words, *cafile, *device;
    unsigned port, bare; /* bare: port of a second connection over device, with no protocol in it */
    int transport;
    bool tls, smkex, announce, resume, confirm;
    bool hollow;
    bool needs; /* beside the second connection: bench_needs.c, and where both paths go */
    SSL_CTX *ctx;
    struct smkex_ctx *smkex_ctx;
    SSL_SESSION *session;
} client = {.host = "127.0.0.1", .transport = IPPROTO_TCP};

struct sample {
    uint64_t connected, ready, first; /* ns from the start */
    uint64_t first_at;                /* of the day, as a packet capture has it */
    const char *outcome;
};

static uint64_t began;

static uint64_t elapsed(void)
{
    return bench_clock_ns(CLOCK_MONOTONIC) - began;
}

static uint64_t answered(struct sample *s)
{
    s->first_at = bench_clock_ns(CLOCK_REALTIME);
    return elapsed();
}

static sem_t path1_connected, known;
static int path1, path2;
static struct mtls_path_facts facts;

static int path1_connect(struct sample *s)
{
    struct sockaddr_in sin = bench_addr(client.host, client.port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, client.transport);

    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, "connect");
    s->connected = elapsed();
    bench_nodelay(fd);
    path1 = fd;
    if (client.needs)
        sem_post(&path1_connected);
    return fd;
}

/* ---- a second connection beside path 1, on a thread of its own ---- */

static sem_t second_begins, second_ended;

static void sem_await(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        continue;
}

/* What a hooked client asks the kernel while the server works; path 1's facts last. */
static void look_up(int fd)
{
    sem_await(&path1_connected);
    bench_check(mtls_route_of_socket(fd, &facts) == 0 && mtls_route_of_socket(path1, &facts) == 0,
                "mtls_route_of_socket");
}

/* And what it does when it decides. ssl NULL: there is no TLS. */
static void needs(SSL *ssl)
{
    if (ssl != NULL)
        bench_needs(ssl);
    sem_await(&known);
    for (int path = 0; path < 2; path++)
        bench_check(mtls_route_again(path1, &facts) == 0, "mtls_route_again");
    bench_bare_confirm(path2, false);
}

static void *second_main(void *arg)
{
    (void)arg;
    for (;;) {
        sem_await(&second_begins);
        path2 = bench_bare_connect(client.host, client.bare, client.device);
        bench_bare_begin(path2);
        if (client.needs)
            look_up(path2);
        bench_bare_await(path2);
        if (client.needs)
            sem_post(&known);
        else
            bench_bare_confirm(path2, false);
        sem_post(&second_ended);
    }
    return NULL;
}

static void second_start(void)
{
    pthread_t thread;

    bench_check(sem_init(&second_begins, 0, 0) == 0 && sem_init(&second_ended, 0, 0) == 0 &&
                    sem_init(&path1_connected, 0, 0) == 0 && sem_init(&known, 0, 0) == 0 &&
                    pthread_create(&thread, NULL, second_main, NULL) == 0,
                "thread");
}

/* ---- nothing above the connection ---- */

static void bare_sample(struct sample *s)
{
    char c = BENCH_ECHO;
    int fd = path1_connect(s);

    s->ready = elapsed();
    bench_check(write(fd, &c, 1) == 1 && read(fd, &c, 1) == 1, "echo");
    s->first = answered(s);
    s->outcome = "plain";
    close(fd);
}

/* ---- SMKEX ---- */

static void smkex_sample(struct sample *s)
{
    struct smkex *session = NULL;
    char c = BENCH_ECHO;
    int fd;

    if (client.announce)
        bench_check(smkex_announce(client.smkex_ctx, client.host, (uint16_t)client.port) == 0,
                    "smkex_announce");
    fd = path1_connect(s);
    bench_check(smkex_client_new(&session, client.smkex_ctx, fd, client.host) == 0,
                "smkex_client_new");
    if (smkex_handshake(session) != 0) { /* where there is loss: the driver counts it */
        s->outcome = mtls_error_name(smkex_get_reason(session));
        smkex_free(session);
        close(fd);
        return;
    }
    if (client.needs)
        needs(NULL);
    s->ready = elapsed();
    bench_check(smkex_write(session, &c, 1) == 1 && smkex_read(session, &c, 1) == 1, "echo");
    s->first = answered(s);
    s->outcome = smkex_outcome_name(smkex_get_outcome(session));
    (void)smkex_shutdown(session);
    smkex_free(session);
    close(fd);
}

/* ---- TLS ---- */

static void echo(SSL *ssl)
{
    uint8_t out[BENCH_ORDER_LEN] = {BENCH_ECHO}, in[1];

    bench_check(SSL_write(ssl, out, sizeof(out)) == (int)sizeof(out), "SSL_write");
    bench_check(SSL_read(ssl, in, 1) == 1, "SSL_read");
}

static SSL *ssl_new(int fd)
{
    SSL *ssl = SSL_new(client.ctx);

    bench_check(ssl != NULL && SSL_set_tlsext_host_name(ssl, BENCH_NAME) == 1 &&
                    X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), BENCH_NAME, 0) == 1 &&
                    SSL_set_fd(ssl, fd) == 1 &&
                    (client.session == NULL || SSL_set_session(ssl, client.session) == 1),
                "SSL_new");
    return ssl;
}

static const char *tls_outcome(SSL *ssl, const struct mtls_confirmation *c)
{
    if (c != NULL)
        return mtls_verdict_name(mtls_confirmation_verdict(c));
    if (mtls_get_outcome(ssl) != MTLS_OUTCOME_NONE)
        return mtls_outcome_name(mtls_get_outcome(ssl));
    return SSL_session_reused(ssl) ? "resumed" : "plain";
}

static void tls_sample(struct sample *s)
{
    struct mtls_confirmation *c = NULL;
    SSL *ssl;
    int fd;

    if (client.confirm)
        bench_check((c = mtls_confirmation_new(client.words, BENCH_NAME, (uint16_t)client.port,
                                               NULL)) != NULL,
                    "mtls_confirmation_new");
    if (client.announce)
        bench_check(mtls_announce(client.ctx, BENCH_NAME, (uint16_t)client.port) == 1,
                    "mtls_announce");
    fd = path1_connect(s);
    ssl = ssl_new(fd);
    bench_check(SSL_connect(ssl) == 1, "SSL_connect");
    if (c != NULL)
        bench_check(mtls_confirmation_run(c, ssl) == 1, "mtls_confirmation_run");
    if (client.needs && !client.hollow)
        needs(ssl);
    s->ready = elapsed();
    echo(ssl);
    s->first = answered(s);
    s->outcome = tls_outcome(ssl, c);
    mtls_confirmation_free(c);
    if (client.resume && client.session == NULL)
        client.session = SSL_get1_session(ssl);
    if (SSL_shutdown(ssl) == 0)
        (void)SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

/* ---- the program ---- */

static void option(int opt)
{
    switch (opt) {
    case 'B':
        client.bare = (unsigned)atoi(optarg);
        break;
    case 'D':
        client.device = optarg;
        break;
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
    case 'm':
        client.transport = IPPROTO_MPTCP;
        break;
    case 't':
        client.tls = true;
        break;
    case 's':
        client.smkex = true;
        break;
    case 'A':
        client.announce = true;
        break;
    case 'r':
        client.resume = true;
        break;
    case 'c':
        client.confirm = true;
        break;
    case 'n':
        client.needs = true;
        break;
    case 'o':
        client.hollow = true;
        break;
    default:
        exit(1);
    }
}

static void open_contexts(void)
{
    char msg[256] = "";

    if (client.tls)
        client.ctx = bench_client_ctx(client.confirm ? NULL : client.words, client.cafile);
    if (client.hollow) {
        bench_hollow(client.ctx);
        bench_hollow_flight(client.needs ? needs : NULL);
    }
    if (client.smkex && smkex_ctx_new(&client.smkex_ctx, client.words, msg, sizeof(msg)) != 0) {
        errno = 0;
        bench_die(msg);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"host", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'P'},
                                            {"words", required_argument, NULL, 'w'},
                                            {"cafile", required_argument, NULL, 'a'},
                                            {"bare", required_argument, NULL, 'B'},
                                            {"device", required_argument, NULL, 'D'},
                                            {"mptcp", no_argument, NULL, 'm'},
                                            {"tls", no_argument, NULL, 't'},
                                            {"smkex", no_argument, NULL, 's'},
                                            {"announce", no_argument, NULL, 'A'},
                                            {"resume", no_argument, NULL, 'r'},
                                            {"confirm", no_argument, NULL, 'c'},
                                            {"needs", no_argument, NULL, 'n'},
                                            {"hollow", no_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    char line[16];
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
        option(opt);
    setvbuf(stdout, NULL, _IOLBF, 0);
    open_contexts();
    if (client.bare != 0)
        second_start();
    while (fgets(line, sizeof(line), stdin) != NULL) {
        struct sample s = {0};

        began = bench_clock_ns(CLOCK_MONOTONIC);
        if (client.bare != 0)
            sem_post(&second_begins);
        (client.tls ? tls_sample : client.smkex ? smkex_sample : bare_sample)(&s);
        if (client.bare != 0)
            sem_await(&second_ended);
        printf("{\"connect_ns\": %" PRIu64 ", \"ready_ns\": %" PRIu64 ", \"first_ns\": %" PRIu64
               ", \"first_at_ns\": %" PRIu64 ", \"outcome\": \"%s\"}\n",
               s.connected, s.ready, s.first, s.first_at, s.outcome);
    }
    SSL_SESSION_free(client.session);
    SSL_CTX_free(client.ctx);
    smkex_ctx_free(client.smkex_ctx);
    return 0;
}
