/* Concept: the memory of verified hosts [MEM-1] as a sorted table, and its text.
 *
 * The text is ASCII, every line ends in one line feed, there is one spelling of everything:
 *
 *     mtls-hosts 1
 *     key KEY
 *     host HASH VERIFIED EXPIRES K SCOPE ADDRESSES [SERVER-KEY]   (0 .. 4096 lines, rising HASH)
 *     end COUNT CHECKSUM
 *
 * KEY: the file's random key, 64 lower-case hexadecimal digits. HASH: HMAC-SHA-256 under KEY over
 * the canonical name,
 * "|" and the TLS port in decimal. VERIFIED, EXPIRES: seconds since the epoch. K: paths that had to
 * confirm, 1 .. 8. SCOPE: 0 .. 3 (1 client-distinct, 2 server-distinct). ADDRESSES: up to 8 path-2
 * addresses "ADDR:PORT" or
 * "[ADDR]:PORT" with commas between, or "-". SERVER-KEY: 64 hexadecimal digits, where the server
 * has one (SMKEX). COUNT: the number of host lines. CHECKSUM: SHA-256 over all bytes before it; it
 * finds damage, it is no protection against someone who may write the file.
 *
 * The hashes are looked up, not verified: their comparison need not take constant time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "hostmem.h"

enum {
    KEY_LEN = 32,
    HASH_LEN = 32,
    ADDR_TEXT_MAX = 56,
    HEAD_TEXT_MAX = 96,
    HOST_TEXT_MAX = 5 + 64 + 2 * 20 + 4 + 8 + 65 + MTLS_HOSTMEM_ADDRS_MAX * ADDR_TEXT_MAX,
    END_TEXT_MAX = 96,
};

struct entry {
    uint8_t hash[HASH_LEN];
    struct mtls_host_record rec;
};

struct mtls_hostmem {
    uint8_t key[KEY_LEN];
    size_t count, cap;
    struct entry *entries; /* sorted by hash */
};

/* ---- The table ---- */

int mtls_hostmem_new(struct mtls_hostmem **out, const uint8_t key[32])
{
    struct mtls_hostmem *m = calloc(1, sizeof(*m));

    *out = m;
    if (m == NULL)
        return MTLS_ERR_NOMEM;
    memcpy(m->key, key, KEY_LEN);
    return 0;
}

void mtls_hostmem_free(struct mtls_hostmem *m)
{
    if (m == NULL)
        return;
    OPENSSL_cleanse(m->key, sizeof(m->key));
    free(m->entries);
    free(m);
}

size_t mtls_hostmem_count(const struct mtls_hostmem *m)
{
    return m->count;
}

/* The index of hash, or the one where it belongs. */
static size_t find(const struct mtls_hostmem *m, const uint8_t hash[HASH_LEN], bool *found)
{
    size_t low = 0, high = m->count;

    *found = false;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int order = memcmp(m->entries[mid].hash, hash, HASH_LEN);

        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void remove_at(struct mtls_hostmem *m, size_t i)
{
    m->count--;
    memmove(&m->entries[i], &m->entries[i + 1], (m->count - i) * sizeof(*m->entries));
}

static int reserve(struct mtls_hostmem *m)
{
    size_t cap = m->cap == 0 ? 16 : 2 * m->cap;
    struct entry *grown;

    if (m->count < m->cap)
        return 0;
    if (cap > MTLS_HOSTMEM_MAX)
        cap = MTLS_HOSTMEM_MAX;
    grown = realloc(m->entries, cap * sizeof(*grown));
    if (grown == NULL)
        return MTLS_ERR_NOMEM;
    m->entries = grown;
    m->cap = cap;
    return 0;
}

static void drop_expired(struct mtls_hostmem *m, int64_t now_at)
{
    size_t kept = 0;

    for (size_t i = 0; i < m->count; i++)
        if (m->entries[i].rec.expires_at > now_at)
            m->entries[kept++] = m->entries[i];
    m->count = kept;
}

static void drop_first_to_expire(struct mtls_hostmem *m)
{
    size_t first = 0;

    for (size_t i = 1; i < m->count; i++)
        if (m->entries[i].rec.expires_at < m->entries[first].rec.expires_at)
            first = i;
    remove_at(m, first);
}

/* ---- Names [MEM-6] ---- */

static int hash_name(const struct mtls_hostmem *m, const char *name, uint16_t port,
                     uint8_t hash[HASH_LEN])
{
    char canonical[MTLS_HOST_MAX + 1], text[MTLS_HOST_MAX + 8];
    size_t len = 0;
    int n;

    if (mtls_name_canonical(name, canonical) != 0)
        return MTLS_ERR_ARG;
    n = snprintf(text, sizeof(text), "%s|%u", canonical, (unsigned)port);
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, m->key, KEY_LEN, (const uint8_t *)text,
                  (size_t)n, hash, HASH_LEN, &len) == NULL ||
        len != HASH_LEN)
        return MTLS_ERR_CRYPTO;
    return 0;
}

int mtls_hostmem_get(const struct mtls_hostmem *m, const char *name, uint16_t port, int64_t now_at,
                     struct mtls_host_record *out)
{
    uint8_t hash[HASH_LEN];
    bool found;
    size_t i;
    int r = hash_name(m, name, port, hash);

    if (r != 0)
        return r;
    i = find(m, hash, &found);
    if (!found || m->entries[i].rec.expires_at <= now_at)
        return 0;
    *out = m->entries[i].rec;
    /* [TIM-16] */
    if (out->verified_at > now_at || now_at - out->verified_at > MTLS_HOSTMEM_ADDR_TTL_S) {
        out->naddr = 0;
        memset(out->addrs, 0, sizeof(out->addrs));
    }
    return 1;
}

/* Checks rec and copies what is meant of it. */
static int copy_record(struct mtls_host_record *to, const struct mtls_host_record *rec)
{
    if (rec->verified_at < 0 || rec->expires_at < 0 || rec->k < 1 || rec->k > MTLS_PATHS_MAX ||
        rec->scope > (MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER) ||
        rec->naddr > MTLS_HOSTMEM_ADDRS_MAX)
        return MTLS_ERR_ARG;
    memset(to, 0, sizeof(*to));
    to->verified_at = rec->verified_at;
    to->expires_at = rec->expires_at;
    to->k = rec->k;
    to->scope = rec->scope;
    to->has_key = rec->has_key;
    if (rec->has_key)
        memcpy(to->key, rec->key, sizeof(to->key));
    to->naddr = rec->naddr;
    for (uint8_t i = 0; i < rec->naddr; i++) {
        char text[ADDR_TEXT_MAX];
        struct mtls_host h;

        if ((rec->addrs[i].family != 4 && rec->addrs[i].family != 6) || rec->addrs[i].port == 0)
            return MTLS_ERR_ARG;
        /* Through its text: what is kept is what will be read back. */
        (void)mtls_addr_format(&rec->addrs[i], text, sizeof(text));
        if (mtls_host_parse(&h, text) != 0)
            return MTLS_ERR_INTERNAL;
        to->addrs[i] = h.addr;
    }
    return 0;
}

int mtls_hostmem_put(struct mtls_hostmem *m, const char *name, uint16_t port,
                     const struct mtls_host_record *rec, int64_t now_at)
{
    struct entry e;
    bool found;
    size_t i;
    int r = port != 0 ? hash_name(m, name, port, e.hash) : MTLS_ERR_ARG;

    if (r == 0)
        r = copy_record(&e.rec, rec);
    if (r != 0)
        return r;
    drop_expired(m, now_at);
    i = find(m, e.hash, &found);
    if (found)
        remove_at(m, i);
    if (e.rec.expires_at <= now_at) /* [MEM-3] a lifetime of 0: forget */
        return 0;
    if (m->count == MTLS_HOSTMEM_MAX)
        drop_first_to_expire(m);
    r = reserve(m);
    if (r != 0)
        return r;
    i = find(m, e.hash, &found);
    memmove(&m->entries[i + 1], &m->entries[i], (m->count - i) * sizeof(e));
    m->entries[i] = e;
    m->count++;
    return 0;
}

int mtls_hostmem_forget(struct mtls_hostmem *m, const char *name, uint16_t port)
{
    uint8_t hash[HASH_LEN];
    bool found;
    size_t i;
    int r = hash_name(m, name, port, hash);

    if (r != 0)
        return r;
    i = find(m, hash, &found);
    if (found)
        remove_at(m, i);
    return found;
}

/* ---- From the table to text ---- */

static void hex(char out[2 * HASH_LEN + 1], const uint8_t in[HASH_LEN])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < HASH_LEN; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * HASH_LEN] = '\0';
}

static int checksum(const char *text, size_t len, char out[2 * MTLS_SHA256_LEN + 1])
{
    uint8_t md[MTLS_SHA256_LEN];
    size_t md_len = 0;

    if (EVP_Q_digest(NULL, "SHA256", NULL, text, len, md, &md_len) != 1 || md_len != sizeof(md))
        return MTLS_ERR_CRYPTO;
    hex(out, md);
    return 0;
}

static size_t format_entry(const struct entry *e, char *out)
{
    char hash[2 * HASH_LEN + 1];
    size_t n;

    hex(hash, e->hash);
    n = (size_t)snprintf(out, HOST_TEXT_MAX, "host %s %lld %lld %u %u ", hash,
                         (long long)e->rec.verified_at, (long long)e->rec.expires_at,
                         (unsigned)e->rec.k, (unsigned)e->rec.scope);
    for (uint8_t i = 0; i < e->rec.naddr; i++) {
        if (i > 0)
            out[n++] = ',';
        n += (size_t)mtls_addr_format(&e->rec.addrs[i], out + n, ADDR_TEXT_MAX);
    }
    if (e->rec.naddr == 0)
        out[n++] = '-';
    if (e->rec.has_key) {
        out[n++] = ' ';
        hex(out + n, e->rec.key);
        n += 2 * sizeof(e->rec.key);
    }
    out[n++] = '\n';
    return n;
}

int mtls_hostmem_format(const struct mtls_hostmem *m, char **text, size_t *len)
{
    const size_t cap = HEAD_TEXT_MAX + m->count * HOST_TEXT_MAX + END_TEXT_MAX;
    char digits[2 * HASH_LEN + 1], *out = malloc(cap);
    size_t n;
    int r;

    *text = NULL;
    *len = 0;
    if (out == NULL)
        return MTLS_ERR_NOMEM;
    hex(digits, m->key);
    n = (size_t)snprintf(out, cap, "mtls-hosts 1\nkey %s\n", digits);
    OPENSSL_cleanse(digits, sizeof(digits));
    for (size_t i = 0; i < m->count; i++)
        n += format_entry(&m->entries[i], out + n);
    n += (size_t)snprintf(out + n, cap - n, "end %zu ", m->count);
    r = checksum(out, n, digits);
    if (r != 0) {
        OPENSSL_cleanse(out, cap);
        free(out);
        return r;
    }
    n += (size_t)snprintf(out + n, cap - n, "%s\n", digits);
    *text = out;
    *len = n;
    return 0;
}

/* ---- From text to the table ---- */

struct cursor {
    const char *text, *p, *end;
};

static bool take(struct cursor *c, const char *literal)
{
    const size_t n = strlen(literal);

    if ((size_t)(c->end - c->p) < n || memcmp(c->p, literal, n) != 0)
        return false;
    c->p += n;
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(struct cursor *c, uint8_t out[HASH_LEN])
{
    if (c->end - c->p < 2 * HASH_LEN)
        return false;
    for (size_t i = 0; i < HASH_LEN; i++, c->p += 2) {
        const int high = hex_value(c->p[0]), low = hex_value(c->p[1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Decimal without sign or leading zeros, and the character that follows. */
static bool take_number(struct cursor *c, int64_t max, char after, int64_t *out)
{
    const char *start = c->p;
    int64_t n = 0;

    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        const int digit = *c->p - '0';

        if (digit > max || n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    if (c->p == start || (c->p - start > 1 && *start == '0') || c->p == c->end || *c->p != after)
        return false;
    c->p++;
    *out = n;
    return true;
}

/* One address up to a comma or the end of the line; only its canonical spelling. */
static bool take_addr(struct cursor *c, struct mtls_addr *out)
{
    char text[ADDR_TEXT_MAX], again[ADDR_TEXT_MAX];
    struct mtls_host h;
    size_t n = 0;

    while (c->p < c->end && *c->p != ',' && *c->p != ' ' && *c->p != '\n' && *c->p != '\0' &&
           n + 1 < sizeof(text))
        text[n++] = *c->p++;
    text[n] = '\0';
    if (mtls_host_parse(&h, text) != 0 || h.addr.family == 0 || h.addr.port == 0)
        return false;
    (void)mtls_addr_format(&h.addr, again, sizeof(again));
    *out = h.addr;
    return strcmp(text, again) == 0;
}

static bool take_addrs(struct cursor *c, struct mtls_host_record *rec)
{
    if (take(c, "-"))
        return true;
    do {
        if (rec->naddr == MTLS_HOSTMEM_ADDRS_MAX || !take_addr(c, &rec->addrs[rec->naddr]))
            return false;
        rec->naddr++;
    } while (take(c, ","));
    return true;
}

static bool take_entry(struct cursor *c, struct entry *e)
{
    int64_t k, scope;

    memset(e, 0, sizeof(*e));
    if (!take_hex(c, e->hash) || !take(c, " ") ||
        !take_number(c, INT64_MAX, ' ', &e->rec.verified_at) ||
        !take_number(c, INT64_MAX, ' ', &e->rec.expires_at) ||
        !take_number(c, MTLS_PATHS_MAX, ' ', &k) || k == 0 ||
        !take_number(c, MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER, ' ', &scope))
        return false;
    e->rec.k = (uint8_t)k;
    e->rec.scope = (uint8_t)scope;
    if (!take_addrs(c, &e->rec))
        return false;
    e->rec.has_key = take(c, " ");
    return (!e->rec.has_key || take_hex(c, e->rec.key)) && take(c, "\n");
}

static int parse_entries(struct mtls_hostmem *m, struct cursor *c)
{
    struct entry e;
    int r;

    while (take(c, "host ")) {
        if (!take_entry(c, &e) || m->count == MTLS_HOSTMEM_MAX)
            return MTLS_ERR_HOSTS_CORRUPT;
        if (m->count > 0 && memcmp(m->entries[m->count - 1].hash, e.hash, HASH_LEN) >= 0)
            return MTLS_ERR_HOSTS_CORRUPT;
        r = reserve(m);
        if (r != 0)
            return r;
        m->entries[m->count++] = e;
    }
    return 0;
}

static int parse_end(const struct mtls_hostmem *m, struct cursor *c)
{
    char digits[2 * MTLS_SHA256_LEN + 1];
    int64_t count;
    int r;

    if (!take(c, "end ") || !take_number(c, MTLS_HOSTMEM_MAX, ' ', &count) ||
        (size_t)count != m->count)
        return MTLS_ERR_HOSTS_CORRUPT;
    r = checksum(c->text, (size_t)(c->p - c->text), digits);
    if (r != 0)
        return r;
    if (!take(c, digits) || !take(c, "\n") || c->p != c->end)
        return MTLS_ERR_HOSTS_CORRUPT;
    return 0;
}

int mtls_hostmem_parse(struct mtls_hostmem **out, const char *text, size_t len)
{
    struct cursor c = {.text = text, .p = text, .end = len > 0 ? text + len : text};
    struct mtls_hostmem *m = NULL;
    uint8_t key[KEY_LEN];
    int r = MTLS_ERR_HOSTS_CORRUPT;

    *out = NULL;
    if (len > MTLS_HOSTMEM_TEXT_MAX || !take(&c, "mtls-hosts 1\nkey ") || !take_hex(&c, key) ||
        !take(&c, "\n"))
        goto out;
    r = mtls_hostmem_new(&m, key);
    if (r == 0)
        r = parse_entries(m, &c);
    if (r == 0)
        r = parse_end(m, &c);
    if (r == 0) {
        *out = m;
        m = NULL;
    }
out:
    OPENSSL_cleanse(key, sizeof(key));
    mtls_hostmem_free(m);
    return r;
}
