/* Concept: the resumption record (record.h): its bytes, and what it is worth. [RES-1] */
#include "record.h"

#include <string.h>

static const uint8_t magic[5] = {'M', 'T', 'L', 'r', 1}; /* with the version of the layout */

enum {
    MAX_AGE_LIMIT_S = 604800,
    CLOCK_SLACK_S = 300, /* clocks of the nodes of a farm */
    FIXED_LEN = MTLS_RECORD_MAX - MTLS_HOST_MAX,
};

static void put(uint8_t *p, uint64_t v, size_t n)
{
    while (n-- > 0) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}

static uint64_t get(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* Canonical text: visible ASCII without upper case (a zero byte inside would hide what follows). */
static bool name_legal(const uint8_t *name, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] > '~' || (name[i] >= 'A' && name[i] <= 'Z'))
            return false;
    return true;
}

static bool fields_legal(const struct mtls_record *r)
{
    return (r->mode == MTLS_MODE_EXPORTER || r->mode == MTLS_MODE_RESUME) && r->k >= 1 &&
           r->k <= MTLS_PATHS_MAX && r->scope >= 1 &&
           r->scope <= (MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER) && r->verified_at >= 0 &&
           r->max_age_s >= 1 && r->max_age_s <= MAX_AGE_LIMIT_S;
}

int mtls_record_encode(const struct mtls_record *r, uint8_t *out, size_t cap)
{
    size_t name_len = strnlen(r->name, sizeof r->name);

    if (!fields_legal(r) || name_len > MTLS_HOST_MAX || cap < FIXED_LEN + name_len ||
        !name_legal((const uint8_t *)r->name, name_len))
        return MTLS_ERR_ARG;
    memcpy(out, magic, sizeof magic);
    out[5] = r->mode;
    out[6] = r->k;
    out[7] = r->scope;
    put(out + 8, (uint64_t)r->verified_at, 8);
    put(out + 16, r->max_age_s, 4);
    put(out + 20, r->port, 2);
    out[22] = (uint8_t)name_len;
    memcpy(out + FIXED_LEN, r->name, name_len);
    return (int)(FIXED_LEN + name_len);
}

int mtls_record_parse(const uint8_t *data, size_t len, struct mtls_record *out)
{
    memset(out, 0, sizeof *out);
    if (len < FIXED_LEN || memcmp(data, magic, sizeof magic) != 0 ||
        len != (size_t)FIXED_LEN + data[22] || !name_legal(data + FIXED_LEN, data[22]))
        return MTLS_ERR_RECORD;
    out->mode = data[5];
    out->k = data[6];
    out->scope = data[7];
    out->verified_at = (int64_t)get(data + 8, 8);
    out->max_age_s = (uint32_t)get(data + 16, 4);
    out->port = (uint16_t)get(data + 20, 2);
    memcpy(out->name, data + FIXED_LEN, data[22]);
    return fields_legal(out) ? 0 : MTLS_ERR_RECORD;
}

static bool vouches(const struct mtls_record *r, enum mtls_record_mode mode, const char *name,
                    uint16_t port, uint8_t k, uint8_t scope, uint32_t max_age_s, int64_t now_at)
{
    uint32_t limit_s = r->max_age_s < max_age_s ? r->max_age_s : max_age_s;

    if (!fields_legal(r) || r->mode != mode || now_at < 0)
        return false;
    if (strcmp(r->name, name) != 0 || r->port != port)
        return false;
    if (r->k < k || (r->scope & scope) != scope || max_age_s == 0)
        return false;
    if (r->verified_at > now_at)
        return r->verified_at - now_at <= CLOCK_SLACK_S;
    return now_at - r->verified_at <= (int64_t)limit_s;
}

bool mtls_record_valid(const struct mtls_record *r, const char *name, uint16_t port, uint8_t k,
                       uint8_t scope, uint32_t max_age_s, int64_t now_at)
{
    return vouches(r, MTLS_MODE_EXPORTER, name, port, k, scope, max_age_s, now_at);
}

bool mtls_record_valid_resume(const struct mtls_record *r, const char *name, uint16_t port,
                              uint8_t scope, uint32_t max_age_s, int64_t now_at)
{
    return vouches(r, MTLS_MODE_RESUME, name, port, 1, scope, max_age_s, now_at);
}
