/* Concept: the resumption record: what a ticket remembers of a verification (rule 9). Stored in
 * SSL_SESSION ticket_appdata on both sides. */
#ifndef MTLS_CORE_RECORD_H
#define MTLS_CORE_RECORD_H

#include "common.h"
#include "config.h"

enum { MTLS_RECORD_MAX = 4 + 1 + 1 + 1 + 1 + 8 + 4 + 2 + 1 + MTLS_HOST_MAX };

enum mtls_record_mode { MTLS_MODE_EXPORTER = 1, MTLS_MODE_RESUME = 2 };

struct mtls_record {
    uint8_t mode;  /* enum mtls_record_mode */
    uint8_t k;     /* distinct secondary paths that confirmed */
    uint8_t scope; /* MTLS_DISTINCT_* bits that held, never 0; a server, which judges no scope,
                      writes MTLS_DISTINCT_CLIENT and asks mtls_record_valid() for 0 */
    int64_t verified_at;          /* seconds since the epoch; inherited, never renewed */
    uint32_t max_age_s;           /* 1 .. 604800 */
    uint16_t port;                /* path 1's; server: its own */
    char name[MTLS_HOST_MAX + 1]; /* canonical; server: SNI, may be empty */
};

/* Returns the length (<= MTLS_RECORD_MAX) or MTLS_ERR_ARG (cap too small, a field that the parser
 * would refuse). Layout: "MTLr" version(1)=1 mode k scope verified_at(8) max_age(4) port(2)
 * namelen(1) name. */
MTLS_NODISCARD int mtls_record_encode(const struct mtls_record *r, uint8_t *out, size_t cap);
/* Errors: MTLS_ERR_RECORD (anything else than exactly one well-formed record). */
MTLS_NODISCARD int mtls_record_parse(const uint8_t *data, size_t len, struct mtls_record *out);

/* Whether the record vouches for a session to name:port now, under a policy that wants k paths, the
 * scope bits and at most max_age_s (0 = never). verified_at in the future by more than 300 s, or
 * too old: no. A record of MTLS_MODE_RESUME never vouches here: that mode is weaker. */
bool mtls_record_valid(const struct mtls_record *r, const char *name, uint16_t port, uint8_t k,
                       uint8_t scope, uint32_t max_age_s, int64_t now_at);

/* The same for a record of MTLS_MODE_RESUME, and for it alone [RSM-16]. */
bool mtls_record_valid_resume(const struct mtls_record *r, const char *name, uint16_t port,
                              uint8_t scope, uint32_t max_age_s, int64_t now_at);

#endif
