/* Concept: what libssl calls: the extension's add and parse call-backs and the message call-back.
 * They only translate; client.c and server.c decide. */
#include <string.h>

#include "confirming.h"
#include "evidence.h"
#include "gate.h"
#include "glue.h"

/* The second ClientHello of one handshake has the random of the first (RFC 8446 section 4.1.2); the
 * first of the next handshake on the same SSL draws another. */
static bool same_hello(const struct mtls_session *s, const uint8_t random[32])
{
    return s->phase != MTLS_PHASE_START && memcmp(s->hello_random, random, 32) == 0;
}

static int fail(struct mtls_session *s, int reason, int alert, int *al)
{
    mtls_session_fail(s, reason);
    *al = alert;
    return -1;
}

/* A connect BIO makes its socket with the first write, which is the ClientHello's: path 1 has to be
 * known before. false: it cannot connect, and has said why; it is not to try twice. */
static bool connect_first(SSL *ssl)
{
    BIO *b = BIO_find_type(SSL_get_wbio(ssl), BIO_TYPE_CONNECT);

    return b == NULL || SSL_get_rfd(ssl) >= 0 || BIO_do_connect(b) > 0 || BIO_should_retry(b);
}

static int add_client_hello(SSL *ssl, const unsigned char **out, size_t *outlen, int *al)
{
    struct mtls_session *s = mtls_session_get(ssl);
    uint8_t random[32] = {0};
    int err = 0;

    *al = SSL_AD_INTERNAL_ERROR;
    if (s == NULL)
        return mtls_hook_of(SSL_get_SSL_CTX(ssl)) != NULL ? -1 : 0;
    (void)SSL_get_client_random(ssl, random, sizeof(random));
    if (same_hello(s, random) && !s->offered)
        return 0;
    if (same_hello(s, random)) {
        if (s->phase != MTLS_PHASE_HELLO || !mtls_gate_stands(s))
            return fail(s, MTLS_ERR_GATE_DISPLACED, SSL_AD_INTERNAL_ERROR, al);
    } else {
        if (s->phase != MTLS_PHASE_START)
            err = mtls_session_reset(s);
        memcpy(s->hello_random, random, sizeof(random));
        if (err == 0 && !connect_first(ssl))
            err = MTLS_ERR_PATH_UNKNOWN;
        if (err == 0)
            err = mtls_client_hello(s);
        if (err == 0 && s->offered)
            err = mtls_gate_install(s);
        if (err != 0)
            return fail(s, err, SSL_AD_INTERNAL_ERROR, al);
    }
    if (!s->offered)
        return 0;
    mtls_gate_allow_hello(s);
    *out = s->hs->hello_ext; /* [EXT] the same bytes after a HelloRetryRequest */
    *outlen = s->hs->hello_ext_len;
    return 1;
}

static int add_encrypted_extensions(SSL *ssl, const unsigned char **out, size_t *outlen, int *al)
{
    static _Thread_local uint8_t answer[MTLS_EXT_EE_MAX]; /* libssl copies it at once */
    struct mtls_session *s = mtls_session_find(ssl);
    int n;

    if (s == NULL || s->phase == MTLS_PHASE_START || s->outcome == MTLS_OUTCOME_PLAIN)
        return 0; /* not our magic, or no version of ours */
    if (s->phase != MTLS_PHASE_HELLO)
        return fail(s, MTLS_ERR_GATE_DISPLACED, SSL_AD_INTERNAL_ERROR, al);
    n = mtls_server_answer(s, answer, sizeof(answer));
    if (n < 0)
        return fail(s, n, SSL_AD_INTERNAL_ERROR, al);
    *out = answer;
    *outlen = (size_t)n;
    return 1;
}

static int add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
               size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    if (SSL_is_dtls(ssl)) /* made one after the hook; require refuses its version */
        return 0;
    *al = SSL_AD_INTERNAL_ERROR;
    if (context == SSL_EXT_CLIENT_HELLO && mtls_confirming_is(SSL_get_SSL_CTX(ssl)) &&
        mtls_confirming_bars(ssl))
        return -1;
    if (context == SSL_EXT_CLIENT_HELLO)
        return add_client_hello(ssl, out, outlen, al);
    return add_encrypted_extensions(ssl, out, outlen, al);
}

/* [EXT] what EncryptedExtensions says is parsed here and acted on only after the decision. */
static int parse_encrypted_extensions(SSL *ssl, const unsigned char *in, size_t inlen, int *al)
{
    struct mtls_session *s = mtls_session_find(ssl);
    int err;

    *al = SSL_AD_INTERNAL_ERROR;
    if (s == NULL || s->phase != MTLS_PHASE_HELLO || !s->offered || !mtls_gate_enforce(s))
        return 0;
    err = mtls_ext_ee_parse(in, inlen, &s->hs->facts->ee);
    if (err != 0)
        return fail(s, err,
                    err == MTLS_ERR_EXT_MALFORMED ? SSL_AD_DECODE_ERROR : SSL_AD_ILLEGAL_PARAMETER,
                    al) > 0;
    s->hs->answered = MTLS_OFFER_YES;
    s->phase = MTLS_PHASE_ANSWERED;
    mtls_client_answered(s);
    return 1;
}

static int parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                 size_t inlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    struct mtls_session *s;
    int err;

    if (SSL_is_dtls(ssl))
        return 1;
    if (context != SSL_EXT_CLIENT_HELLO)
        return parse_encrypted_extensions(ssl, in, inlen, al);
    *al = SSL_AD_INTERNAL_ERROR;
    s = mtls_session_get(ssl);
    if (s == NULL)
        return mtls_hook_of(SSL_get_SSL_CTX(ssl)) == NULL;
    err = mtls_server_hello(s, in, inlen, al);
    if (err != 0)
        mtls_session_fail(s, err);
    return err == 0;
}

int mtls_ext_register(SSL_CTX *ctx)
{
    unsigned int context = SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY | SSL_EXT_CLIENT_HELLO |
                           SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS;

    return SSL_CTX_add_custom_ext(ctx, MTLS_EXT_TYPE, context, add, NULL, NULL, parse, NULL) == 1
               ? 0
               : MTLS_ERR_ARG;
}

enum { RANDOM_AT = 4 + 2 }; /* in a ClientHello: behind the header and legacy_version */

/* The ClientHello after our HelloRetryRequest. The random alone says nothing: the peer chooses it,
 * and may repeat that of an earlier connection on the same SSL. */
static bool continues(const struct mtls_session *s, const uint8_t *random)
{
    struct mtls_transcript_facts facts;

    if (s->hs == NULL || s->hs->hellos != 1 ||
        (s->phase != MTLS_PHASE_START && s->phase != MTLS_PHASE_HELLO))
        return false;
    mtls_transcript_facts(s->hs->transcript, &facts);
    return facts.hello_retry && !facts.server_hello && memcmp(s->hello_random, random, 32) == 0;
}

static bool requires(const SSL_CTX *ctx)
{
    const struct mtls_hook *hook = mtls_hook_of(ctx);

    return hook != NULL && hook->config.policy == MTLS_POLICY_REQUIRE;
}

/* Without BIOs nothing is read and nothing leaves: where there is no memory for the gate. */
static void cut(SSL *ssl)
{
    SSL_set0_rbio(ssl, NULL);
    SSL_set0_wbio(ssl, NULL);
    mtls_raise(MTLS_ERR_NOMEM, NULL);
}

/* Fails a handshake that would go on without our extension. */
static void fail_plain(SSL *ssl, struct mtls_session *s, int why)
{
    int err = s == NULL ? MTLS_ERR_NOMEM : mtls_gate_install(s);

    if (err != 0)
        cut(ssl);
    if (s != NULL)
        mtls_session_fail(s, err != 0 ? err : why);
}

/* A ClientHello that libssl reports: on the server this is where a handshake begins. */
static struct mtls_session *server_hello(SSL *ssl, const uint8_t *msg, size_t len)
{
    struct mtls_session *s = mtls_session_get(ssl);

    if (s == NULL && requires(SSL_get_SSL_CTX(ssl)))
        cut(ssl);
    if (s == NULL || len < RANDOM_AT + 32)
        return s;
    if (!continues(s, msg + RANDOM_AT)) {
        if ((s->phase != MTLS_PHASE_START || s->hs->hellos > 0) && mtls_session_reset(s) != 0) {
            cut(ssl);
            return NULL;
        }
        memcpy(s->hello_random, msg + RANDOM_AT, 32);
        s->times[MTLS_STEP_CLIENT_HELLO] = mtls_now();
    }
    s->hs->hellos++;
    return s;
}

/* The client writes a ClientHello. Without our extension in it (TLS 1.3 was switched off after the
 * hook) there is no session: under require it must not go on. */
static struct mtls_session *client_hello(SSL *ssl, const struct mtls_hook *hook, const uint8_t *msg,
                                         size_t len)
{
    struct mtls_session *s = mtls_session_find(ssl);

    /* Not the handshake that the session is of: its outcome must not stand for this one. */
    if (s != NULL && s->phase != MTLS_PHASE_START && len >= RANDOM_AT + 32 &&
        memcmp(s->hello_random, msg + RANDOM_AT, 32) != 0 && mtls_session_reset(s) != 0) {
        cut(ssl);
        return NULL;
    }
    if (hook == NULL || hook->config.policy != MTLS_POLICY_REQUIRE ||
        (s != NULL && s->phase != MTLS_PHASE_START))
        return s;
    s = mtls_session_get(ssl);
    fail_plain(ssl, s, MTLS_ERR_TLS_VERSION);
    return s;
}

/* The server's ServerHello goes out and our extension was not in the ClientHello: ordinary TLS,
 * unless the SSL_CTX that a name call-back chose, or the one it began with, requires more. */
static void server_plain(struct mtls_session *s)
{
    int why = SSL_version(s->ssl) < TLS1_3_VERSION ? MTLS_ERR_TLS_VERSION : MTLS_ERR_NOT_OFFERED;

    if (s->hook->config.policy != MTLS_POLICY_REQUIRE && !requires(SSL_get_SSL_CTX(s->ssl)))
        mtls_session_decide(s, MTLS_OUTCOME_PLAIN, why);
    else
        fail_plain(s->ssl, s, why);
}

/* ServerHello or HelloRetryRequest leaves. [EXT-3] */
static void server_answers(struct mtls_session *s)
{
    struct mtls_transcript_facts facts;

    mtls_transcript_facts(s->hs->transcript, &facts);
    if (s->phase == MTLS_PHASE_START) {
        if (!facts.hello_retry || facts.server_hello) /* else the second ClientHello shows it */
            server_plain(s);
        return;
    }
    if (s->phase == MTLS_PHASE_HELLO && facts.server_hello &&
        s->hs->hellos_parsed < s->hs->hellos) {
        mtls_session_fail(s, MTLS_ERR_EXT_CHANGED);
        mtls_gate_alert(s, SSL_AD_ILLEGAL_PARAMETER);
    }
}

static void on_message(struct mtls_session *s, bool server, bool written, const uint8_t *msg,
                       size_t len)
{
    /* An error is sticky in the transcript: the keys will say so. */
    (void)!mtls_transcript_message(s->hs->transcript, server == written, msg, len);
    mtls_evidence_message(s, server == written, msg, len);
    if (server && msg[0] == SSL3_MT_SERVER_HELLO)
        server_answers(s);
    if (!server && msg[0] == SSL3_MT_ENCRYPTED_EXTENSIONS)
        mtls_gate_note_extensions(s);
    if (msg[0] == SSL3_MT_FINISHED && server == written && s->times[MTLS_STEP_FINISHED] == 0)
        s->times[MTLS_STEP_FINISHED] = mtls_now();
}

/* The application allows no TLS 1.3. */
static bool without_tls13(SSL *ssl)
{
    long max = SSL_get_max_proto_version(ssl);

    return (max != 0 && max < TLS1_3_VERSION) || (SSL_get_options(ssl) & SSL_OP_NO_TLSv1_3) != 0;
}

/* Under require libssl offers TLS 1.3 alone: with a server that has less, or an application that
 * wants less, it ends the handshake by itself. Whoever reads the outcomes is to know that this was
 * our doing. */
static void client_alert(SSL *ssl, const struct mtls_hook *hook, const uint8_t *alert, size_t len,
                         bool written)
{
    struct mtls_session *s = mtls_session_find(ssl);

    if (s == NULL && hook != NULL && hook->config.policy == MTLS_POLICY_REQUIRE &&
        without_tls13(ssl) && (s = mtls_session_get(ssl)) != NULL)
        mtls_session_fail(s, MTLS_ERR_TLS_VERSION);
    if (s != NULL && len == 2 && alert[1] == SSL_AD_PROTOCOL_VERSION &&
        s->phase == MTLS_PHASE_HELLO && s->hook->config.policy == MTLS_POLICY_REQUIRE)
        mtls_session_fail(s, MTLS_ERR_TLS_VERSION);
    else if (s != NULL && !written && len == 2 && alert[0] == SSL3_AL_FATAL)
        mtls_interpose_peer_ended(s);
}

void mtls_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl,
                  void *arg)
{
    const uint8_t *msg = buf;
    struct mtls_hook *hook = mtls_hook_of(SSL_get_SSL_CTX(ssl));
    struct mtls_session *s;
    bool server;

    if (hook != NULL && hook->msg_cb != NULL)
        hook->msg_cb(write_p, version, content_type, buf, len, ssl, hook->msg_arg);
    mtls_interpose_message(write_p, version, content_type, buf, len, ssl, arg);
    if (content_type != SSL3_RT_HANDSHAKE && content_type != SSL3_RT_ALERT)
        return; /* most: record headers, inner types */
    server = SSL_is_server(ssl) == 1;
    if (content_type == SSL3_RT_ALERT && !server)
        client_alert(ssl, hook, msg, len, write_p != 0);
    if (content_type != SSL3_RT_HANDSHAKE || len < 4 || SSL_is_dtls(ssl))
        return;
    if (msg[0] != SSL3_MT_CLIENT_HELLO) {
        s = mtls_session_find(ssl);
    } else if (server) {
        if (hook != NULL)
            mtls_hook_serve(hook);
        s = server_hello(ssl, msg, len);
    } else {
        s = client_hello(ssl, hook, msg, len);
    }
    if (write_p && (msg[0] == SSL3_MT_CLIENT_HELLO || msg[0] == SSL3_MT_SERVER_HELLO))
        mtls_interpose_hello(s, msg, len);
    if (s == NULL || s->hs == NULL || !mtls_gate_enforce(s))
        return;
    on_message(s, server, write_p != 0, msg, len);
}
