/* A link that is libssl's. */
#include "link_ssl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <mtls/mtls.h>

struct link {
    SSL *ssl;
    bool ready;
    int refused; /* MTLS_ERR_*: it must not begin */
    void *owner; /* uses ssl until it is freed */
    void (*owner_free)(void *owner);
    const struct mtls_confirmation *confirmation;
    int code;
};

struct link *link_ssl_new(SSL *ssl, int fd)
{
    struct link *l = calloc(1, sizeof *l);

    if (l == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        free(l);
        return NULL;
    }
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    l->ssl = ssl;
    return l;
}

SSL *link_get0_ssl(const struct link *l)
{
    return l != NULL ? l->ssl : NULL;
}

void link_free(struct link *l)
{
    if (l == NULL)
        return;
    if (l->owner != NULL)
        l->owner_free(l->owner);
    SSL_free(l->ssl);
    free(l);
}

void link_ssl_refuse(struct link *l, int code)
{
    l->refused = code;
}

void link_ssl_own(struct link *l, void *owner, void (*owner_free)(void *owner))
{
    l->owner = owner;
    l->owner_free = owner_free;
}

void *link_get0_owner(const struct link *l)
{
    return l->owner;
}

void link_ssl_judged(struct link *l, const struct mtls_confirmation *confirmation, int code)
{
    l->confirmation = confirmation;
    l->code = code;
}

const struct mtls_confirmation *link_get0_confirmation(const struct link *l, int *code)
{
    if (code != NULL)
        *code = l->code;
    return l->confirmation;
}

static void fail(struct tls_failure *why, enum tls_failure_kind kind, const char *text)
{
    why->kind = kind;
    snprintf(why->text, sizeof why->text, "%s", text);
}

/* Which of the things that can go wrong libssl's error queue and state speak of. */
static void explain(const struct link *l, int ssl_error, int saved_errno, struct tls_failure *why)
{
    unsigned long first = ERR_peek_error();
    long verify = SSL_get_verify_result(l->ssl);
    const char *reason = first != 0 ? ERR_reason_error_string(first) : NULL;
    char text[256];

    why->code = mtls_last_error();
    if (why->code != 0) {
        fail(why, TLS_FAILURE_MTLS, mtls_error_string(why->code));
    } else if (!l->ready && verify != X509_V_OK &&
               ERR_GET_REASON(first) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        snprintf(text, sizeof text, "certificate refused: %s",
                 X509_verify_cert_error_string(verify));
        fail(why, TLS_FAILURE_CERT, text);
    } else if (ERR_GET_LIB(first) == ERR_LIB_SSL &&
               ERR_GET_REASON(first) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        fail(why, TLS_FAILURE_NET,
             l->ready ? "connection was cut off: no close_notify"
                      : "connection was closed during the handshake");
    } else if (ssl_error == SSL_ERROR_SYSCALL && first == 0) {
        fail(why, TLS_FAILURE_NET,
             saved_errno != 0 ? strerror(saved_errno) : "connection was closed");
    } else {
        fail(why, TLS_FAILURE_TLS, reason != NULL ? reason : "TLS error");
    }
    ERR_clear_error();
}

static enum link_result result(const struct link *l, int rv, struct tls_failure *why)
{
    int saved_errno = errno, error = SSL_get_error(l->ssl, rv);

    if (error == SSL_ERROR_WANT_READ)
        return LINK_WANT_READ;
    if (error == SSL_ERROR_WANT_WRITE)
        return LINK_WANT_WRITE;
    if (error == SSL_ERROR_ZERO_RETURN)
        return LINK_END;
    explain(l, error, saved_errno, why);
    return LINK_FAILED;
}

enum link_result link_handshake(struct link *l, struct tls_failure *why)
{
    int rv;

    if (l->refused != 0) {
        fail(why, TLS_FAILURE_MTLS, mtls_error_string(l->refused));
        why->code = l->refused;
        return LINK_FAILED;
    }
    ERR_clear_error();
    rv = SSL_do_handshake(l->ssl);
    l->ready = rv == 1;
    return rv == 1 ? LINK_OK : result(l, rv, why);
}

enum link_result link_read(struct link *l, void *buf, size_t room, size_t *got,
                           struct tls_failure *why)
{
    ERR_clear_error();
    return SSL_read_ex(l->ssl, buf, room, got) == 1 ? LINK_OK : result(l, 0, why);
}

enum link_result link_write(struct link *l, const void *data, size_t len, size_t *put,
                            struct tls_failure *why)
{
    ERR_clear_error();
    return SSL_write_ex(l->ssl, data, len, put) == 1 ? LINK_OK : result(l, 0, why);
}

enum link_result link_flush(struct link *l, struct tls_failure *why)
{
    return LINK_OK; /* libssl says so by asking for the same write again */
}

enum link_result link_shutdown(struct link *l, struct tls_failure *why)
{
    int rv;

    ERR_clear_error();
    rv = SSL_shutdown(l->ssl);
    return rv >= 0 ? LINK_OK : result(l, rv, why);
}
