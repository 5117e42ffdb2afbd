/* Concept: a plain TLS server or client on a blocking socket, with or without the hook, that does
 * exactly what its options say: the subject of comparisons between the two. Without --hook no
 * function of libmtls is called.
 *
 *     tls_subject server [PORT] [OPTIONS]   serves until it is killed; a thread for each connection
 *     tls_subject client PORT [OPTIONS]     one connection to 127.0.0.1
 *
 * A server answers everything it reads and ends what the peer ends; with --close it ends after its
 * first answer. A client asks once and reads --answer bytes (0: to the end). The end of each
 * connection is a JSON line on standard output. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "mtls/mtls.h"

static struct {
    bool server, stateful, close;
    const char *hook, *cert, *key, *verify, *groups, *suites, *ciphers, *session, *name;
    int port, answer, max;
    long tickets, early;
} opt = {
    .max = TLS1_3_VERSION, .answer = 300, .tickets = -1, .early = -1, .name = "server.example"};

static void die(const char *what)
{
    fprintf(stderr, "tls_subject: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void must(int ok, const char *what)
{
    if (ok != 1)
        die(what);
}

static void options(int argc, char **argv)
{
    static const struct option names[] = {
        {"hook", 1, NULL, 'h'},     {"cert", 1, NULL, 'c'},   {"key", 1, NULL, 'k'},
        {"verify", 1, NULL, 'v'},   {"groups", 1, NULL, 'g'}, {"suites", 1, NULL, 's'},
        {"ciphers", 1, NULL, 'i'},  {"max", 1, NULL, 'm'},    {"tickets", 1, NULL, 't'},
        {"stateful", 0, NULL, 'S'}, {"close", 0, NULL, 'C'},  {"early", 1, NULL, 'e'},
        {"session", 1, NULL, 'f'},  {"name", 1, NULL, 'n'},   {"answer", 1, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        const char **texts[] = {['h'] = &opt.hook,    ['c'] = &opt.cert,    ['k'] = &opt.key,
                                ['v'] = &opt.verify,  ['g'] = &opt.groups,  ['s'] = &opt.suites,
                                ['i'] = &opt.ciphers, ['f'] = &opt.session, ['n'] = &opt.name};
        if (c == 'm')
            opt.max = strcmp(optarg, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        else if (c == 't')
            opt.tickets = atol(optarg);
        else if (c == 'e')
            opt.early = atol(optarg);
        else if (c == 'a')
            opt.answer = atoi(optarg);
        else if (c == 'S')
            opt.stateful = true;
        else if (c == 'C')
            opt.close = true;
        else if (c == '?')
            exit(1);
        else
            *texts[c] = optarg;
    }
    if (optind >= argc)
        die("server or client?");
    opt.server = strcmp(argv[optind], "server") == 0;
    opt.port = argc > optind + 1 ? atoi(argv[optind + 1]) : 0; /* a server: any */
}

static int new_session(SSL *ssl, SSL_SESSION *session)
{
    BIO *out = BIO_new_file(opt.session, "w");

    must(out != NULL && PEM_write_bio_SSL_SESSION(out, session) == 1, "the session file");
    BIO_free(out);
    return 0;
}

/* The parameters come before the hook, as in a program that was made before it. */
static SSL_CTX *context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(opt.server ? TLS_server_method() : TLS_client_method());

    must(ctx != NULL, "SSL_CTX_new");
    SSL_CTX_set_max_proto_version(ctx, opt.max);
    if (opt.groups != NULL)
        must(SSL_CTX_set1_groups_list(ctx, opt.groups) == 1, "--groups");
    if (opt.suites != NULL)
        must(SSL_CTX_set_ciphersuites(ctx, opt.suites), "--suites");
    if (opt.ciphers != NULL)
        must(SSL_CTX_set_cipher_list(ctx, opt.ciphers), "--ciphers");
    if (opt.cert != NULL)
        must(SSL_CTX_use_certificate_chain_file(ctx, opt.cert), "--cert");
    if (opt.key != NULL)
        must(SSL_CTX_use_PrivateKey_file(ctx, opt.key, SSL_FILETYPE_PEM), "--key");
    if (opt.verify != NULL) {
        must(SSL_CTX_load_verify_locations(ctx, opt.verify, NULL), "--verify");
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        if (opt.server)
            SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(opt.verify));
    }
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"subject", 7);
    if (opt.stateful)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (opt.tickets >= 0)
        SSL_CTX_set_num_tickets(ctx, (size_t)opt.tickets);
    if (opt.early >= 0)
        SSL_CTX_set_max_early_data(ctx, (uint32_t)opt.early);
    if (!opt.server && opt.session != NULL) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, new_session);
    }
    if (opt.hook != NULL)
        must(mtls_ssl_ctx_hook(ctx, opt.hook), "--hook");
    return ctx;
}

/* "ok", or libssl's first reason. */
static void report(const SSL *ssl, bool done, long got)
{
    unsigned long e = ERR_peek_error();
    const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;

    printf("{\"event\": \"end\", \"handshake\": %s, \"version\": \"%s\", \"resumed\": %s, \"got\": "
           "%ld, "
           "\"reason\": \"%s\"}\n",
           done ? "true" : "false", SSL_get_version(ssl),
           done && SSL_session_reused(ssl) ? "true" : "false", got, reason != NULL ? reason : "ok");
    fflush(stdout);
    ERR_clear_error();
}

static void *serve(void *arg)
{
    SSL *ssl = arg;
    int fd = SSL_get_fd(ssl), n;
    char in[16384], *out = calloc(1, (size_t)opt.answer + 1);
    bool done;
    long got = 0;

    must(out != NULL, "memory");
    memset(out, 'a', (size_t)opt.answer);
    memcpy(out, "HTTP/1.0 200 OK\r\n\r\n", 19);
    done = SSL_accept(ssl) == 1;
    while (done && (n = SSL_read(ssl, in, sizeof(in))) > 0) {
        got += n;
        if (SSL_write(ssl, out, opt.answer) <= 0)
            break;
        if (opt.close)
            SSL_shutdown(ssl);
    }
    if (done && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0)
        (void)SSL_shutdown(ssl);
    report(ssl, done, got);
    SSL_free(ssl);
    close(fd);
    free(out);
    return NULL;
}

static _Noreturn void server(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)opt.port)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    SSL_CTX *ctx = context();

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    must(bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listener, 128) == 0 &&
             getsockname(listener, (struct sockaddr *)&at, &len) == 0,
         "listen");
    printf("{\"event\": \"listening\", \"port\": %d}\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        SSL *ssl = fd >= 0 ? SSL_new(ctx) : NULL;
        pthread_t thread;

        if (ssl == NULL)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        must(SSL_set_fd(ssl, fd), "SSL_set_fd");
        must(pthread_create(&thread, NULL, serve, ssl) == 0, "pthread_create");
        pthread_detach(thread);
    }
}

static void resume(SSL *ssl)
{
    BIO *in = BIO_new_file(opt.session, "r");
    SSL_SESSION *session = in != NULL ? PEM_read_bio_SSL_SESSION(in, NULL, NULL, NULL) : NULL;

    ERR_clear_error();
    if (session != NULL)
        must(SSL_set_session(ssl, session), "the session");
    SSL_SESSION_free(session);
    BIO_free(in);
}

static int client(void)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)opt.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), n;
    SSL_CTX *ctx = context();
    SSL *ssl = SSL_new(ctx);
    char in[16384];
    bool done;
    long got = 0;

    must(ssl != NULL && connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && SSL_set_fd(ssl, fd),
         "connect");
    must(SSL_set_tlsext_host_name(ssl, opt.name) == 1, "SNI");
    if (opt.session != NULL)
        resume(ssl);
    done = SSL_connect(ssl) == 1 && SSL_write(ssl, request, sizeof(request) - 1) > 0;
    while (done && (n = SSL_read(ssl, in, sizeof(in))) > 0) {
        got += n;
        if (got >= opt.answer && opt.answer > 0)
            break;
    }
    if (done)
        SSL_shutdown(ssl);
    report(ssl, done, got);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    return done ? 0 : 3;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    options(argc, argv);
    if (opt.server)
        server();
    return client();
}
