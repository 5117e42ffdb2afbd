/* Concept: OFFER and ANSWER (wire.h). */
#include "wire.h"

#include <string.h>

static const uint8_t magics[][SMKEX_MAGIC_LEN] = {
    [SMKEX_MODE_MULTIPATH] = {0xF0, 'S', 'M', 'K', 'E', 'X', 0x0D, 0x0A},
    [SMKEX_MODE_SINGLE] = {0xF0, 'S', 'P', 'D', 'H', '1', 0x0D, 0x0A}, /* [SPM-1] */
};

size_t smkex_share_len(uint8_t group)
{
    return group == SMKEX_GROUP_X25519 ? 32 : group == SMKEX_GROUP_P256 ? 65 : 0;
}

/* ---- Writing ---- */

struct writer {
    uint8_t *at;
    size_t len, cap;
    bool failed;
};

static void put(struct writer *w, const void *data, size_t len)
{
    if (w->failed || w->cap - w->len < len) {
        w->failed = true;
        return;
    }
    if (len > 0)
        memcpy(w->at + w->len, data, len);
    w->len += len;
}

static void put_byte(struct writer *w, uint8_t value)
{
    put(w, &value, 1);
}

static void put_share(struct writer *w, const struct smkex_share *s)
{
    put_byte(w, s->group);
    put_byte(w, s->len);
    put(w, s->bytes, s->len <= SMKEX_SHARE_MAX ? s->len : SMKEX_SHARE_MAX + w->cap);
}

static struct writer begin(uint8_t out[SMKEX_MESSAGE_MAX], enum smkex_mode mode)
{
    static const uint8_t length[2] = {0};
    struct writer w = {.at = out, .cap = SMKEX_MESSAGE_MAX};

    put(&w, magics[mode], SMKEX_MAGIC_LEN);
    put(&w, length, sizeof(length));
    return w;
}

static int end(struct writer *w)
{
    size_t body = w->len - SMKEX_HEAD_LEN;

    if (w->failed || body == 0)
        return MTLS_ERR_ARG;
    w->at[SMKEX_MAGIC_LEN] = (uint8_t)(body >> 8);
    w->at[SMKEX_MAGIC_LEN + 1] = (uint8_t)body;
    return (int)w->len;
}

int smkex_offer_encode(const struct smkex_offer *o, uint8_t out[SMKEX_MESSAGE_MAX])
{
    struct writer w = begin(out, o->mode);

    if (o->nver == 0 || o->nver > SMKEX_LIST_MAX || o->nsuites == 0 ||
        o->nsuites > SMKEX_LIST_MAX || o->ngroups == 0 || o->ngroups > SMKEX_GROUPS_MAX)
        return MTLS_ERR_ARG;
    put_byte(&w, o->nver);
    put(&w, o->versions, o->nver);
    put_byte(&w, o->flags);
    put(&w, o->join, MTLS_JOIN_LEN);
    put_byte(&w, o->nsuites);
    put(&w, o->suites, o->nsuites);
    put_byte(&w, o->ngroups);
    for (uint8_t i = 0; i < o->ngroups; i++)
        put_share(&w, &o->shares[i]);
    return end(&w);
}

int smkex_answer_encode(const struct smkex_answer *a, uint8_t out[SMKEX_MESSAGE_MAX])
{
    struct writer w = begin(out, a->mode);
    uint8_t age[4] = {(uint8_t)(a->max_age >> 24), (uint8_t)(a->max_age >> 16),
                      (uint8_t)(a->max_age >> 8), (uint8_t)a->max_age};

    put_byte(&w, a->version);
    if (a->version == 0) {
        put_byte(&w, a->refusal);
        return end(&w);
    }
    put_byte(&w, (uint8_t)((a->flags & ~SMKEX_FLAG_SIGNED) | (a->is_signed ? 1 : 0)));
    put(&w, age, sizeof(age));
    put_byte(&w, a->suite);
    put_share(&w, &a->share);
    if (a->is_signed) {
        put(&w, a->key, SMKEX_KEY_LEN);
        put(&w, a->signature, SMKEX_SIG_LEN);
    }
    return end(&w);
}

/* ---- Reading ---- */

int smkex_message_length(const uint8_t *data, size_t len)
{
    size_t n = len < SMKEX_MAGIC_LEN ? len : SMKEX_MAGIC_LEN, body;

    if (memcmp(data, magics[SMKEX_MODE_MULTIPATH], n) != 0 &&
        memcmp(data, magics[SMKEX_MODE_SINGLE], n) != 0)
        return MTLS_ERR_SMKEX_FOREIGN;
    if (len < SMKEX_HEAD_LEN)
        return 0;
    body = (size_t)(data[SMKEX_MAGIC_LEN] << 8 | data[SMKEX_MAGIC_LEN + 1]);
    return body >= 1 && body <= SMKEX_BODY_MAX ? (int)(SMKEX_HEAD_LEN + body)
                                               : MTLS_ERR_SMKEX_MALFORMED;
}

enum smkex_mode smkex_message_mode(const uint8_t *data)
{
    return memcmp(data, magics[SMKEX_MODE_SINGLE], SMKEX_MAGIC_LEN) == 0 ? SMKEX_MODE_SINGLE
                                                                         : SMKEX_MODE_MULTIPATH;
}

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

static const uint8_t *get(struct reader *r, size_t len)
{
    const uint8_t *at = r->at;

    if (r->failed || (size_t)(r->end - r->at) < len) {
        r->failed = true;
        return NULL;
    }
    r->at += len;
    return at;
}

static uint8_t get_byte(struct reader *r)
{
    const uint8_t *at = get(r, 1);

    return at != NULL ? *at : 0;
}

static void get_copy(struct reader *r, void *out, size_t len)
{
    const uint8_t *at = get(r, len);

    if (at != NULL)
        memcpy(out, at, len);
}

/* A count from 1 to max and so many bytes. */
static uint8_t get_list(struct reader *r, uint8_t list[SMKEX_LIST_MAX])
{
    uint8_t n = get_byte(r);

    if (n == 0 || n > SMKEX_LIST_MAX)
        r->failed = true;
    else
        get_copy(r, list, n);
    return n;
}

static int open_message(struct reader *r, const uint8_t *data, size_t len, enum smkex_mode *mode)
{
    int whole = smkex_message_length(data, len);

    if (whole < 0)
        return whole;
    if (whole == 0 || (size_t)whole != len)
        return MTLS_ERR_SMKEX_MALFORMED;
    *mode = smkex_message_mode(data);
    *r = (struct reader){.at = data + SMKEX_HEAD_LEN, .end = data + len};
    return 0;
}

/* [OFR-2] [OFR-3] */
static void get_shares(struct reader *r, struct smkex_offer *o)
{
    uint8_t n = get_byte(r), seen[SMKEX_GROUPS_MAX];

    if (n == 0 || n > SMKEX_GROUPS_MAX)
        r->failed = true;
    for (uint8_t i = 0; i < n && !r->failed; i++) {
        uint8_t group = get_byte(r), len = get_byte(r);
        const uint8_t *bytes = get(r, len);
        size_t known = smkex_share_len(group);

        seen[i] = group;
        for (uint8_t j = 0; j < i; j++)
            r->failed = r->failed || seen[j] == group;
        if (known != 0 && len != known)
            r->failed = true;
        if (r->failed || known == 0)
            continue;
        o->shares[o->ngroups].group = group;
        o->shares[o->ngroups].len = len;
        memcpy(o->shares[o->ngroups++].bytes, bytes, len);
    }
}

int smkex_offer_parse(const uint8_t *data, size_t len, struct smkex_offer *o)
{
    struct reader r;
    int err;

    memset(o, 0, sizeof(*o));
    err = open_message(&r, data, len, &o->mode);
    if (err != 0)
        return err;
    o->nver = get_list(&r, o->versions);
    o->flags = get_byte(&r);
    get_copy(&r, o->join, MTLS_JOIN_LEN);
    o->nsuites = get_list(&r, o->suites);
    get_shares(&r, o);
    return r.failed || r.at != r.end ? MTLS_ERR_SMKEX_MALFORMED : 0;
}

static void get_answer(struct reader *r, struct smkex_answer *a)
{
    const uint8_t *age;
    uint8_t len;

    a->flags = get_byte(r);
    a->is_signed = (a->flags & SMKEX_FLAG_SIGNED) != 0;
    age = get(r, 4);
    if (age != NULL)
        a->max_age =
            (uint32_t)age[0] << 24 | (uint32_t)age[1] << 16 | (uint32_t)age[2] << 8 | age[3];
    a->suite = get_byte(r);
    a->share.group = get_byte(r);
    len = get_byte(r);
    if (len == 0 || len > SMKEX_SHARE_MAX || len != smkex_share_len(a->share.group))
        r->failed = true;
    else
        get_copy(r, a->share.bytes, len);
    a->share.len = len;
    if (a->is_signed) {
        get_copy(r, a->key, SMKEX_KEY_LEN);
        get_copy(r, a->signature, SMKEX_SIG_LEN);
    }
}

int smkex_answer_parse(const uint8_t *data, size_t len, struct smkex_answer *a)
{
    struct reader r;
    int err;

    memset(a, 0, sizeof(*a));
    err = open_message(&r, data, len, &a->mode);
    if (err != 0)
        return err;
    a->version = get_byte(&r);
    if (a->version > 1)
        return MTLS_ERR_SMKEX_CHOICE;
    if (a->version == 0)
        a->refusal = get_byte(&r);
    else
        get_answer(&r, a);
    return r.failed || r.at != r.end ? MTLS_ERR_SMKEX_MALFORMED : 0;
}
