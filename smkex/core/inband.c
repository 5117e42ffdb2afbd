/* Concept: path 2's frames inside one connection (inband.h). */
#include "inband.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "mtls/core/path2_server.h"

struct smkex_inband {
    struct mtls_crypto *crypto;
    uint64_t sent, received;
    size_t want; /* received bytes that the next step needs */

    /* client */
    struct mtls_p2c *client;
    struct mtls_p2c_claim *claim;
    uint8_t slot, tag[MTLS_TAG_LEN];

    /* server: a service of its own for one connection and one session */
    struct mtls_p2s *server;
    struct mtls_p2s_conn *conn;
    struct mtls_p2s_session *session;
    bool confirmed, broken;
    uint8_t k, n;
};

/* ---- Client ---- */

static void changed(void *arg, struct mtls_p2c_claim *claim)
{
}

int smkex_inband_client(struct smkex_inband **out, struct mtls_crypto *c, uint16_t port1,
                        const uint8_t secret[MTLS_SECRET_LEN], mtls_tstamp now)
{
    struct smkex_inband *x = calloc(1, sizeof(*x));
    int rc = x == NULL ? MTLS_ERR_NOMEM : mtls_p2c_new(&x->client, c, changed, x);

    if (rc == 0)
        rc = mtls_p2c_hello(x->client, 0, port1, secret, NULL, &x->claim, now);
    if (rc != 0) {
        smkex_inband_free(x);
        return rc;
    }
    x->crypto = c;
    x->want = SMKEX_INBAND_PROOF;
    *out = x;
    return 0;
}

int smkex_inband_check(struct smkex_inband *x, const struct mtls_keys *keys)
{
    const struct mtls_p2c_claim *w = x->claim;
    int rc;

    if (w->nproof == 0)
        return MTLS_ERR_PROOF_MISSING;
    if (w->proofs[0].more != 0) /* there is one session */
        return MTLS_ERR_FRAME_VALUE;
    rc = mtls_confirm_server_tag(x->crypto, keys, w->p2, x->tag);
    if (rc == 0 && !mtls_tag_equal(x->tag, w->proofs[0].tag)) /* [PRF-4] */
        rc = MTLS_ERR_PROOF_WRONG;
    x->slot = w->proofs[0].slot;
    return rc;
}

int smkex_inband_confirm(struct smkex_inband *x, const struct mtls_keys *keys,
                         uint8_t d[MTLS_SHA256_LEN])
{
    struct mtls_counted counted = {.path = 0};
    uint8_t tag[MTLS_TAG_LEN];
    int rc;

    memcpy(counted.p2, x->claim->p2, sizeof(counted.p2));
    memcpy(counted.tag_s, x->tag, sizeof(counted.tag_s));
    rc = mtls_confirm_d(x->crypto, &counted, 1, d);
    if (rc == 0)
        rc = mtls_confirm_client_tag(x->crypto, keys, x->claim->p2, x->tag, 1, 1, d, tag);
    return rc == 0 ? mtls_p2c_confirm(x->client, x->claim, x->slot, 1, 1, tag) : rc;
}

/* ---- Server ---- */

static void confirmed(void *arg, void *session_user, void *conn_user, uint8_t k, uint8_t n)
{
    struct smkex_inband *x = arg;

    x->confirmed = true;
    x->k = k;
    x->n = n;
}

static void output(void *arg, void *conn_user)
{
}

static void must_close(void *arg, void *conn_user, int error)
{
    struct smkex_inband *x = arg;

    x->broken = true;
}

int smkex_inband_server(struct smkex_inband **out, struct mtls_crypto *c,
                        const uint8_t join[MTLS_JOIN_LEN], const struct mtls_keys *keys,
                        const struct mtls_addr *peer, mtls_tstamp now)
{
    static const struct mtls_p2s_events events = {confirmed, output, must_close};
    const struct mtls_p2s_config config = {.max_pending = 1,
                                           .per_source = 1,
                                           .conns_max = 2, /* a source may have half of them */
                                           .claim_ttl = MTLS_TSTAMP_NEVER / 4,
                                           .hello_ttl = MTLS_TSTAMP_NEVER / 4,
                                           .idle_ttl = MTLS_TSTAMP_NEVER / 4,
                                           .ended_ttl = 1};
    struct smkex_inband *x = calloc(1, sizeof(*x));
    int rc = x == NULL ? MTLS_ERR_NOMEM : mtls_p2s_new(&x->server, c, &config, &events, x);

    if (rc == 0)
        rc = mtls_p2s_session_new(&x->session, x->server, join, x, now);
    if (rc == 0)
        rc = mtls_p2s_session_keys(x->session, keys, now);
    if (rc == 0)
        rc = mtls_p2s_conn_new(&x->conn, x->server, peer, x, now);
    if (rc != 0) {
        smkex_inband_free(x);
        return rc;
    }
    x->crypto = c;
    x->want = SMKEX_INBAND_HELLO;
    *out = x;
    return 0;
}

/* HELLO is whole: exactly READY and PROOF answer it, or it was for no session of this join. */
static int hello_done(struct smkex_inband *x)
{
    size_t len;

    (void)mtls_p2s_conn_out(x->conn, &len);
    x->want += MTLS_CONFIRM_LEN;
    return x->sent + len == SMKEX_INBAND_PROOF ? 0 : MTLS_ERR_FRAME_CLAIM;
}

static int server_input(struct smkex_inband *x, const uint8_t *data, size_t len, mtls_tstamp now)
{
    int rc = mtls_p2s_conn_input(x->conn, data, len, now);

    if (rc != 0 || x->broken)
        return rc != 0 ? rc : MTLS_ERR_FRAME_CLAIM;
    if (x->received == x->want && x->want == SMKEX_INBAND_HELLO)
        return hello_done(x);
    return x->received == x->want && !x->confirmed ? MTLS_ERR_CONFIRM_WRONG : 0;
}

bool smkex_inband_confirmed(const struct smkex_inband *x, uint8_t d[MTLS_SHA256_LEN], uint8_t *k,
                            uint8_t *n)
{
    mtls_p2s_session_d(x->session, d);
    *k = x->k;
    *n = x->n;
    return x->confirmed;
}

/* ---- Both ---- */

void smkex_inband_free(struct smkex_inband *x)
{
    if (x == NULL)
        return;
    mtls_p2c_free(x->client);
    mtls_p2s_free(x->server); /* its connection and session too */
    OPENSSL_cleanse(x, sizeof(*x));
    free(x);
}

int smkex_inband_input(struct smkex_inband *x, const uint8_t *data, size_t len, mtls_tstamp now)
{
    int rc;

    if (len > x->want - (size_t)x->received)
        return MTLS_ERR_ARG;
    x->received += len;
    if (x->server != NULL)
        return server_input(x, data, len, now);
    rc = mtls_p2c_input(x->client, data, len, now);
    if (rc == 0 && x->claim->state == MTLS_CLAIM_ENDED)
        rc = x->claim->error != 0 ? x->claim->error : MTLS_ERR_PROOF_MISSING;
    return rc;
}

const uint8_t *smkex_inband_out(const struct smkex_inband *x, size_t *len)
{
    return x->client != NULL ? mtls_p2c_out(x->client, len) : mtls_p2s_conn_out(x->conn, len);
}

void smkex_inband_sent(struct smkex_inband *x, size_t n)
{
    x->sent += n;
    if (x->client != NULL)
        mtls_p2c_sent(x->client, n);
    else
        mtls_p2s_conn_sent(x->conn, n);
}

void smkex_inband_bytes(const struct smkex_inband *x, uint64_t *sent, uint64_t *received)
{
    *sent = x->sent;
    *received = x->received;
}
