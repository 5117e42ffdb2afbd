/* Test helper: a hooked client and a hooked server in one process, over loopback TCP. Path 1 goes
 * to 127.0.0.1, path 2 to 127.0.1.1 (distinct=server: on one machine both leave by the same
 * device). */
#ifndef TEST_TLS_PAIR_H
#define TEST_TLS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "mtls/mtls.h"

static EVP_PKEY *pair_key;
static X509 *pair_cert;

/* A self-signed certificate's subject and issuer. */
static inline void pair_names(X509 *cert, const char *text)
{
    X509_NAME *name = X509_NAME_new();

    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)text, -1, -1, 0);
    assert_int_equal(X509_set_subject_name(cert, name), 1);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    X509_NAME_free(name);
}

static inline void pair_certificate(void)
{
    if (pair_cert != NULL)
        return;
    pair_key = EVP_EC_gen("P-256");
    pair_cert = X509_new();
    X509_set_version(pair_cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(pair_cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(pair_cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(pair_cert), 3600);
    X509_set_pubkey(pair_cert, pair_key);
    pair_names(pair_cert, "server.example");
    assert_true(X509_sign(pair_cert, pair_key, EVP_sha256()) > 0);
}

static inline SSL_CTX *pair_server_ctx(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    pair_certificate();
    assert_int_equal(SSL_CTX_use_certificate(ctx, pair_cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, pair_key), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
    return ctx;
}

static inline SSL_CTX *pair_client_ctx(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    pair_certificate();
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), pair_cert);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

/* A listening socket on ADDR, any port. */
static inline int pair_listen(const char *addr, uint16_t *port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, addr, &sin.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(listen(fd, 512), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    *port = ntohs(sin.sin_port);
    return fd;
}

static inline int pair_connect(const char *addr, uint16_t port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, addr, &sin.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    return fd;
}

/* The client's words for a server whose first path-2 listener is PORT on 127.0.1.1. */
static inline const char *pair_words(char *out, size_t cap, const char *policy, uint16_t port2,
                                     const char *more)
{
    snprintf(out, cap, "policy=%s path2=remote=127.0.1.1:%u,distinct=server %s", policy, port2,
             more);
    return out;
}

static inline uint16_t pair_port2(const SSL_CTX *server)
{
    const char *text = mtls_ssl_ctx_get0_listener(server, 0);

    assert_non_null(text);
    return (uint16_t)atoi(strrchr(text, ':') + 1);
}

/* One blocking server handshake and echo of one message, in a thread. */
struct pair_server {
    SSL_CTX *ctx;
    int listener;
    pthread_t thread;
    enum mtls_outcome outcome;
    int reason, accepted, got;
    char message[64];
    char *json;
};

static inline void *pair_server_main(void *arg)
{
    struct pair_server *p = arg;
    int fd = accept(p->listener, NULL, NULL);
    SSL *ssl = SSL_new(p->ctx);

    SSL_set_fd(ssl, fd);
    p->accepted = SSL_accept(ssl);
    if (p->accepted == 1) {
        p->got = SSL_read(ssl, p->message, sizeof(p->message));
        if (p->got > 0)
            SSL_write(ssl, p->message, p->got);
        SSL_shutdown(ssl);
    }
    p->outcome = mtls_get_outcome(ssl);
    p->reason = mtls_get_reason(ssl);
    p->json = mtls_report_json(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
    return NULL;
}

static inline void pair_server_start(struct pair_server *p, SSL_CTX *ctx, int listener)
{
    memset(p, 0, sizeof(*p));
    p->ctx = ctx;
    p->listener = listener;
    assert_int_equal(pthread_create(&p->thread, NULL, pair_server_main, p), 0);
}

static inline void pair_server_join(struct pair_server *p)
{
    pthread_join(p->thread, NULL);
}

#endif
