/* Concept: path 2's frames inside the one MPTCP connection [MPC]: how many bytes of it belong to
 * path 2, and what they mean. Wraps the machines of path 2's two ends (mtls/core); sans I/O, one
 * claim, one session. Engine lock held for every call: the crypto objects are the engine's. */
#ifndef SMKEX_CORE_INBAND_H
#define SMKEX_CORE_INBAND_H

#include "mtls/core/confirm.h"
#include "mtls/core/path2_client.h"
#include "mtls/core/wire_frame.h"

enum {
    SMKEX_INBAND_HELLO = MTLS_PREFACE_LEN + MTLS_HELLO_LEN,
    SMKEX_INBAND_PROOF = MTLS_PREFACE_LEN + MTLS_READY_LEN + MTLS_PROOF_LEN,
};

struct smkex_inband;

/* HELLO waits in out. Errors: MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int smkex_inband_client(struct smkex_inband **out, struct mtls_crypto *c,
                                       uint16_t port1, const uint8_t secret[MTLS_SECRET_LEN],
                                       mtls_tstamp now);
/* READY and PROOF wait in out once HELLO of this join is here. keys are copied. */
MTLS_NODISCARD int smkex_inband_server(struct smkex_inband **out, struct mtls_crypto *c,
                                       const uint8_t join[MTLS_JOIN_LEN],
                                       const struct mtls_keys *keys, const struct mtls_addr *peer,
                                       mtls_tstamp now);
void smkex_inband_free(struct smkex_inband *x);

/* len bytes of path 2 came. A server is given no byte beyond HELLO before it has taken HELLO, so
 * that READY and PROOF answer it alone. Errors: of the frames; of a refused claim; MTLS_ERR_ARG
 * (more than belongs to path 2 now). */
MTLS_NODISCARD int smkex_inband_input(struct smkex_inband *x, const uint8_t *data, size_t len,
                                      mtls_tstamp now);
const uint8_t *smkex_inband_out(const struct smkex_inband *x, size_t *len);
void smkex_inband_sent(struct smkex_inband *x, size_t n);
/* All bytes of path 2 so far. */
void smkex_inband_bytes(const struct smkex_inband *x, uint64_t *sent, uint64_t *received);

/* Client, all of READY and PROOF here: checks the tag [PRF-4]; with a right one CONFIRM waits in
 * out and d is set. Errors: MTLS_ERR_PROOF_WRONG, MTLS_ERR_PROOF_MISSING, MTLS_ERR_FRAME_VALUE,
 * MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_inband_check(struct smkex_inband *x, const struct mtls_keys *keys);
MTLS_NODISCARD int smkex_inband_confirm(struct smkex_inband *x, const struct mtls_keys *keys,
                                        uint8_t d[MTLS_SHA256_LEN]);
/* Server: whether the right CONFIRM is here, and what it counted. */
bool smkex_inband_confirmed(const struct smkex_inband *x, uint8_t d[MTLS_SHA256_LEN], uint8_t *k,
                            uint8_t *n);

#endif
