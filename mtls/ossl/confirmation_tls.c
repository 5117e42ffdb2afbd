/* Concept: what confirmation by resumption does with libssl: takes tickets in on path 1 without
 * delivering data, and runs one handshake on path 2 (see confirmation.h). */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "confirmation.h"
#include "glue.h"

/* false: the time is over. */
static bool await(int fd, short events, mtls_tstamp until)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        mtls_tstamp now = mtls_now();
        int ms = now >= until ? 0 : (int)((until - now + 999) / 1000), n = poll(&p, 1, ms);

        if (n > 0)
            return true;
        if ((n == 0 && mtls_now() >= until) || (n < 0 && errno != EINTR))
            return false;
    }
}

/* ---- tickets of path 1 ---- */

static void note(struct mtls_tickets *t, SSL *ssl)
{
    SSL_SESSION *now = SSL_get_session(ssl);

    if (now == NULL || now == t->seen || SSL_SESSION_has_ticket(now) != 1)
        return;
    SSL_SESSION_free(t->seen);
    t->seen = SSL_get1_session(ssl);
    t->count++;
    if (t->first == NULL) {
        t->first = SSL_SESSION_dup(now);
    } else {
        SSL_SESSION_free(t->spare);
        t->spare = SSL_SESSION_dup(now);
    }
}

void mtls_tickets_begin(struct mtls_tickets *t, SSL *ssl, int fd, bool fed)
{
    t->fd = fd;
    t->fed = fed;
    if (SSL_session_reused(ssl) == 1)
        t->seen = SSL_get1_session(ssl); /* the one that was offered is used up [RSM-3] */
}

bool mtls_tickets_take(struct mtls_tickets *t, SSL *ssl, bool first, mtls_tstamp until)
{
    bool retried = (SSL_get_mode(ssl) & SSL_MODE_AUTO_RETRY) != 0, hungry = false;
    char byte;

    SSL_clear_mode(ssl, SSL_MODE_AUTO_RETRY); /* one message at a time, so that none is missed */
    for (note(t, ssl); !(first && t->first != NULL);) {
        int rv, error;

        ERR_clear_error();
        rv = SSL_peek(ssl, &byte, 1);
        error = SSL_get_error(ssl, rv);
        note(t, ssl);
        if (rv > 0)
            break; /* data: what is behind it cannot be had without delivering it */
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            t->closed = true;
            break;
        }
        if (first && t->fed && t->first == NULL && mtls_now() < until) {
            hungry = true; /* our own Finished may still wait to be carried off */
            break;
        }
        if (!(first && t->first != NULL) &&
            !await(t->fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until))
            break;
        if (mtls_now() >= until && first)
            break;
    }
    if (retried)
        SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
    return !hungry;
}

void mtls_tickets_free(struct mtls_tickets *t)
{
    SSL_SESSION_free(t->first);
    SSL_SESSION_free(t->spare);
    SSL_SESSION_free(t->seen);
    memset(t, 0, sizeof(*t));
}

/* ---- keys ---- */

bool mtls_key_of(const X509 *cert, uint8_t out[MTLS_SHA256_LEN])
{
    unsigned char *der = NULL;
    int len = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
    unsigned got = 0;
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, out, &got, EVP_sha256(), NULL) == 1 &&
              got == MTLS_SHA256_LEN;

    OPENSSL_free(der);
    return ok;
}

bool mtls_has_key_exchange(SSL *ssl)
{
    EVP_PKEY *key = NULL;
    bool has = SSL_get_peer_tmp_key(ssl, &key) == 1 && key != NULL;

    /* With a KEM (X25519MLKEM768, first choice from OpenSSL 3.5 on) there is no such key. libssl
     * itself refuses a resumption without key exchange unless this option allows it. */
    has = has || (SSL_get_options(ssl) & SSL_OP_ALLOW_NO_DHE_KEX) == 0;

    EVP_PKEY_free(key);
    return has;
}

/* ---- the handshake on path 2 ---- */

/* The alert that came, where SSL_get_app_data() points. The SSL is ours alone. */
static void on_info(const SSL *ssl, int where, int value)
{
    int *alert = SSL_get_app_data(ssl);

    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && value >> 8 == SSL3_AL_FATAL)
        *alert = value & 0xff;
}

/* Where a library is loaded before the program, it lets no ClientHello pass that it was not told
 * of.
 */
static void on_message(int write_p, int version, int content_type, const void *buf, size_t len,
                       SSL *ssl, void *arg)
{
    if (write_p != 0 && content_type == SSL3_RT_HANDSHAKE && len >= 4 &&
        *(const uint8_t *)buf == SSL3_MT_CLIENT_HELLO)
        mtls_interpose_hello(NULL, buf, len);
}

static SSL_CTX *context(SSL *path1)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (ctx == NULL)
        return NULL;
    SSL_CTX_set1_cert_store(ctx, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(path1)));
    SSL_CTX_set_security_level(ctx, SSL_get_security_level(path1));
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); /* judged afterwards: the key matters as well */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_msg_callback(ctx, on_message);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

bool mtls_checks_name(SSL *ssl)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    char *ip = X509_VERIFY_PARAM_get1_ip_asc(param);
    bool checks = ip != NULL || X509_VERIFY_PARAM_get0_host(param, 0) != NULL;

    OPENSSL_free(ip);
    return checks;
}

bool mtls_name_fits(X509 *cert, const char *name)
{
    return cert != NULL &&
           (X509_check_host(cert, name, 0, 0, NULL) == 1 || X509_check_ip_asc(cert, name, 0) == 1);
}

/* [RSM-4] As path 1 in name and protocol. */
static bool same_names(SSL *ssl, SSL *path1)
{
    const char *name = SSL_get_servername(path1, TLSEXT_NAMETYPE_host_name);
    const unsigned char *alpn = NULL;
    unsigned char wire[256];
    unsigned len = 0;

    if (SSL_set1_param(ssl, SSL_get0_param(path1)) != 1 ||
        (name != NULL && SSL_set_tlsext_host_name(ssl, name) != 1))
        return false;
    SSL_get0_alpn_selected(path1, &alpn, &len);
    if (len == 0 || len > 255)
        return true;
    wire[0] = (unsigned char)len;
    memcpy(wire + 1, alpn, len);
    return SSL_set_alpn_protos(ssl, wire, len + 1) == 0;
}

static bool offer(SSL *ssl, SSL_SESSION *ticket)
{
    unsigned len = 0;
    const unsigned char *id = SSL_SESSION_get0_id_context(ticket, &len);

    return SSL_set_session_id_context(ssl, id, len) == 1 && SSL_set_session(ssl, ticket) == 1;
}

static enum mtls_rsm_end broken_off(SSL *ssl, int error)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);

    if (error == SSL_ERROR_SYSCALL)
        return MTLS_RSM_CLOSED;
    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return reason == ERR_R_MALLOC_FAILURE ? MTLS_RSM_BROKEN : MTLS_RSM_FOREIGN;
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return MTLS_RSM_CLOSED;
    if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_WRONG_SSL_VERSION ||
        reason == SSL_R_VERSION_TOO_LOW)
        return MTLS_RSM_BELOW_13;
    return reason == ERR_R_MALLOC_FAILURE ? MTLS_RSM_BROKEN : MTLS_RSM_FOREIGN;
}

static enum mtls_rsm_end handshake(SSL *ssl, int fd, const int *alert, mtls_tstamp until)
{
    for (;;) {
        int rv, error;

        ERR_clear_error();
        rv = SSL_connect(ssl);
        if (rv == 1)
            return MTLS_RSM_COMPLETED;
        error = SSL_get_error(ssl, rv);
        if (*alert >= 0)
            return MTLS_RSM_ALERTED;
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            return broken_off(ssl, error);
        if (!await(fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until))
            return MTLS_RSM_SILENT;
    }
}

static void look(struct mtls_try *out, SSL *ssl, const char *server)
{
    X509 *cert = SSL_get1_peer_certificate(ssl);

    out->psk = SSL_session_reused(ssl) == 1 && mtls_has_key_exchange(ssl);
    out->chain_valid = cert != NULL && SSL_get_verify_result(ssl) == X509_V_OK &&
                       (mtls_checks_name(ssl) || mtls_name_fits(cert, server));
    if (!out->psk)
        mtls_chain_keep(&out->chain, ssl);
    out->has_key = !out->psk && mtls_key_of(cert, out->key);
    X509_free(cert);
}

void mtls_try_run(struct mtls_try *out, SSL *path1, const char *server, SSL_SESSION *ticket, int fd,
                  mtls_tstamp until)
{
    SSL_CTX *ctx = context(path1);
    SSL *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
    int alert = -1;

    out->end = MTLS_RSM_BROKEN;
    out->ticket = ticket != NULL;
    if (ssl != NULL && same_names(ssl, path1) && (ticket == NULL || offer(ssl, ticket)) &&
        SSL_set_fd(ssl, fd) == 1) {
        SSL_set_app_data(ssl, &alert);
        out->end = handshake(ssl, fd, &alert, until);
    }
    if (out->end == MTLS_RSM_ALERTED)
        out->alert = (uint8_t)alert;
    if (out->end == MTLS_RSM_COMPLETED)
        look(out, ssl, server);
    if (out->end == MTLS_RSM_COMPLETED) /* [RSM-5] path 2's own tickets are not ours to keep */
        out->clean = SSL_shutdown(ssl) >= 0;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
}

void mtls_try_end(const struct mtls_try *t, int fd)
{
    if (t->clean)
        mtls_dial_linger(fd);
    else if (fd >= 0)
        close(fd);
}
