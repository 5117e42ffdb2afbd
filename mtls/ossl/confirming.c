/* Concept: confirmation by resumption for programs that know nothing of it: an SSL_CTX whose
 * clients' handshakes are followed by it before the program hears that they are done (protocol
 * section 20). Only where a library that is loaded before the program catches every call of libssl
 * that shakes hands or moves data (interpose.h); an SSL whose handshake goes another way is refused
 * at its ClientHello [RSM-2]. */
#include "confirming.h"

#include "mtls/confirmation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>

#include "../core/wire_ext.h"
#include "../net/route.h"
#include "confirmation.h"
#include "gate.h"
#include "glue.h"
#include "interpose.h"

struct mtls_confirming {
    struct mtls_config config;
    int (*security_cb)(const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                       void *ex);
    mtls_msg_cb *chained_cb;               /* atomic */
    mtls_interpose_session_cb *session_cb; /* atomic: the program's */
};

enum stage { NEW, BEGUN, PASSED, FAILED };

/* What belongs to one SSL. */
struct state {
    enum stage stage;
    int fd, reason;     /* path 1's socket (atomic), -1; FAILED: the error */
    bool direct;        /* libssl's reads and writes reach it, no memory BIOs */
    uint8_t random[32]; /* of the handshake that was judged; zero: none */
    SSL_SESSION *offered;
    struct mtls_confirmation *c;
};

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int ctx_index = -1, ssl_index = -1;
static __thread const SSL *driven; /* the SSL whose handshake this thread is in, by our doing */

/* ---- ex_data ---- */

/* interpose.h's "who", told from a session by the lowest bit. */
static void *who_of(struct state *s)
{
    return (void *)((uintptr_t)s | 1);
}

bool mtls_confirming_learned(void *who, int fd)
{
    int none = -1;

    if (((uintptr_t)who & 1) == 0)
        return false;
    __atomic_compare_exchange_n(&((struct state *)((uintptr_t)who - 1))->fd, &none, fd, false,
                                __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return true;
}

static void state_reset(struct state *s)
{
    mtls_interpose_forget_who(who_of(s));
    mtls_confirmation_free(s->c);
    SSL_SESSION_free(s->offered);
    *s = (struct state){.stage = NEW, .fd = -1};
}

static void ctx_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    free(ptr);
}

static void ssl_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    if (ptr != NULL)
        state_reset(ptr);
    free(ptr);
}

/* A copy of an SSL that has begun is the same object; one that has not has nothing of ours. */
static int ssl_dup(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **ptr, int idx, long argl,
                   void *argp)
{
    *ptr = NULL;
    return 1;
}

static void make_indices(void)
{
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ctx_free);
    ssl_index = SSL_get_ex_new_index(0, NULL, NULL, ssl_dup, ssl_free);
}

static struct mtls_confirming *of(const SSL_CTX *ctx)
{
    if (ctx == NULL || CRYPTO_THREAD_run_once(&once, make_indices) != 1 || ctx_index < 0 ||
        ssl_index < 0)
        return NULL;
    return SSL_CTX_get_ex_data(ctx, ctx_index);
}

bool mtls_confirming_is(const SSL_CTX *ctx)
{
    return of(ctx) != NULL;
}

mtls_msg_cb **mtls_confirming_chained(const SSL_CTX *ctx)
{
    struct mtls_confirming *k = of(ctx);

    return k != NULL ? &k->chained_cb : NULL;
}

static struct state *state_get(SSL *ssl)
{
    struct state *s = SSL_get_ex_data(ssl, ssl_index);

    if (s != NULL)
        return s;
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    state_reset(s);
    if (SSL_set_ex_data(ssl, ssl_index, s) == 1)
        return s;
    free(s);
    return NULL;
}

/* ---- reports ---- */

static const char *name_of(const struct mtls_confirming *k, const SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (k->config.name[0] != '\0')
        return k->config.name;
    return name != NULL ? name
                        : X509_VERIFY_PARAM_get0_host(SSL_get0_param((SSL *)(uintptr_t)ssl), 0);
}

/* Before there was anything to judge. Names and texts here need no escapes. */
static void report_refusal(const struct mtls_confirming *k, const SSL *ssl, int fd, int reason)
{
    const char *name = name_of(k, ssl);
    char json[1024], canonical[MTLS_HOST_MAX + 1] = "";

    if (name == NULL || mtls_name_canonical(name, canonical) != 0)
        canonical[0] = '\0';
    snprintf(json, sizeof(json),
             "{\"role\": \"%s\", \"outcome\": \"failed\", \"mode\": \"resume\", \"verdict\": "
             "\"none\", \"reason\": \"%s\", \"message\": \"%s\", \"name\": \"%s\"}",
             SSL_is_server(ssl) ? "server" : "client", mtls_error_name(reason),
             mtls_error_string(reason), canonical);
    mtls_interpose_confirmed(json, fd, !SSL_is_server(ssl));
}

static void report(const struct state *s)
{
    char *json = mtls_confirmation_json(s->c), *text = NULL;
    const char *meaning = mtls_confirmation_meaning(s->c);
    size_t len = json != NULL ? strlen(json) + strlen(meaning) + 64 : 0;

    if (len > 0 && (text = malloc(len)) != NULL)
        snprintf(text, len, "{\"role\": \"client\", \"message\": \"%s\", %s", meaning, json + 1);
    mtls_interpose_confirmed(text != NULL ? text : "{\"role\": \"client\"}", s->fd,
                             s->stage == FAILED);
    OPENSSL_free(json);
    free(text);
}

/* ---- the SSL_CTX ---- */

bool mtls_confirming_bars(const SSL *ssl)
{
    if (driven == ssl)
        return false;
    mtls_raise(MTLS_ERR_CONFIRM_MODE, "this program's handshake cannot be followed (BIO_f_ssl?)");
    return true;
}

static int add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
               size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    *al = SSL_AD_INTERNAL_ERROR;
    return mtls_confirming_bars(ssl) ? -1 : 0; /* never offered */
}

void mtls_confirming_message(int write_p, int version, int content_type, const void *buf,
                             size_t len, SSL *ssl, void *arg)
{
    struct state *s = ssl_index >= 0 ? SSL_get_ex_data(ssl, ssl_index) : NULL;
    const uint8_t *msg = buf;

    mtls_interpose_message(write_p, version, content_type, buf, len, ssl, arg);
    if (write_p != 0 && content_type == SSL3_RT_HANDSHAKE && len >= 4 &&
        (msg[0] == SSL3_MT_CLIENT_HELLO || msg[0] == SSL3_MT_SERVER_HELLO))
        mtls_interpose_announce(msg, len,
                                s != NULL && s->fd < 0 && !SSL_is_server(ssl) ? who_of(s) : NULL);
}

/* A server of the program's own is confirmed by nobody here: `require` refuses it, however it is
 * driven, as it does a client without the extension. [POL-2] */
static int security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                    void *ex)
{
    const struct mtls_confirming *k = of(ssl != NULL ? SSL_get_SSL_CTX(ssl) : ctx);

    if (op == SSL_SECOP_CIPHER_SHARED && ssl != NULL && SSL_is_server(ssl) && k != NULL &&
        k->config.policy == MTLS_POLICY_REQUIRE) {
        if (mtls_last_error() != MTLS_ERR_NOT_OFFERED) { /* asked once for each cipher */
            mtls_raise(MTLS_ERR_NOT_OFFERED, NULL);
            report_refusal(k, ssl, SSL_get_fd(ssl), MTLS_ERR_NOT_OFFERED);
        }
        return 0;
    }
    return k != NULL && k->security_cb != NULL ? k->security_cb(ssl, ctx, op, bits, nid, other, ex)
                                               : 1;
}

int mtls_confirming_attach(SSL_CTX *ctx, const struct mtls_config *config)
{
    struct mtls_confirming *k;

    if (!mtls_interposed())
        return MTLS_ERR_CONFIRM_MODE;
    if (mtls_config_serves(config))
        return MTLS_ERR_CONFIG_CONFLICT;
    (void)of(ctx); /* the indices */
    k = ssl_index < 0 ? NULL : calloc(1, sizeof(*k));
    if (k == NULL)
        return MTLS_ERR_NOMEM;
    k->config = *config;
    if ((config->confirm == MTLS_WAY_RESUME &&
         SSL_CTX_add_custom_ext(ctx, MTLS_EXT_TYPE, SSL_EXT_TLS_ONLY | SSL_EXT_CLIENT_HELLO, add,
                                NULL, NULL, NULL, NULL) != 1) ||
        SSL_CTX_set_ex_data(ctx, ctx_index, k) != 1) {
        free(k);
        return MTLS_ERR_NOMEM;
    }
    k->security_cb = SSL_CTX_get_security_callback(ctx);
    SSL_CTX_set_security_callback(ctx, security);
    if (config->confirm == MTLS_WAY_RESUME) {
        SSL_CTX_set_msg_callback(ctx, mtls_confirming_message);
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
    }
    return 0;
}

/* The handshake that was judged is the one that the SSL is in. Zero: refused before its
 * ClientHello.
 */
static bool judged(const struct state *s, SSL *ssl)
{
    uint8_t random[32] = {0}, zero[32] = {0};

    return (s->stage == PASSED || s->stage == FAILED) &&
           SSL_get_client_random(ssl, random, sizeof(random)) == sizeof(random) &&
           memcmp(random, s->random, sizeof(random)) == 0 &&                  /* public */
           (s->stage == FAILED || memcmp(random, zero, sizeof(random)) != 0); /* public */
}

/* [RSM-13] [RSM-15] A ticket that comes before the verdict goes to path 2 and not to the program,
 * which gets those that come later, with the record in them; none of a connection that failed. */
static int new_session(SSL *ssl, SSL_SESSION *session)
{
    const struct mtls_confirming *k = of(SSL_get_SSL_CTX(ssl));
    mtls_interpose_session_cb *cb = __atomic_load_n(&k->session_cb, __ATOMIC_ACQUIRE);
    const struct state *s = SSL_get_ex_data(ssl, ssl_index);

    return cb != NULL && (SSL_is_server(ssl) || (s != NULL && judged(s, ssl) && s->stage == PASSED))
               ? cb(ssl, session)
               : 0;
}

int mtls_interpose_session_callback(SSL_CTX *ctx, mtls_interpose_session_cb *cb)
{
    struct mtls_confirming *k = of(ctx);

    if (k == NULL || cb == new_session)
        return 0;
    __atomic_store_n(&k->session_cb, cb, __ATOMIC_RELEASE);
    SSL_CTX_sess_set_new_cb(ctx, cb != NULL ? new_session : NULL);
    return 1;
}

/* ---- one connection ---- */

/* Nothing more goes over it, however it is asked; nor in the clear over a client's socket. */
static void bury(SSL *ssl, int fd)
{
    ERR_set_mark();
    if (SSL_is_init_finished(ssl))
        (void)SSL_shutdown(ssl);
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    ERR_pop_to_mark();
    if (fd >= 0 && !SSL_is_server(ssl))
        (void)shutdown(fd, SHUT_RDWR);
}

static int refuse(const struct mtls_confirming *k, struct state *s, SSL *ssl, int reason)
{
    s->stage = FAILED;
    s->reason = reason;
    (void)SSL_get_client_random(ssl, s->random, sizeof(s->random));
    bury(ssl, s->fd);
    report_refusal(k, ssl, s->fd, reason);
    return -1;
}

/* Path 2 is opened as soon as path 1's socket is known. */
static int begin(const struct mtls_confirming *k, struct state *s, SSL *ssl)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    struct mtls_addr addr;
    char text[64] = "";
    const char *name = name_of(k, ssl);

    if (getpeername(s->fd, (struct sockaddr *)&peer, &len) != 0 ||
        mtls_addr_from_sockaddr(&addr, (struct sockaddr *)&peer, len) != 0) {
        mtls_raise(MTLS_ERR_PATH_UNKNOWN, NULL);
        return MTLS_ERR_PATH_UNKNOWN;
    }
    if (name == NULL) /* leads path 2 nowhere unless the configuration has remote= */
        name = inet_ntop(addr.family == 4 ? AF_INET : AF_INET6, addr.ip, text, sizeof(text));
    s->c = mtls_confirmation_make(&k->config, name, addr.port, s->offered);
    if (s->c == NULL)
        return mtls_last_error();
    s->c->given_fd = s->fd;
    s->c->fed = !s->direct;
    s->c->leave_rest = true;
    s->stage = BEGUN;
    return 0;
}

static int before_hello(const struct mtls_confirming *k, struct state *s, SSL *ssl)
{
    state_reset(s);
    s->fd = SSL_get_fd(ssl);
    s->direct = s->fd >= 0;
    s->offered = SSL_get1_session(ssl);
    if (SSL_get_privatekey(ssl) != NULL && !k->config.expose_certificate) {
        mtls_raise(MTLS_ERR_CLIENT_CERT, NULL);
        return MTLS_ERR_CLIENT_CERT;
    }
    return s->fd >= 0 && k->config.confirm == MTLS_WAY_RESUME ? begin(k, s, ssl) : 0;
}

/* With auto the session knows: its gate marks the writes, and path 2's own are on this thread too.
 */
static int hooked_fd(struct state *s, SSL *ssl)
{
    const struct mtls_session *session = mtls_session_find(ssl);

    if (session == NULL)
        return -1;
    s->direct = s->direct || (session->gate != NULL && session->gate->direct);
    return mtls_session_fd(session);
}

static int shake_hands(const struct mtls_confirming *k, struct state *s, SSL *ssl)
{
    bool hooked = mtls_hook_of(SSL_get_SSL_CTX(ssl)) != NULL;
    const SSL *outer = driven;
    int rv, fd, err = 0, saved;

    if (!hooked)
        mtls_interpose_begin();
    driven = ssl;
    rv = SSL_do_handshake(ssl);
    saved = errno;
    driven = outer;
    fd = hooked ? hooked_fd(s, ssl) : mtls_interpose_end();
    if (fd >= 0) {
        s->direct = s->direct || !hooked;
        __atomic_store_n(&s->fd, fd, __ATOMIC_RELEASE);
    }
    if (s->c == NULL && s->fd >= 0 && k->config.confirm == MTLS_WAY_RESUME &&
        (rv == 1 || SSL_want(ssl) != SSL_NOTHING))
        err = begin(k, s, ssl);
    errno = saved;
    return err != 0 ? refuse(k, s, ssl, err) : rv;
}

/* The exporter proof has spoken [RSM-18]. */
static bool proved(SSL *ssl)
{
    enum mtls_outcome outcome = mtls_get_outcome(ssl);

    return outcome == MTLS_OUTCOME_VERIFIED || outcome == MTLS_OUTCOME_RESUMED_VERIFIED;
}

static int confirm(const struct mtls_confirming *k, struct state *s, SSL *ssl)
{
    const SSL *outer = driven;
    int err = 0, rv;

    if (k->config.confirm == MTLS_WAY_AUTO && proved(ssl)) {
        s->stage = PASSED;
        (void)SSL_get_client_random(ssl, s->random, sizeof(s->random));
        return 1;
    }
    if (s->fd < 0) {
        err = MTLS_ERR_PATH_UNKNOWN;
        mtls_raise(err, NULL);
    } else if (s->c == NULL) {
        err = begin(k, s, ssl);
    }
    if (err != 0)
        return refuse(k, s, ssl, err);
    driven = ssl; /* what libssl calls of itself meanwhile is ours */
    rv = mtls_confirmation_go_on(s->c, ssl);
    driven = outer;
    if (rv < 0)
        return -1;
    s->stage = rv == 1 ? PASSED : FAILED;
    s->reason = s->stage == FAILED ? mtls_last_error() : 0;
    (void)SSL_get_client_random(ssl, s->random, sizeof(s->random));
    if (s->stage == FAILED)
        bury(ssl, s->fd);
    if (mtls_confirmation_verdict(s->c) != MTLS_VERDICT_NONE)
        report(s);
    else
        report_refusal(k, ssl, s->fd, s->reason);
    mtls_confirmation_free(s->c);
    s->c = NULL;
    return s->stage == PASSED ? 1 : -1;
}

static int drive(const struct mtls_confirming *k, struct state *s, SSL *ssl)
{
    int err, rv;

    if (SSL_in_before(ssl)) {
        err = before_hello(k, s, ssl);
        if (err != 0)
            return refuse(k, s, ssl, err);
    }
    if ((s->c == NULL || !s->c->hungry) && !SSL_is_init_finished(ssl) &&
        (rv = shake_hands(k, s, ssl)) != 1)
        return rv;
    return confirm(k, s, ssl);
}

int mtls_interpose_confirm(SSL *ssl, enum mtls_interpose_call call, int *rv)
{
    const struct mtls_confirming *k = of(SSL_get_SSL_CTX(ssl));
    struct state *s;

    if (k == NULL || driven == ssl)
        return 1;
    if (call == MTLS_INTERPOSE_CONNECTS && SSL_in_before(ssl) && SSL_is_server(ssl))
        SSL_set_connect_state(ssl); /* as SSL_connect() does */
    if (SSL_is_server(ssl))
        return 1; /* security() */
    *rv = -1;
    s = state_get(ssl);
    if (s == NULL || call == MTLS_INTERPOSE_EARLY) {
        mtls_raise(s == NULL ? MTLS_ERR_NOMEM : MTLS_ERR_EARLY_DATA, NULL);
        return 0;
    }
    if (judged(s, ssl)) {
        if (s->stage == FAILED)
            mtls_raise(s->reason, NULL);
        return s->stage == PASSED;
    }
    *rv = drive(k, s, ssl);
    return *rv == 1;
}
