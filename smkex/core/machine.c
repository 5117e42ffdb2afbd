/* Concept: the exchange of one connection: OFFER, ANSWER, keys (machine.h). Records are
 * machine_data.c's. */
#include "machine_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

int smkex_machine_fail(struct smkex_machine *m, int error)
{
    if (m->state != SMKEX_STATE_FAILED) {
        m->state = SMKEX_STATE_FAILED;
        m->error = error;
    }
    return m->error;
}

static void wipe_exchange(struct smkex_machine *m)
{
    for (uint8_t i = 0; i < SMKEX_GROUPS_MAX; i++) {
        EVP_PKEY_free(m->dh[i]);
        m->dh[i] = NULL;
    }
    OPENSSL_cleanse(m->es, sizeof(m->es));
    mtls_keys_wipe(&m->keys);
}

static int queue(struct smkex_machine *m, const uint8_t *data, size_t len)
{
    return mtls_outbuf_add(&m->out, data, len, SMKEX_OUT_MAX);
}

/* ---- Client: OFFER ---- */

static int offer(struct smkex_machine *m)
{
    struct smkex_offer *o = &m->offer;
    int rc = 0;

    o->mode = m->params.mode;
    o->nver = 1;
    o->versions[0] = 1;
    o->flags = m->params.over ? SMKEX_FLAG_OVER : 0;
    memcpy(o->join, m->params.join, MTLS_JOIN_LEN);
    o->nsuites = m->params.nsuites;
    memcpy(o->suites, m->params.suites, o->nsuites);
    o->ngroups = m->params.ngroups;
    for (uint8_t i = 0; rc == 0 && i < o->ngroups; i++) /* [OFR-1] */
        rc = smkex_dh_new(m->crypto, m->params.groups[i], &m->dh[i], &o->shares[i]);
    if (rc == 0) {
        rc = smkex_offer_encode(o, m->sent);
        m->sent_len = rc > 0 ? (size_t)rc : 0;
    }
    return rc < 0 ? rc : queue(m, m->sent, m->sent_len);
}

static bool params_good(const struct smkex_params *p)
{
    bool good = p->nsuites > 0 && p->nsuites <= SMKEX_LIST_MAX && p->ngroups > 0 &&
                p->ngroups <= SMKEX_GROUPS_MAX && p->pad <= SMKEX_RECORD_DATA_MAX;

    for (uint8_t i = 0; good && i < p->ngroups; i++) {
        good = smkex_share_len(p->groups[i]) != 0;
        for (uint8_t j = 0; j < i; j++)
            good = good && p->groups[j] != p->groups[i];
    }
    return good;
}

int smkex_machine_new(struct smkex_machine **out, const struct smkex_crypto *c,
                      const struct smkex_params *params)
{
    struct smkex_machine *m;
    int rc = 0;

    *out = NULL;
    if (!params_good(params))
        return MTLS_ERR_ARG;
    m = calloc(1, sizeof(*m));
    if (m == NULL)
        return MTLS_ERR_NOMEM;
    m->crypto = c;
    m->params = *params;
    if (!params->server)
        rc = offer(m);
    if (rc != 0) {
        smkex_machine_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

void smkex_machine_free(struct smkex_machine *m)
{
    if (m == NULL)
        return;
    wipe_exchange(m);
    smkex_direction_wipe(&m->sending);
    smkex_direction_wipe(&m->receiving);
    mtls_outbuf_clear(&m->out);
    OPENSSL_clear_free(m->in, m->in != NULL ? SMKEX_IN_LEN : 0);
    OPENSSL_clear_free(m->scratch, m->scratch != NULL ? SMKEX_RECORD_MAX : 0);
    OPENSSL_cleanse(m, sizeof(*m));
    free(m);
}

/* ---- What both do with OFFER and ANSWER ---- */

/* H over OFFER and the first answer_len bytes of ANSWER. */
static int digest(const struct smkex_machine *m, size_t answer_len, uint8_t out[MTLS_SHA256_LEN])
{
    bool server = m->params.server;
    struct mtls_bytes pieces[] = {
        {server ? m->received : m->sent, server ? m->received_len : m->sent_len},
        {server ? m->sent : m->received, answer_len},
    };

    return smkex_crypto_sha256(m->crypto, pieces, 2, out);
}

/* Keys for path 2 from the share of index i of ours and the peer's. */
static int arm(struct smkex_machine *m, EVP_PKEY *dh_key, const struct smkex_share *own,
               const struct smkex_share *peer, size_t answer_len)
{
    uint8_t dh[32], th[MTLS_SHA256_LEN];
    int rc = smkex_dh_derive(m->crypto, dh_key, own, peer, dh);

    if (rc == 0)
        rc = digest(m, answer_len, th);
    if (rc == 0) {
        memcpy(m->th, th, sizeof(m->th));
        m->th_len = sizeof(m->th);
    }
    if (rc == 0)
        rc = smkex_schedule_confirm(m->crypto, m->params.mode, dh, th, m->es, &m->keys);
    OPENSSL_cleanse(dh, sizeof(dh));
    return rc;
}

/* ---- Client: ANSWER ---- */

static bool contains(const uint8_t *list, uint8_t n, uint8_t value)
{
    return memchr(list, value, n) != NULL;
}

static int check_key(struct smkex_machine *m)
{
    uint8_t md[MTLS_SHA256_LEN];
    int rc;

    if (!m->answer.is_signed)
        return 0;
    rc = digest(m, m->received_len - SMKEX_SIG_LEN, md);
    return rc == 0 ? smkex_verify(m->crypto, m->params.mode, m->answer.key, md, m->answer.signature)
                   : rc;
}

static int answered(struct smkex_machine *m)
{
    const struct smkex_answer *a = &m->answer;
    int rc = smkex_answer_parse(m->received, m->received_len, &m->answer);
    uint8_t i;

    if (rc != 0)
        return rc;
    if (a->mode != m->params.mode)
        return MTLS_ERR_SMKEX_FOREIGN;
    if (a->version == 0)
        return MTLS_ERR_SMKEX_REFUSED;
    for (i = 0; i < m->offer.ngroups && m->offer.shares[i].group != a->share.group; i++)
        ;
    if (i == m->offer.ngroups || !contains(m->offer.suites, m->offer.nsuites, a->suite) ||
        ((a->flags & SMKEX_FLAG_OVER) != 0 && !m->params.over))
        return MTLS_ERR_SMKEX_CHOICE; /* [ANS-2] */
    rc = check_key(m);
    if (rc == 0)
        rc = arm(m, m->dh[i], &m->offer.shares[i], &a->share, m->received_len);
    if (rc == 0)
        m->state = SMKEX_STATE_KEYED;
    return rc;
}

/* ---- Server: OFFER, ANSWER ---- */

void smkex_machine_refuse(struct smkex_machine *m, enum smkex_refusal why, int error)
{
    struct smkex_answer a = {.mode = smkex_message_mode(m->received), .refusal = (uint8_t)why};
    uint8_t text[SMKEX_MESSAGE_MAX];
    int n = smkex_answer_encode(&a, text);

    if (n > 0)
        (void)!queue(m, text, (size_t)n);
    smkex_machine_fail(m, error);
}

static int offered(struct smkex_machine *m)
{
    int rc;

    /* [SPM-3] */
    if (smkex_message_mode(m->received) != m->params.mode) {
        smkex_machine_refuse(m, SMKEX_REFUSE_VERSION, MTLS_ERR_SMKEX_CHOICE);
        return m->error;
    }
    rc = smkex_offer_parse(m->received, m->received_len, &m->offer);
    if (rc != 0)
        smkex_machine_refuse(m, SMKEX_REFUSE_MALFORMED, rc);
    else
        m->state = SMKEX_STATE_OFFERED;
    return rc;
}

/* [ANS-1] The client's order, of what we know. 0: chosen. */
static int choose(struct smkex_machine *m, uint8_t *which)
{
    const struct smkex_offer *o = &m->offer;
    uint8_t i;

    if (!contains(o->versions, o->nver, 1))
        return SMKEX_REFUSE_VERSION;
    for (i = 0; i < o->nsuites && !contains(m->params.suites, m->params.nsuites, o->suites[i]); i++)
        ;
    if (i == o->nsuites)
        return SMKEX_REFUSE_SUITE;
    m->answer.suite = o->suites[i];
    for (i = 0; i < o->ngroups; i++) {
        if (contains(m->params.groups, m->params.ngroups, o->shares[i].group)) {
            *which = i;
            return 0;
        }
    }
    return SMKEX_REFUSE_GROUP;
}

static int sign(struct smkex_machine *m)
{
    struct smkex_answer *a = &m->answer;
    size_t len = SMKEX_KEY_LEN;
    uint8_t md[MTLS_SHA256_LEN];
    int n, rc;

    a->is_signed = m->params.key != NULL;
    if (a->is_signed &&
        (EVP_PKEY_get_raw_public_key(m->params.key, a->key, &len) != 1 || len != SMKEX_KEY_LEN))
        return MTLS_ERR_CRYPTO;
    n = smkex_answer_encode(a, m->sent);
    if (n < 0)
        return n;
    m->sent_len = (size_t)n;
    if (!a->is_signed)
        return 0;
    rc = digest(m, m->sent_len - SMKEX_SIG_LEN, md);
    if (rc == 0)
        rc = smkex_sign(m->crypto, m->params.mode, m->params.key, md, a->signature);
    if (rc == 0)
        memcpy(m->sent + m->sent_len - SMKEX_SIG_LEN, a->signature, SMKEX_SIG_LEN);
    return rc;
}

int smkex_machine_answer(struct smkex_machine *m)
{
    struct smkex_answer *a = &m->answer;
    uint8_t which = 0;
    int rc, refusal;

    if (m->state != SMKEX_STATE_OFFERED)
        return MTLS_ERR_ARG;
    refusal = choose(m, &which);
    if (refusal != 0) {
        smkex_machine_refuse(m, (enum smkex_refusal)refusal, MTLS_ERR_SMKEX_CHOICE);
        return m->error;
    }
    a->mode = m->params.mode;
    a->version = 1;
    a->flags = smkex_machine_over(m) ? SMKEX_FLAG_OVER : 0;
    a->max_age = m->params.max_age;
    rc = smkex_dh_new(m->crypto, m->offer.shares[which].group, &m->dh[0], &a->share);
    if (rc == 0)
        rc = sign(m);
    if (rc == 0)
        rc = arm(m, m->dh[0], &a->share, &m->offer.shares[which], m->sent_len);
    if (rc == MTLS_ERR_SMKEX_SHARE)
        smkex_machine_refuse(m, SMKEX_REFUSE_MALFORMED, rc);
    if (rc == 0)
        rc = queue(m, m->sent, m->sent_len);
    if (rc != 0)
        return smkex_machine_fail(m, rc);
    m->state = SMKEX_STATE_KEYED;
    return 0;
}

/* ---- Bytes of the exchange ---- */

size_t smkex_machine_missing(const struct smkex_machine *m)
{
    int whole;

    if (m->state != SMKEX_STATE_WAIT)
        return 0;
    whole = m->received_len >= SMKEX_HEAD_LEN ? smkex_message_length(m->received, m->received_len)
                                              : SMKEX_MESSAGE_MIN;
    return whole > 0 ? (size_t)whole - m->received_len : 0;
}

bool smkex_machine_is_refused(const struct smkex_machine *m)
{
    return m->received_len > SMKEX_HEAD_LEN && m->received[SMKEX_HEAD_LEN] == 0;
}

/* Nothing is read of what may stand behind the message. */
uint8_t *smkex_exchange_room(struct smkex_machine *m, size_t *len)
{
    *len = m->received_len < SMKEX_HEAD_LEN ? SMKEX_HEAD_LEN - m->received_len
                                            : smkex_machine_missing(m);
    return m->received + m->received_len;
}

int smkex_exchange_filled(struct smkex_machine *m, size_t len)
{
    int rc;

    m->received_len += len;
    rc = smkex_message_length(m->received, m->received_len);
    if (rc == MTLS_ERR_SMKEX_MALFORMED && m->params.server)
        smkex_machine_refuse(m, SMKEX_REFUSE_MALFORMED, rc);
    if (rc > 0 && (size_t)rc == m->received_len)
        rc = m->params.server ? offered(m) : answered(m);
    return rc < 0 ? smkex_machine_fail(m, rc) : 0;
}

int smkex_machine_decide(struct smkex_machine *m, const uint8_t d[MTLS_SHA256_LEN], uint8_t k,
                         uint8_t n)
{
    static const uint8_t none[MTLS_SHA256_LEN];
    bool single = m->params.mode == SMKEX_MODE_SINGLE, server = m->params.server;
    uint8_t client_secret[32], server_secret[32];
    int rc;

    if (m->state != SMKEX_STATE_KEYED || single != (d == NULL) || single != (k == 0) || k > n)
        return MTLS_ERR_ARG;
    rc = smkex_schedule_data(m->crypto, m->params.mode, m->es, single ? none : d, k, n,
                             client_secret, server_secret);
    if (rc == 0)
        rc = smkex_direction_init(&m->sending, m->crypto, m->params.mode, m->answer.suite,
                                  server ? server_secret : client_secret, true);
    if (rc == 0)
        rc = smkex_direction_init(&m->receiving, m->crypto, m->params.mode, m->answer.suite,
                                  server ? client_secret : server_secret, false);
    OPENSSL_cleanse(client_secret, sizeof(client_secret));
    OPENSSL_cleanse(server_secret, sizeof(server_secret));
    wipe_exchange(m); /* [SKY-7] */
    if (rc == 0)
        rc = smkex_data_begin(m);
    if (rc != 0)
        return smkex_machine_fail(m, rc);
    m->state = SMKEX_STATE_OPEN;
    return 0;
}

/* ---- Queries ---- */

enum smkex_state smkex_machine_state(const struct smkex_machine *m)
{
    return m->state;
}

int smkex_machine_error(const struct smkex_machine *m)
{
    return m->error;
}

const uint8_t *smkex_machine_join(const struct smkex_machine *m)
{
    return m->offer.join;
}

const struct mtls_keys *smkex_machine_keys(const struct smkex_machine *m)
{
    return &m->keys;
}

const uint8_t *smkex_machine_server_key(const struct smkex_machine *m, uint32_t *max_age)
{
    *max_age = m->answer.max_age;
    return m->answer.is_signed ? m->answer.key : NULL;
}

uint8_t smkex_machine_suite(const struct smkex_machine *m)
{
    return m->answer.suite;
}

uint8_t smkex_machine_group(const struct smkex_machine *m)
{
    return m->answer.share.group;
}

bool smkex_machine_over(const struct smkex_machine *m)
{
    uint8_t peer = m->params.server ? m->offer.flags : m->answer.flags;

    return m->params.over && (peer & SMKEX_FLAG_OVER) != 0;
}

void smkex_machine_messages(const struct smkex_machine *m, struct mtls_bytes *sent,
                            struct mtls_bytes *received)
{
    *sent = (struct mtls_bytes){m->sent, m->sent_len};
    *received = (struct mtls_bytes){m->received, m->received_len};
}

const uint8_t *smkex_machine_hash(const struct smkex_machine *m, size_t *len)
{
    *len = m->th_len;
    return m->th_len > 0 ? m->th : NULL;
}

void smkex_machine_lengths(const struct smkex_machine *m, size_t *sent, size_t *received)
{
    *sent = m->sent_len;
    *received = m->received_len;
}

const uint8_t *smkex_machine_out(const struct smkex_machine *m, size_t *len)
{
    return mtls_outbuf_get(&m->out, len);
}

void smkex_machine_sent(struct smkex_machine *m, size_t n)
{
    mtls_outbuf_sent(&m->out, n);
}
