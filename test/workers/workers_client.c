/* Concept: a client that opens many sessions, each with one request, on some threads; plain or
 * hooked. --path2-first holds the ClientHello back until path 2 has answered, so that each claim
 * waits for its session; early=off in the words makes it the other way round. --until-eof goes on
 * until standard input ends. One line of JSON says how the sessions ended. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "mtls/mtls.h"
#include "mtls/ossl/session.h"

enum { THREADS_MAX = 64, READY_TRIES = 5000 };

static struct {
    const char *host, *words, *cafile, *name;
    int port, count, threads;
    bool path2_first, until_eof;
    SSL_CTX *ctx;
    BIO_METHOD *late;
    pthread_mutex_t lock;
    int left, verified, plain, failed, broken, pids[4096], npids;
    char first_error[256];
} client = {.host = "127.0.0.1", .count = 100, .threads = 8, .lock = PTHREAD_MUTEX_INITIALIZER};

static void must(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "workers_client: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* ---- A BIO whose first write waits for path 2's READY ---- */

static bool path2_is_ready(const SSL *ssl)
{
    const struct mtls_session *s = mtls_session_find(ssl);
    struct mtls_path_status status = {0};

    mtls_engine_lock();
    if (s != NULL && s->hs != NULL && s->hs->npaths > 0 && s->hs->paths[0].claim != NULL)
        mtls_path2_claim_status(s->hs->paths[0].claim, &status);
    mtls_engine_unlock();
    return status.ready_seen;
}

static void wait_for_ready(const SSL *ssl)
{
    struct timespec ms = {.tv_nsec = 1000000};

    for (int i = 0; i < READY_TRIES && !path2_is_ready(ssl); i++)
        nanosleep(&ms, NULL);
}

static int late_write(BIO *bio, const char *data, int len)
{
    SSL *ssl = BIO_get_data(bio);
    int n;

    if (ssl != NULL) {
        BIO_set_data(bio, NULL);
        wait_for_ready(ssl);
    }
    n = BIO_write(BIO_next(bio), data, len);
    BIO_clear_retry_flags(bio);
    BIO_copy_next_retry(bio);
    return n;
}

static int late_read(BIO *bio, char *data, int len)
{
    int n = BIO_read(BIO_next(bio), data, len);

    BIO_clear_retry_flags(bio);
    BIO_copy_next_retry(bio);
    return n;
}

static long late_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    return BIO_ctrl(BIO_next(bio), cmd, num, ptr);
}

static int late_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void late_make(void)
{
    client.late = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "late");
    must(client.late != NULL && BIO_meth_set_write(client.late, late_write) == 1 &&
             BIO_meth_set_read(client.late, late_read) == 1 &&
             BIO_meth_set_ctrl(client.late, late_ctrl) == 1 &&
             BIO_meth_set_create(client.late, late_create) == 1,
         "BIO");
}

/* ---- One session ---- */

static int tcp_connect(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)client.port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(inet_pton(AF_INET, client.host, &sin.sin_addr) == 1, "address");
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void set_bio(SSL *ssl, int fd)
{
    BIO *socket_bio = BIO_new_socket(fd, BIO_NOCLOSE), *bio;

    must(socket_bio != NULL, "BIO");
    bio = socket_bio;
    if (client.path2_first) {
        bio = BIO_new(client.late);
        must(bio != NULL, "BIO");
        BIO_set_data(bio, ssl);
        BIO_push(bio, socket_bio);
    }
    SSL_set_bio(ssl, bio, bio);
}

static void note(const SSL *ssl, bool connected, int answered, const char *answer)
{
    enum mtls_outcome outcome = ssl != NULL ? mtls_get_outcome(ssl) : MTLS_OUTCOME_NONE;
    unsigned long error = ERR_peek_error();
    int pid = answered > 0 ? atoi(answer) : 0, i;

    pthread_mutex_lock(&client.lock);
    if (!connected || answered <= 0) {
        if (client.first_error[0] == '\0' && error != 0)
            ERR_error_string_n(error, client.first_error, sizeof(client.first_error));
        else if (client.first_error[0] == '\0')
            snprintf(client.first_error, sizeof(client.first_error), "%s",
                     connected ? "no answer" : "no handshake");
    }
    if (!connected)
        client.failed++;
    else if (answered <= 0)
        client.broken++;
    else if (outcome == MTLS_OUTCOME_VERIFIED)
        client.verified++;
    else
        client.plain++;
    for (i = 0; i < client.npids && client.pids[i] != pid; i++)
        ;
    if (pid != 0 && i == client.npids && client.npids < 4096)
        client.pids[client.npids++] = pid;
    pthread_mutex_unlock(&client.lock);
    ERR_clear_error();
}

static void session(void)
{
    int fd = tcp_connect(), n = 0;
    bool connected = false;
    char in[64] = "";
    SSL *ssl = NULL;

    if (fd >= 0) {
        ssl = SSL_new(client.ctx);
        must(ssl != NULL && SSL_set_tlsext_host_name(ssl, client.name) == 1 &&
                 X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), client.name, 0) == 1,
             "SSL_new");
        set_bio(ssl, fd);
        connected = SSL_connect(ssl) == 1;
        if (connected && SSL_write(ssl, "who?\n", 5) == 5)
            n = SSL_read(ssl, in, sizeof(in) - 1);
    }
    note(ssl, connected, n, in);
    if (connected)
        SSL_shutdown(ssl);
    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
}

static void *thread_main(void *arg)
{
    bool go = true;

    while (go) {
        pthread_mutex_lock(&client.lock);
        go = client.left > 0 || client.until_eof;
        client.left -= go && !client.until_eof;
        pthread_mutex_unlock(&client.lock);
        if (go)
            session();
    }
    return NULL;
}

static void make_ctx(void)
{
    client.ctx = SSL_CTX_new(TLS_client_method());
    must(client.ctx != NULL && SSL_CTX_load_verify_locations(client.ctx, client.cafile, NULL) == 1,
         "SSL_CTX");
    SSL_CTX_set_verify(client.ctx, SSL_VERIFY_PEER, NULL);
    must(client.words == NULL || mtls_ssl_ctx_hook(client.ctx, client.words) == 1, "hook");
}

static void wait_for_eof(void)
{
    char c;

    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    pthread_mutex_lock(&client.lock);
    client.until_eof = false;
    client.left = 0;
    pthread_mutex_unlock(&client.lock);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, 'h'},    {"port", required_argument, NULL, 'p'},
        {"words", required_argument, NULL, 'w'},   {"cafile", required_argument, NULL, 'a'},
        {"name", required_argument, NULL, 'N'},    {"count", required_argument, NULL, 'n'},
        {"threads", required_argument, NULL, 't'}, {"path2-first", no_argument, NULL, '2'},
        {"until-eof", no_argument, NULL, 'u'},     {NULL, 0, NULL, 0}};
    pthread_t threads[THREADS_MAX];
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'h')
            client.host = optarg;
        else if (opt == 'p')
            client.port = atoi(optarg);
        else if (opt == 'w')
            client.words = optarg;
        else if (opt == 'a')
            client.cafile = optarg;
        else if (opt == 'N')
            client.name = optarg;
        else if (opt == 'n')
            client.count = atoi(optarg);
        else if (opt == 't')
            client.threads = atoi(optarg);
        else if (opt == '2')
            client.path2_first = true;
        else if (opt == 'u')
            client.until_eof = true;
        else
            return 1;
    }
    if (client.threads < 1 || client.threads > THREADS_MAX)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    late_make();
    make_ctx();
    client.left = client.count;
    for (int i = 0; i < client.threads; i++)
        must(pthread_create(&threads[i], NULL, thread_main, NULL) == 0, "pthread_create");
    if (client.until_eof)
        wait_for_eof();
    for (int i = 0; i < client.threads; i++)
        pthread_join(threads[i], NULL);
    printf("{\"event\": \"done\", \"verified\": %d, \"plain\": %d, \"failed\": %d, \"broken\": %d, "
           "\"processes\": %d, \"error\": \"%s\"}\n",
           client.verified, client.plain, client.failed, client.broken, client.npids,
           client.first_error);
    SSL_CTX_free(client.ctx);
    BIO_meth_free(client.late);
    return 0;
}
