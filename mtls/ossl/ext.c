/* Concept: what libssl calls: the extension's add and parse call-backs and the message call-back.
 * They only translate; client.c and server.c decide. */
#include <string.h>

#include "gate.h"
#include "glue.h"

/* The second ClientHello of one handshake, as opposed to the first of the next on the same SSL. */
static bool second_hello(const struct mtls_session *s)
{
    struct mtls_transcript_facts facts = {0};

    if (s->phase != MTLS_PHASE_HELLO)
        return false;
    if (s->transcript != NULL)
        mtls_transcript_facts(s->transcript, &facts);
    return (facts.hello_retry && !facts.server_hello) || mtls_gate_saw_server_hello(s);
}

static int fail(struct mtls_session *s, int reason, int alert, int *al)
{
    mtls_session_fail(s, reason);
    *al = alert;
    return -1;
}

static int add_client_hello(SSL *ssl, const unsigned char **out, size_t *outlen, int *al)
{
    struct mtls_session *s = mtls_session_get(ssl);
    int err = 0;

    *al = SSL_AD_INTERNAL_ERROR;
    if (s == NULL)
        return mtls_hook_of(SSL_get_SSL_CTX(ssl)) != NULL ? -1 : 0;
    if (!second_hello(s)) {
        if (s->phase != MTLS_PHASE_START)
            err = mtls_session_reset(s);
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
    *out = s->hello_ext; /* [EXT] the same bytes after a HelloRetryRequest */
    *outlen = s->hello_ext_len;
    return 1;
}

static int add_encrypted_extensions(SSL *ssl, const unsigned char **out, size_t *outlen, int *al)
{
    struct mtls_session *s = mtls_session_find(ssl);
    int n;

    if (s == NULL || s->phase != MTLS_PHASE_HELLO)
        return 0;
    n = mtls_server_answer(s, s->answer, sizeof(s->answer));
    if (n < 0)
        return fail(s, n, SSL_AD_INTERNAL_ERROR, al);
    *out = s->answer;
    *outlen = (size_t)n;
    return 1;
}

static int add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
               size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
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
    if (s == NULL || s->phase != MTLS_PHASE_HELLO || !s->offered)
        return 0;
    err = mtls_ext_ee_parse(in, inlen, &s->ee);
    if (err != 0)
        return fail(s, err,
                    err == MTLS_ERR_EXT_MALFORMED ? SSL_AD_DECODE_ERROR : SSL_AD_ILLEGAL_PARAMETER,
                    al) > 0;
    s->answered = MTLS_OFFER_YES;
    s->phase = MTLS_PHASE_ANSWERED;
    mtls_client_answered(s);
    return 1;
}

static int parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                 size_t inlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    struct mtls_session *s;
    int err;

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

/* A ClientHello that libssl reports: on the server this is where a handshake begins. */
static struct mtls_session *on_client_hello(SSL *ssl, bool server)
{
    struct mtls_session *s = server ? mtls_session_get(ssl) : mtls_session_find(ssl);

    if (s != NULL && server && s->phase != MTLS_PHASE_START && !second_hello(s) &&
        mtls_session_reset(s) != 0)
        return NULL;
    if (s != NULL && s->times[MTLS_STEP_CLIENT_HELLO] == 0)
        s->times[MTLS_STEP_CLIENT_HELLO] = mtls_now();
    return s;
}

/* The server's ServerHello goes out and our extension was not in the ClientHello: ordinary TLS. */
static void server_plain(struct mtls_session *s)
{
    mtls_session_decide(s, MTLS_OUTCOME_PLAIN,
                        SSL_version(s->ssl) < TLS1_3_VERSION ? MTLS_ERR_TLS_VERSION
                                                             : MTLS_ERR_NOT_OFFERED);
}

void mtls_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl,
                  void *arg)
{
    const uint8_t *msg = buf;
    bool server = SSL_is_server(ssl) == 1;
    struct mtls_hook *hook = mtls_hook_of(SSL_get_SSL_CTX(ssl));
    struct mtls_session *s;

    if (hook != NULL && hook->msg_cb != NULL)
        hook->msg_cb(write_p, version, content_type, buf, len, ssl, hook->msg_arg);
    if (content_type != SSL3_RT_HANDSHAKE || len < 4)
        return;
    if (hook != NULL && server && msg[0] == SSL3_MT_CLIENT_HELLO)
        mtls_hook_serve(hook);
    s = msg[0] == SSL3_MT_CLIENT_HELLO ? on_client_hello(ssl, server) : mtls_session_find(ssl);
    if (s == NULL || s->phase == MTLS_PHASE_DECIDED || s->phase == MTLS_PHASE_FAILED ||
        s->transcript == NULL)
        return;
    if (mtls_transcript_message(s->transcript, server == (write_p != 0), msg, len) != 0)
        s->transcript_broken = true; /* sticky in the transcript: the keys will say so */
    if (server && msg[0] == SSL3_MT_SERVER_HELLO && s->phase == MTLS_PHASE_START)
        server_plain(s);
    if (!server && msg[0] == SSL3_MT_ENCRYPTED_EXTENSIONS)
        mtls_gate_note_extensions(s);
    if (msg[0] == SSL3_MT_FINISHED && server == (write_p != 0) && s->times[MTLS_STEP_FINISHED] == 0)
        s->times[MTLS_STEP_FINISHED] = mtls_now();
}
