/* Concept: the memory of verified hosts (rule 12): its text format, look-up and change, in memory.
 * The file around it is net/hostfile.h. Names are kept as HMAC-SHA-256 under the file's own random
 * key. */
#ifndef MTLS_CORE_HOSTMEM_H
#define MTLS_CORE_HOSTMEM_H

#include "common.h"
#include "config.h"

enum {
    MTLS_HOSTMEM_MAX = 4096 /* entries */,
    MTLS_HOSTMEM_ADDRS_MAX = 8,
    MTLS_HOSTMEM_TEXT_MAX = 4 << 20,
    MTLS_HOSTMEM_ADDR_TTL_S = 7 * 86400
};

struct mtls_host_record {
    int64_t verified_at, expires_at;
    uint8_t k, scope;
    bool has_key;
    uint8_t key[32]; /* the server's long-term key (SMKEX) */
    uint8_t naddr;
    struct mtls_addr
        addrs[MTLS_HOSTMEM_ADDRS_MAX]; /* path-2 addresses of a session verified by exporter
                                          proof; valid MTLS_HOSTMEM_ADDR_TTL_S after verified_at */
};

struct mtls_hostmem;

/* Empty memory with this random key (32 bytes). Errors: MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_hostmem_new(struct mtls_hostmem **out, const uint8_t key[32]);
/* Parses a file's text. Errors: MTLS_ERR_HOSTS_CORRUPT (anything out of format, checksum, count; an
 * empty text too: an empty file is not an empty memory), MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_hostmem_parse(struct mtls_hostmem **out, const char *text, size_t len);
void mtls_hostmem_free(struct mtls_hostmem *m);
/* *text is malloc'ed. */
MTLS_NODISCARD int mtls_hostmem_format(const struct mtls_hostmem *m, char **text, size_t *len);

/* 1 and *out when name:port is remembered and not expired, else 0; its addresses are left out when
 * they are too old. Errors of this and the next two: MTLS_ERR_ARG (name is none), MTLS_ERR_CRYPTO.
 */
MTLS_NODISCARD int mtls_hostmem_get(const struct mtls_hostmem *m, const char *name, uint16_t port,
                                    int64_t now_at, struct mtls_host_record *out);
/* Adds or replaces; drops expired entries first; when full, the one that expires first goes. A
 * record that is expired at now_at only removes. Errors: also MTLS_ERR_ARG (port 0, a member out of
 * range), MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_hostmem_put(struct mtls_hostmem *m, const char *name, uint16_t port,
                                    const struct mtls_host_record *rec, int64_t now_at);
/* 1 if there was one. port 0: all ports are not searchable (names are hashed with the port): 0. */
MTLS_NODISCARD int mtls_hostmem_forget(struct mtls_hostmem *m, const char *name, uint16_t port);
size_t mtls_hostmem_count(const struct mtls_hostmem *m);

#endif
