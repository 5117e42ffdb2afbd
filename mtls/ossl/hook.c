/* Concept: the hook: what one call on an SSL_CTX changes there, and the ex_data that carries it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "../net/engine.h"
#include "confirming.h"
#include "gate.h"
#include "glue.h"

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int ctx_index = -1; /* atomic */

static void hook_ex_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                         void *argp)
{
    mtls_hook_unref(ptr);
}

static void index_make(void)
{
    int index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, hook_ex_free);

    __atomic_store_n(&ctx_index, index, __ATOMIC_RELEASE);
}

const char *mtls_version(void)
{
    return MTLS_VERSION_STRING;
}

struct mtls_hook *mtls_hook_of(const SSL_CTX *ctx)
{
    int index = __atomic_load_n(&ctx_index, __ATOMIC_ACQUIRE);

    if (index < 0 && CRYPTO_THREAD_run_once(&once, index_make) == 1)
        index = __atomic_load_n(&ctx_index, __ATOMIC_ACQUIRE);
    return ctx != NULL && index >= 0 ? SSL_CTX_get_ex_data(ctx, index) : NULL;
}

void mtls_hook_unref(struct mtls_hook *hook)
{
    if (hook != NULL && __atomic_sub_fetch(&hook->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(hook);
}

/* What `require` refuses where no extension call-back of ours would run; NULL hook: nothing.
 * A server's ClientHello without our extension: CIPHER_SHARED comes before any extension call-back
 * in TLS 1.3, and after the ClientHello was freed in TLS 1.2, which is refused as well. Versions
 * below 1.3, whatever the application sets after the hook. [POL-2] */
static int refused(const SSL *ssl, const struct mtls_hook *hook, int op, int nid)
{
    const unsigned char *data;
    size_t len;

    if (hook == NULL || hook->config.policy != MTLS_POLICY_REQUIRE)
        return 0;
    if (op == SSL_SECOP_VERSION &&
        (nid < TLS1_3_VERSION || nid >> 8 != SSL3_VERSION_MAJOR)) /* DTLS */
        return MTLS_ERR_TLS_VERSION;
    if (op == SSL_SECOP_CIPHER_SHARED && ssl != NULL && SSL_is_server(ssl) &&
        SSL_client_hello_get0_ext((SSL *)(uintptr_t)ssl, MTLS_EXT_TYPE, &data, &len) != 1)
        return MTLS_ERR_NOT_OFFERED;
    return 0;
}

/* Asked about a message of the handshake that the session stands for; other questions come before
 * the ClientHello, where the session may still be that of the SSL's last handshake, with other
 * BIOs. */
static bool amid(int op)
{
    return op == SSL_SECOP_SIGALG_CHECK || op == SSL_SECOP_CIPHER_CHECK;
}

/* Most questions are about what is configured, dozens of them for each handshake. */
static bool of_interest(const struct mtls_hook *hook, int op)
{
    return amid(op) || (hook != NULL && hook->config.policy == MTLS_POLICY_REQUIRE &&
                        (op == SSL_SECOP_VERSION || op == SSL_SECOP_CIPHER_SHARED ||
                         op == SSL_SECOP_SIGALG_SHARED || op == SSL_SECOP_TICKET));
}

/* Whether the handshake may go on. Not in line: most calls of security() never come here. */
static __attribute__((noinline)) bool allowed(const SSL *ssl, const struct mtls_hook *hook, int op,
                                              int nid)
{
    struct mtls_session *s = mtls_session_find(ssl);
    int reason = refused(ssl, hook, op, nid);

    /* A name call-back came here from an SSL_CTX that is not hooked: nobody saw the ClientHello.
     * The question comes behind all extensions. */
    if (reason == 0 && s == NULL && ssl != NULL && SSL_is_server(ssl) && hook != NULL &&
        hook->config.policy == MTLS_POLICY_REQUIRE &&
        (op == SSL_SECOP_SIGALG_SHARED || op == SSL_SECOP_TICKET) && SSL_in_before(ssl) == 0)
        reason = MTLS_ERR_NOT_PROTECTED_CTX;
    if (reason == MTLS_ERR_NOT_PROTECTED_CTX && op == SSL_SECOP_SIGALG_SHARED)
        mtls_raise(reason, NULL);
    if (reason == MTLS_ERR_NOT_OFFERED && s != NULL && s->phase == MTLS_PHASE_HELLO)
        reason = 0; /* its first ClientHello had it: refused as [EXT-3] says, at ServerHello */
    if (reason == MTLS_ERR_NOT_OFFERED && s == NULL)
        mtls_raise(reason, NULL);
    if (reason == MTLS_ERR_NOT_OFFERED && s != NULL && s->phase == MTLS_PHASE_START)
        mtls_session_fail(s, reason); /* versions, in contrast, are only asked about */
    return reason == 0 &&
           !(amid(op) && s != NULL && s->phase != MTLS_PHASE_FAILED && !mtls_gate_enforce(s));
}

static int security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                    void *ex)
{
    struct mtls_hook *hook = mtls_hook_of(ssl != NULL ? SSL_get_SSL_CTX(ssl) : ctx);

    if (of_interest(hook, op) && !allowed(ssl, hook, op, nid))
        return 0;
    return hook != NULL && hook->security_cb != NULL
               ? hook->security_cb(ssl, ctx, op, bits, nid, other, ex)
               : 1;
}

static void ctx_settings(SSL_CTX *ctx, struct mtls_hook *hook)
{
    hook->security_cb = SSL_CTX_get_security_callback(ctx);
    SSL_CTX_set_security_callback(ctx, security);
    SSL_CTX_set_msg_callback(ctx, mtls_message);
    SSL_CTX_set_max_early_data(ctx, 0);
    SSL_CTX_set_recv_max_early_data(ctx, 0);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
    if (hook->config.policy == MTLS_POLICY_REQUIRE)
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
}

/* "192.0.2.1:914: Address already in use" */
static void say_unopened(char *msg, size_t msg_len)
{
    char addr[64], why[96];
    int error;

    mtls_addr_format(mtls_service_unopened(&error), addr, sizeof(addr));
    snprintf(msg, msg_len, "%s: %s", addr,
             error != 0 ? strerror_r(error, why, sizeof(why)) : "too many listeners");
}

static int engine_open(struct mtls_hook *hook, char *msg, size_t msg_len)
{
    int err, i;

    mtls_engine_lock();
    err = mtls_reactor_get() == NULL ? MTLS_ERR_STOPPED : mtls_engine_crypto(&hook->crypto);
    if (err == 0)
        err = mtls_service_open(&hook->config, hook->bound);
    if (err == MTLS_ERR_LISTEN)
        say_unopened(msg, msg_len);
    if (err == 0 && (hook->config.reactor_app || mtls_config_serves(&hook->config)))
        err = mtls_reactor_start(mtls_reactor_get(), hook->config.reactor_app);
    hook->generation = mtls_engine_generation();
    mtls_engine_unlock();
    for (i = 0; err == 0 && i < hook->config.nlisten; i++)
        mtls_addr_format(&hook->bound[i], hook->bound_text[i], sizeof(hook->bound_text[i]));
    return err;
}

/* READY is owed from the first moment, not only once a Multipath TLS handshake has come [RDY-2]: a
 * fork child answers path 2 from its first handshake of any kind on. */
void mtls_hook_serve(struct mtls_hook *hook)
{
    mtls_engine_lock();
    if (hook->generation != mtls_engine_generation()) {
        hook->generation = mtls_engine_generation();
        if (mtls_config_serves(&hook->config) && mtls_reactor_get() != NULL &&
            mtls_reactor_start(mtls_reactor_get(), hook->config.reactor_app) == 0)
            (void)!mtls_service_resume();
    }
    mtls_engine_unlock();
}

/* DTLS and QUIC have no stream that could be gated. QUIC came with OpenSSL 3.2: by name. */
static bool over_stream(const SSL_CTX *ctx)
{
    static const char *const others[] = {
        "DTLSv1_method",           "DTLSv1_client_method",           "DTLSv1_server_method",
        "DTLSv1_2_method",         "DTLSv1_2_client_method",         "DTLSv1_2_server_method",
        "OSSL_QUIC_client_method", "OSSL_QUIC_client_thread_method", "OSSL_QUIC_server_method"};
    const SSL_METHOD *method = SSL_CTX_get_ssl_method(ctx), *(*fn)(void);
    size_t i;

    if (method == DTLS_method() || method == DTLS_client_method() || method == DTLS_server_method())
        return false;
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        void *symbol = dlsym(RTLD_DEFAULT, others[i]);

        memcpy(&fn, &symbol, sizeof(fn));
        if (symbol != NULL && fn() == method)
            return false;
    }
    return true;
}

static int hook_make(SSL_CTX *ctx, const char *config, char *msg, size_t msg_len)
{
    struct mtls_hook *hook = calloc(1, sizeof(*hook));
    int err;

    if (hook == NULL)
        return MTLS_ERR_NOMEM;
    hook->refs = 1;
    mtls_observer_attach();
    err = mtls_settings_load(&hook->config, config, msg, msg_len);
    /* By itself a hook cannot hold application data back until a ticket has come [RSM-2]. */
    if (err == 0 && hook->config.policy != MTLS_POLICY_OFF &&
        hook->config.confirm != MTLS_WAY_EXPORTER) {
        err = over_stream(ctx) ? mtls_confirming_attach(ctx, &hook->config) : MTLS_ERR_ARG;
        if (err != 0 || hook->config.confirm == MTLS_WAY_RESUME) {
            free(hook);
            return err;
        }
        hook->config.policy = MTLS_POLICY_PREFER; /* auto: what it leaves plain is confirmed */
    }
    if (err == 0 && hook->config.policy != MTLS_POLICY_OFF && !over_stream(ctx)) {
        err = MTLS_ERR_ARG;
        snprintf(msg, msg_len, "DTLS or QUIC");
    } else if (err == 0 && hook->config.policy != MTLS_POLICY_OFF) {
        err = engine_open(hook, msg, msg_len);
        if (err == 0)
            err = mtls_ext_register(ctx);
        if (err == 0 && SSL_CTX_set_ex_data(ctx, ctx_index, hook) != 1)
            err = MTLS_ERR_NOMEM;
        if (err == 0) {
            ctx_settings(ctx, hook);
            return 0;
        }
    }
    free(hook);
    return err;
}

int mtls_ssl_ctx_hook(SSL_CTX *ctx, const char *config)
{
    char msg[256] = "";
    int err;

    if (ctx == NULL || mtls_ssl_ctx_is_hooked(ctx) || mtls_hook_of(ctx) != NULL || ctx_index < 0) {
        mtls_raise(MTLS_ERR_ARG, ctx == NULL ? "no SSL_CTX" : "hooked already");
        return 0;
    }
    err = hook_make(ctx, config, msg, sizeof(msg));
    if (err != 0)
        mtls_raise(err, msg);
    return err == 0;
}

int mtls_ssl_ctx_is_hooked(const SSL_CTX *ctx)
{
    return mtls_hook_of(ctx) != NULL || mtls_confirming_is(ctx);
}

static struct mtls_hook *hook_or_raise(const SSL_CTX *ctx)
{
    struct mtls_hook *hook = mtls_hook_of(ctx);

    if (hook == NULL)
        mtls_raise(MTLS_ERR_NOT_HOOKED, NULL);
    return hook;
}

int mtls_ssl_ctx_set_msg_callback(SSL_CTX *ctx, mtls_msg_cb *cb, void *arg)
{
    struct mtls_hook *hook = hook_or_raise(ctx);

    if (hook == NULL)
        return 0;
    hook->msg_cb = cb;
    hook->msg_arg = arg;
    return 1;
}

int mtls_ssl_ctx_set_outcome_callback(SSL_CTX *ctx, mtls_outcome_cb *cb, void *arg)
{
    struct mtls_hook *hook;

    if (mtls_hook_of(ctx) == NULL && mtls_confirming_is(ctx))
        return 1; /* its reports go to the library that catches the program's calls */
    hook = hook_or_raise(ctx);
    if (hook == NULL)
        return 0;
    hook->outcome_cb = cb;
    hook->outcome_arg = arg;
    return 1;
}

const char *mtls_ssl_ctx_get0_listener(const SSL_CTX *ctx, size_t index)
{
    const struct mtls_hook *hook = mtls_hook_of(ctx);

    return hook != NULL && index < hook->config.nlisten ? hook->bound_text[index] : NULL;
}

int mtls_announce(SSL_CTX *ctx, const char *host, uint16_t port)
{
    struct mtls_hook *hook = hook_or_raise(ctx);
    const struct mtls_addr unknown = {.family = 0};
    char name[MTLS_HOST_MAX + 1];
    struct mtls_reactor *r;
    int err;

    if (hook == NULL)
        return 0;
    if (host == NULL || port == 0 || mtls_name_canonical(host, name) != 0) {
        mtls_raise(MTLS_ERR_ARG, "host or port");
        return 0;
    }
    mtls_engine_lock();
    r = mtls_reactor_get();
    err = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, hook->config.reactor_app);
    if (err == 0)
        err = mtls_announced_add(&hook->config, name, port, &unknown, mtls_now());
    mtls_engine_unlock();
    if (err != 0)
        mtls_raise(err, NULL);
    return err == 0;
}

int mtls_pollable_fd(void)
{
    int fd = mtls_reactor_fd_lock();

    if (fd < 0)
        mtls_raise(fd, NULL);
    return fd < 0 ? -1 : fd;
}

int mtls_dispatch(void)
{
    int err = mtls_reactor_dispatch_lock();

    if (err != 0)
        mtls_raise(err, NULL);
    return err == 0;
}
