/* Concept: the bytes of TLS extension 0xFF4D (wire_ext.h). */
#include "wire_ext.h"

#include <string.h>

static const uint8_t magic[4] = {'M', 'T', 'L', '1'};

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* Bytes of an address of this family; 0 = no such family. */
static size_t ip_len(uint8_t family)
{
    return family == 4 ? 4 : family == 6 ? 16 : 0;
}

static bool has_magic(const uint8_t *data, size_t len)
{
    return len >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

int mtls_ext_ch_encode(const struct mtls_ext_ch *ext, uint8_t *out, size_t cap)
{
    size_t len = sizeof magic + 1 + ext->nver + 1 + MTLS_JOIN_LEN;
    uint8_t *p = out;

    if (ext->nver == 0 || ext->nver > MTLS_EXT_VERSIONS_MAX || len > cap)
        return MTLS_ERR_ARG;
    memcpy(p, magic, sizeof magic);
    p += sizeof magic;
    *p++ = ext->nver;
    memcpy(p, ext->versions, ext->nver);
    p += ext->nver;
    *p++ = ext->flags;
    memcpy(p, ext->join, MTLS_JOIN_LEN);
    return (int)len;
}

int mtls_ext_ch_parse(const uint8_t *data, size_t len, struct mtls_ext_ch *out)
{
    const uint8_t *p;

    memset(out, 0, sizeof *out);
    if (!has_magic(data, len))
        return MTLS_ERR_EXT_NOT_OURS;
    p = data + sizeof magic;
    if (len < sizeof magic + 1 || p[0] == 0 || p[0] > MTLS_EXT_VERSIONS_MAX ||
        len != sizeof magic + 1 + p[0] + 1 + MTLS_JOIN_LEN)
        return MTLS_ERR_EXT_MALFORMED;
    out->nver = *p++;
    memcpy(out->versions, p, out->nver);
    p += out->nver;
    out->flags = *p++;
    memcpy(out->join, p, MTLS_JOIN_LEN);
    return 0;
}

bool mtls_ext_ch_offers(const struct mtls_ext_ch *ext, uint8_t version)
{
    return memchr(ext->versions, version, ext->nver) != NULL;
}

enum { EE_FIXED_LEN = 4 + 1 + 1 + 2 + 4 + 1 };

int mtls_ext_ee_encode(const struct mtls_ext_ee *ext, uint8_t *out, size_t cap)
{
    size_t len = EE_FIXED_LEN;
    uint8_t *p = out + EE_FIXED_LEN;

    if (ext->naddr > MTLS_EXT_ADDRS_MAX)
        return MTLS_ERR_ARG;
    for (size_t i = 0; i < ext->naddr; i++) {
        if (ip_len(ext->addrs[i].family) == 0)
            return MTLS_ERR_ARG;
        len += 1 + ip_len(ext->addrs[i].family) + 2;
    }
    if (len > cap)
        return MTLS_ERR_ARG;
    memcpy(out, magic, sizeof magic);
    out[4] = ext->version;
    out[5] = ext->flags;
    put16(out + 6, ext->port);
    put32(out + 8, ext->max_age);
    out[12] = ext->naddr;
    for (size_t i = 0; i < ext->naddr; i++) {
        const struct mtls_addr *a = &ext->addrs[i];

        *p++ = a->family;
        memcpy(p, a->ip, ip_len(a->family));
        p += ip_len(a->family);
        put16(p, a->port);
        p += 2;
    }
    return (int)len;
}

/* Reads one address at *pos and advances it. */
static int addr_parse(const uint8_t *data, size_t len, size_t *pos, struct mtls_addr *out)
{
    size_t ip;

    if (*pos == len)
        return MTLS_ERR_EXT_MALFORMED;
    out->family = data[(*pos)++];
    ip = ip_len(out->family);
    if (ip == 0 || len - *pos < ip + 2)
        return MTLS_ERR_EXT_MALFORMED;
    memcpy(out->ip, data + *pos, ip);
    out->port = get16(data + *pos + ip);
    *pos += ip + 2;
    return 0;
}

int mtls_ext_ee_parse(const uint8_t *data, size_t len, struct mtls_ext_ee *out)
{
    size_t pos = EE_FIXED_LEN;

    memset(out, 0, sizeof *out);
    if (!has_magic(data, len))
        return MTLS_ERR_EXT_NOT_OURS;
    if (len < sizeof magic + 1)
        return MTLS_ERR_EXT_MALFORMED;
    if (data[4] != MTLS_VERSION_1) /* another version may lay out the rest differently */
        return MTLS_ERR_EXT_VERSION;
    if (len < EE_FIXED_LEN || data[12] > MTLS_EXT_ADDRS_MAX)
        return MTLS_ERR_EXT_MALFORMED;
    out->version = data[4];
    out->flags = data[5];
    out->port = get16(data + 6);
    out->max_age = get32(data + 8);
    out->naddr = data[12];
    for (size_t i = 0; i < out->naddr; i++)
        if (addr_parse(data, len, &pos, &out->addrs[i]) != 0)
            return MTLS_ERR_EXT_MALFORMED;
    return pos == len ? 0 : MTLS_ERR_EXT_MALFORMED;
}
