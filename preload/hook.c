/* Concept: the interposed calls of libssl: every new SSL_CTX is hooked, or is not made; the message
 * call-back of the program and ours share one slot. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "libmtls.h"

#undef SSL_CTX_set_msg_callback
#undef SSL_set_msg_callback

enum { SET_MSG_CALLBACK = 15 }; /* SSL_CTRL_SET_MSG_CALLBACK */

typedef SSL_CTX *new_fn(const SSL_METHOD *);
typedef SSL_CTX *new_ex_fn(OSSL_LIB_CTX *, const char *, const SSL_METHOD *);
typedef void (*any_cb)(void);

/* ---- errors, on the error queue of the program's libcrypto ---- */

/* The latest, which libmtls has raised, for the log. */
static void log_error(const void *code)
{
    void *peek = preload_libssl_symbol("ERR_peek_last_error_all", code);
    void *reason = preload_libssl_symbol("ERR_reason_error_string", code);
    unsigned long (*last)(const char **, int *, const char **, const char **, int *);
    const char *(*text_of)(unsigned long);
    const char *text = NULL, *data = NULL;
    char why[256];
    int flags = 0;

    if (peek != NULL && reason != NULL) {
        memcpy(&last, &peek, sizeof(last));
        memcpy(&text_of, &reason, sizeof(text_of));
        text = text_of(last(NULL, NULL, NULL, &data, &flags));
    }
    snprintf(why, sizeof(why), "%s%s%s", text != NULL ? text : "an SSL_CTX cannot be hooked",
             data != NULL && data[0] != '\0' ? ": " : "", data != NULL ? data : "");
    preload_log_event("refused", "", why);
}

static void raise_error(const char *text, const void *code)
{
    void *fresh = preload_libssl_symbol("ERR_new", code);
    void *set = preload_libssl_symbol("ERR_set_error", code);
    void (*new_error)(void);
    void (*set_error)(int, int, const char *, ...);

    preload_log_event("refused", "", text);
    if (fresh == NULL || set == NULL)
        return;
    memcpy(&new_error, &fresh, sizeof(fresh));
    memcpy(&set_error, &set, sizeof(set));
    new_error();
    set_error(ERR_LIB_USER, ERR_R_INIT_FAIL, "%s", text);
}

/* ---- what libmtls tells ---- */

void preload_outcome(SSL *ssl, enum mtls_outcome what, int reason, const char *json, void *arg)
{
    int fd = ssl != NULL ? preload_libmtls.descriptor(ssl) : -1;
    char remote[64]; /* path 1's is the first */

    preload_log_member(json, "remote", remote, sizeof(remote));
    if (remote[0] == '\0' && fd >= 0)
        preload_peer_text(fd, remote, sizeof(remote));
    preload_log_session(json, remote);
    if (strstr(json, "\"role\": \"client\"") == NULL)
        return;
    if (what != MTLS_OUTCOME_FAILED)
        preload_guard_decided(fd);
    else if (reason != MTLS_ERR_FORKED)
        preload_guard_failed(remote, fd);
}

bool preload_counts(enum mtls_outcome outcome)
{
    static const struct {
        enum mtls_outcome outcome;
        enum preload_counted counted;
    } all[] = {{MTLS_OUTCOME_VERIFIED, PRELOAD_COUNTED_VERIFIED},
               {MTLS_OUTCOME_RESUMED_VERIFIED, PRELOAD_COUNTED_RESUMED},
               {MTLS_OUTCOME_PLAIN, PRELOAD_COUNTED_PLAIN},
               {MTLS_OUTCOME_FAILED, PRELOAD_COUNTED_FAILED}};
    size_t i;

    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i].outcome == outcome)
            return preload_log_count(all[i].counted);
    return false;
}

/* ---- new SSL_CTXs ---- */

/* DTLS and QUIC have no path 1 that libmtls could guard. */
static bool is_tls(const SSL_METHOD *method, const void *code)
{
    static const char *const others[] = {"DTLS_method",
                                         "DTLS_client_method",
                                         "DTLS_server_method",
                                         "DTLSv1_method",
                                         "DTLSv1_client_method",
                                         "DTLSv1_server_method",
                                         "DTLSv1_2_method",
                                         "DTLSv1_2_client_method",
                                         "DTLSv1_2_server_method",
                                         "OSSL_QUIC_client_method",
                                         "OSSL_QUIC_client_thread_method",
                                         "OSSL_QUIC_server_method"};
    const SSL_METHOD *(*fn)(void);
    size_t i;

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        void *symbol = preload_libssl_symbol(others[i], code);

        memcpy(&fn, &symbol, sizeof(fn));
        if (symbol != NULL && fn() == method)
            return false;
    }
    return true;
}

static SSL_CTX *drop(SSL_CTX *ctx, const void *code)
{
    void *symbol = preload_libssl_symbol("SSL_CTX_free", code);
    void (*fn)(SSL_CTX *);

    memcpy(&fn, &symbol, sizeof(fn));
    if (symbol != NULL)
        fn(ctx);
    return NULL;
}

static __thread bool for_library __attribute__((tls_model("initial-exec")));

/* For a path 2 that is TLS itself. libssl's own SSL_CTX_new() calls SSL_CTX_new_ex(). */
static SSL_CTX *made_for_library(void *symbol, const SSL_METHOD *method)
{
    SSL_CTX *ctx;
    new_fn *real;

    memcpy(&real, &symbol, sizeof(real));
    for_library = true;
    ctx = real(method);
    for_library = false;
    return ctx;
}

/* Once is enough. */
static void note_other(void)
{
    static bool noted; /* atomic */

    if (!preload_settings.off && !__atomic_exchange_n(&noted, true, __ATOMIC_RELAXED))
        preload_log_event("notice", "", "DTLS and QUIC are left alone: NOT protected");
}

/* Hooked, or none at all. */
static SSL_CTX *made(SSL_CTX *ctx, const SSL_METHOD *method, void *real_new, const void *code)
{
    preload_log_open();
    if (ctx == NULL || for_library)
        return ctx;
    if (!is_tls(method, code)) {
        note_other();
        return ctx;
    }
    if (!preload_library_ready(true) || !preload_library_fits(real_new)) {
        if (preload_settings.allow || preload_settings.off) {
            preload_log_event("unhooked", "", preload_library_error());
            return ctx;
        }
        raise_error(preload_library_error(), code);
        return drop(ctx, code);
    }
    if (preload_accept_lacks_port()) {
        raise_error("Multipath TLS: single-port=on needs tls-port=PORT", code);
        return drop(ctx, code);
    }
    if (preload_libmtls.is_hooked(ctx) == 1)
        return ctx;
    if (preload_libmtls.hook(ctx, NULL) == 1 &&
        (preload_libmtls.is_hooked(ctx) != 1 ||
         preload_libmtls.set_outcome_callback(ctx, preload_outcome, NULL) == 1))
        return ctx;
    log_error(code);
    return drop(ctx, code);
}

PRELOAD_PUBLIC SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    const void *code = __builtin_return_address(0);
    void *symbol = preload_libssl_symbol("SSL_CTX_new", code);
    new_fn *real;

    memcpy(&real, &symbol, sizeof(real));
    if (symbol != NULL && preload_is_library(code))
        return made_for_library(symbol, method);
    return symbol != NULL ? made(real(method), method, symbol, code) : NULL;
}

PRELOAD_PUBLIC SSL_CTX *SSL_CTX_new_ex(OSSL_LIB_CTX *libctx, const char *propq,
                                       const SSL_METHOD *method)
{
    const void *code = __builtin_return_address(0);
    void *symbol = preload_libssl_symbol("SSL_CTX_new_ex", code);
    void *plain = preload_libssl_symbol("SSL_CTX_new", code);
    new_ex_fn *real;

    memcpy(&real, &symbol, sizeof(real));
    return symbol != NULL ? made(real(libctx, propq, method), method, plain, code) : NULL;
}

/* ---- the message call-back: four ways to set it ---- */

PRELOAD_PUBLIC void SSL_CTX_set_msg_callback(SSL_CTX *ctx, mtls_interpose_msg_cb *cb)
{
    void *symbol = preload_libssl_symbol("SSL_CTX_set_msg_callback", __builtin_return_address(0));
    void (*real)(SSL_CTX *, mtls_interpose_msg_cb *);

    if (preload_library_ready(false) && preload_libmtls.ctx_msg_callback(ctx, cb) == 1)
        return;
    memcpy(&real, &symbol, sizeof(real));
    if (symbol != NULL)
        real(ctx, cb);
}

PRELOAD_PUBLIC void SSL_set_msg_callback(SSL *ssl, mtls_interpose_msg_cb *cb)
{
    void *symbol = preload_libssl_symbol("SSL_set_msg_callback", __builtin_return_address(0));
    void (*real)(SSL *, mtls_interpose_msg_cb *);

    if (preload_library_ready(false) && preload_libmtls.ssl_msg_callback(ssl, cb) == 1)
        return;
    memcpy(&real, &symbol, sizeof(real));
    if (symbol != NULL)
        real(ssl, cb);
}

PRELOAD_PUBLIC long SSL_CTX_callback_ctrl(SSL_CTX *ctx, int cmd, any_cb cb)
{
    void *symbol = preload_libssl_symbol("SSL_CTX_callback_ctrl", __builtin_return_address(0));
    long (*real)(SSL_CTX *, int, any_cb);

    if (cmd == SET_MSG_CALLBACK && preload_library_ready(false) &&
        preload_libmtls.ctx_msg_callback(ctx, (mtls_interpose_msg_cb *)cb) == 1)
        return 1;
    memcpy(&real, &symbol, sizeof(real));
    return symbol != NULL ? real(ctx, cmd, cb) : 0;
}

PRELOAD_PUBLIC long SSL_callback_ctrl(SSL *ssl, int cmd, any_cb cb)
{
    void *symbol = preload_libssl_symbol("SSL_callback_ctrl", __builtin_return_address(0));
    long (*real)(SSL *, int, any_cb);

    if (cmd == SET_MSG_CALLBACK && preload_library_ready(false) &&
        preload_libmtls.ssl_msg_callback(ssl, (mtls_interpose_msg_cb *)cb) == 1)
        return 1;
    memcpy(&real, &symbol, sizeof(real));
    return symbol != NULL ? real(ssl, cmd, cb) : 0;
}
