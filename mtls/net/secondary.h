/* Concept: the secondary paths of one client session, Multipath TLS's and SMKEX's alike: which
 * ones, what their claims have come to, which of them count, and CONFIRM on those. The session's,
 * an array of them; engine lock held but for plan and free. */
#ifndef MTLS_NET_SECONDARY_H
#define MTLS_NET_SECONDARY_H

#include "../core/confirm.h"
#include "../core/decision.h"
#include "path2_pool.h"

struct mtls_secondary {
    const struct mtls_path_spec *spec; /* the configuration's, or own */
    struct mtls_path_spec *own;        /* worked out for this session, NULL: the configured one */
    char *why;                         /* auto: why this one; NULL = none */
    struct mtls_path2_claim *claim;    /* L; NULL: not started */
    int error;                         /* could not be started */
    bool ready_before;                 /* mtls_path_status's */
    bool right, wrong_only;            /* proofs against our keys */
    uint8_t slot, tag[MTLS_TAG_LEN];   /* the right PROOF */
    uint8_t p2[MTLS_SHA256_LEN];
    struct mtls_path_facts facts;   /* when it was last judged */
    struct mtls_path_status status; /* SMKEX: when its claim was given up */
};

/* The configured paths, `auto` worked out against path 1 as it is now: it stands for as many
 * devices as are needed, and the words beside it hold for each of them. server (or NULL): path 1's
 * address, which somebody typed [PATH-1]; auto goes there. *n 0 and *out NULL: none. Errors:
 * MTLS_ERR_NOMEM, of the specifications. */
MTLS_NODISCARD int mtls_secondary_plan(struct mtls_secondary **out, uint8_t *n,
                                       const struct mtls_config *c,
                                       const struct mtls_path_facts *path1,
                                       const struct mtls_addr *server);
/* What plan made; claims are the caller's to free before. */
void mtls_secondary_free(struct mtls_secondary *paths, uint8_t n);

/* keys NULL: none yet, proofs are not looked at [PRF-4]. */
void mtls_secondary_status(struct mtls_secondary *p, struct mtls_crypto *c,
                           const struct mtls_keys *keys, struct mtls_path_status *st);
/* The paths with right proofs that count, judged on the live sockets, now [PATH-9]: their mask.
 * path1: as it is now. */
unsigned mtls_secondary_select(struct mtls_secondary *paths, uint8_t n,
                               const struct mtls_path_facts *path1, unsigned *scope);
/* The same with path 1's socket (-1: not known) asked first, all in one go: *path1 is what was
 * known of it before, and then what holds now. */
unsigned mtls_secondary_judge(struct mtls_secondary *paths, uint8_t n, int fd,
                              struct mtls_path_facts *path1, unsigned *scope);
/* [CNF-1] CONFIRM for k on every path of the mask, after all of them were counted;
 * FAIL{not-counted} on the others. *n gets how many, d what was counted. Errors:
 * MTLS_ERR_PATH_NOT_DISTINCT (fewer than k), MTLS_ERR_PATH_CLOSED (nothing could be sent),
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int mtls_secondary_confirm(struct mtls_secondary *paths, uint8_t npaths,
                                          unsigned mask, uint8_t k, struct mtls_crypto *c,
                                          const struct mtls_keys *keys, uint8_t d[MTLS_SHA256_LEN],
                                          uint8_t *n);

#endif
