/* Concept: collecting and writing the evidence bundle, see evidence.h. The file is lines of text,
 * "key value ...", that mtls-client explain reads; bytes are hexadecimal. */
#include "evidence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>

#include "glue.h"
#include "report.h"

enum { CLIENT_HELLO = 1, NEW_TICKET = 4, FINISHED = 20, KEY_UPDATE = 24, PSK_EXTENSION = 41 };

struct message {
    bool from_server, kept;
    uint8_t type, hash[MTLS_SHA256_LEN];
    size_t len, at;
    mtls_tstamp seen_at;
};

struct claim {
    uint8_t path, nproof, status;
    bool ready;
    mtls_tstamp hello_at, ready_at, proof_at;
    uint8_t p2[MTLS_SHA256_LEN];
    struct mtls_p2c_proof proofs[MTLS_SLOTS_MAX];
    bool right;
    uint8_t right_slot;
};

struct mtls_evidence {
    size_t nmsg, used;
    uint8_t nclaims;
    bool complete; /* the server's Finished has passed */
    struct message msgs[MTLS_EVIDENCE_MESSAGES];
    struct claim claims[MTLS_PATHS_MAX];
    uint8_t data[MTLS_EVIDENCE_BYTES];
};

/* ---- collecting ---- */

static bool skip(const uint8_t **p, size_t *left, size_t n)
{
    if (n > *left)
        return false;
    *p += n;
    *left -= n;
    return true;
}

static bool skip_vector(const uint8_t **p, size_t *left, unsigned size)
{
    size_t n = 0;
    unsigned i;

    if (*left < size)
        return false;
    for (i = 0; i < size; i++)
        n = n << 8 | (*p)[i];
    return skip(p, left, size + n);
}

/* A ClientHello without pre_shared_key, whose identities are tickets. What cannot be parsed is not
 * kept. */
static bool without_psk(const uint8_t *msg, size_t len)
{
    const uint8_t *p = msg;
    size_t left = len;

    if (!skip(&p, &left, 4 + 2 + 32) || !skip_vector(&p, &left, 1) || !skip_vector(&p, &left, 2) ||
        !skip_vector(&p, &left, 1) || !skip(&p, &left, 2))
        return false;
    while (left >= 4) {
        if ((p[0] << 8 | p[1]) == PSK_EXTENSION)
            return false;
        if (!skip(&p, &left, 2) || !skip_vector(&p, &left, 2))
            return false;
    }
    return left == 0;
}

void mtls_evidence_message(struct mtls_session *s, bool from_server, const uint8_t *msg, size_t len)
{
    struct mtls_evidence *e = s->hs->evidence;
    struct message *m;

    if (s->hook->config.evidence[0] == '\0')
        return;
    if (e == NULL)
        e = s->hs->evidence = calloc(1, sizeof(*e));
    if (e == NULL || e->complete || e->nmsg == MTLS_EVIDENCE_MESSAGES || msg[0] == NEW_TICKET ||
        msg[0] == KEY_UPDATE)
        return;
    m = &e->msgs[e->nmsg];
    if (mtls_crypto_sha256(s->hook->crypto, &(struct mtls_bytes){msg, len}, 1, m->hash) != 0)
        return;
    e->nmsg++;
    m->from_server = from_server;
    m->type = msg[0];
    m->len = len;
    m->seen_at = mtls_now();
    m->kept = msg[0] != FINISHED && len <= sizeof(e->data) - e->used &&
              (msg[0] != CLIENT_HELLO || without_psk(msg, len));
    if (m->kept) {
        m->at = e->used;
        memcpy(e->data + e->used, msg, len);
        e->used += len;
    }
    e->complete = msg[0] == FINISHED;
}

void mtls_evidence_claims(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_evidence *e = hs->evidence;
    uint8_t i;

    for (i = 0; e != NULL && i < hs->npaths && s->generation == mtls_engine_generation(); i++) {
        const struct mtls_secondary *p = &hs->paths[i];
        const struct mtls_p2c_claim *w = p->claim != NULL ? mtls_path2_claim_wire(p->claim) : NULL;
        struct claim *c = &e->claims[e->nclaims];

        if (w == NULL)
            continue;
        e->nclaims++;
        c->path = i;
        c->ready = w->ready_seen;
        c->hello_at = w->hello_at;
        c->ready_at = w->ready_at;
        c->proof_at = w->proof_at;
        memcpy(c->p2, w->p2, sizeof(c->p2));
        c->nproof = w->nproof;
        memcpy(c->proofs, w->proofs, sizeof(c->proofs));
        c->right = p->right;
        c->right_slot = p->slot;
    }
}

void mtls_evidence_free(struct mtls_evidence *e)
{
    free(e);
}

/* ---- the text ---- */

static void put_hex(BIO *out, const uint8_t *data, size_t len)
{
    size_t i;

    if (len == 0)
        BIO_puts(out, "-");
    for (i = 0; i < len; i++)
        BIO_printf(out, "%02x", data[i]);
}

static void put_bytes(BIO *out, const char *key, const uint8_t *data, size_t len)
{
    BIO_printf(out, "%s ", key);
    put_hex(out, data, len);
    BIO_puts(out, "\n");
}

/* Since the ClientHello, or "-". */
static void put_time(BIO *out, const struct mtls_session *s, mtls_tstamp at)
{
    if (at == 0)
        BIO_puts(out, " -");
    else
        BIO_printf(out, " %lld", (long long)(at - s->times[MTLS_STEP_CLIENT_HELLO]));
}

static void put_handshake(BIO *out, const struct mtls_session *s)
{
    const struct mtls_evidence *e = s->hs->evidence;
    uint8_t th[MTLS_HASH_MAX];
    size_t i, hlen = 0;

    if (mtls_transcript_get(s->hs->transcript, th, &hlen) != 0)
        hlen = 0;
    put_bytes(out, "transcript-hash", th, hlen);
    for (i = 0; i < e->nmsg; i++) {
        const struct message *m = &e->msgs[i];

        BIO_printf(out, "message %s %u %zu", m->from_server ? "server" : "client", m->type, m->len);
        put_time(out, s, m->seen_at);
        BIO_puts(out, " ");
        put_hex(out, m->hash, sizeof(m->hash));
        BIO_puts(out, " ");
        put_hex(out, e->data + m->at, m->kept ? m->len : 0);
        BIO_puts(out, "\n");
    }
}

static void put_claims(BIO *out, const struct mtls_session *s)
{
    const struct mtls_evidence *e = s->hs->evidence;
    uint8_t i, j;

    for (i = 0; i < e->nclaims; i++) {
        const struct claim *c = &e->claims[i];

        BIO_printf(out, "claim %u %s", c->path, c->ready ? "ready" : "no-ready");
        put_time(out, s, c->hello_at);
        put_time(out, s, c->ready_at);
        put_time(out, s, c->proof_at);
        BIO_puts(out, " ");
        put_hex(out, c->p2, c->ready ? sizeof(c->p2) : 0);
        BIO_puts(out, "\n");
        for (j = 0; j < c->nproof; j++) {
            bool right = c->right && c->proofs[j].slot == c->right_slot;

            BIO_printf(out, "proof %u %u %u %s ", c->path, c->proofs[j].slot, c->proofs[j].more,
                       right               ? "right"
                       : s->hs->keys_ready ? "wrong"
                                           : "unchecked");
            put_hex(out, c->proofs[j].tag, sizeof(c->proofs[j].tag));
            BIO_puts(out, "\n");
        }
    }
}

static const char *word(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void put_paths(BIO *out, struct mtls_session *s)
{
    const struct mtls_report *report = mtls_report_of(s);
    struct mtls_path_info p;
    size_t i;

    for (i = 0; mtls_report_path(report, i, &p) == 1; i++)
        BIO_printf(out, "path %zu %s %s %s %s %s\n", i + 1, word(p.local), word(p.remote),
                   word(p.device), word(p.state), p.error != 0 ? mtls_error_name(p.error) : "-");
}

static void put_bundle(BIO *out, struct mtls_session *s)
{
    const struct mtls_handshake *hs = s->hs;
    time_t now = time(NULL);
    struct tm tm;
    char when[32] = "-", *report = mtls_report_text(s, s->outcome, s->reason);

    if (gmtime_r(&now, &tm) != NULL)
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    BIO_printf(out, "mtls-evidence 1\nwritten-at %s\nlibrary %s\nopenssl %s\nrole %s\n", when,
               mtls_version(), OpenSSL_version(OPENSSL_VERSION), s->server ? "server" : "client");
    BIO_printf(out, "outcome %s\nreason %s\nname %s\nport %u\ntls %s %s\n",
               mtls_outcome_name(s->outcome), s->reason != 0 ? mtls_error_name(s->reason) : "-",
               hs->name[0] != '\0' ? hs->name : "-", hs->port, SSL_get_version(s->ssl),
               SSL_get_cipher_name(s->ssl));
    put_bytes(out, "join", hs->join, sizeof(hs->join));
    put_bytes(out, "extension-sent", hs->hello_ext, hs->hello_ext_len);
    put_handshake(out, s);
    put_paths(out, s);
    put_claims(out, s);
    BIO_printf(out, "report %s\nend\n", report != NULL ? report : "{}");
    OPENSSL_free(report);
}

/* ---- the file ---- */

void mtls_evidence_write(struct mtls_session *s)
{
    BIO *out;
    char *data;
    long len;

    if (s->hs->evidence == NULL ||
        (s->outcome != MTLS_OUTCOME_FAILED && !s->hook->config.evidence_all))
        return;
    out = BIO_new(BIO_s_mem());
    s->evidence_error = MTLS_ERR_NOMEM;
    if (out == NULL)
        return;
    put_bundle(out, s);
    len = BIO_get_mem_data(out, &data);
    s->evidence_error = (int16_t)(len <= 0 || len > MTLS_EVIDENCE_FILE_MAX
                                      ? MTLS_ERR_LIMIT
                                      : mtls_evidence_file(s->hook->config.evidence,
                                                           s->server ? "server" : "client", data,
                                                           (size_t)len, &s->evidence));
    BIO_free(out);
}
