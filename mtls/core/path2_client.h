/* Concept: the client's end of one secondary connection: many claims, each HELLO -> READY ->
 * PROOF(s)
 * -> CONFIRM or FAIL. Sans-I/O: bytes in, bytes out. Owns its claims; knows neither sockets nor
 * sessions. Errors on input end the connection, never a session by themselves. */
#ifndef MTLS_CORE_PATH2_CLIENT_H
#define MTLS_CORE_PATH2_CLIENT_H

#include "common.h"
#include "crypto.h"
#include "wire_frame.h"

enum { MTLS_P2C_CLAIMS_MAX = 256 /* open claims of one connection */ };

enum mtls_claim_state {
    MTLS_CLAIM_HELLO, /* HELLO queued or sent, no READY yet */
    MTLS_CLAIM_READY, /* READY{ok}, hash right: waits for PROOF */
    MTLS_CLAIM_PROOF, /* at least one PROOF is here */
    MTLS_CLAIM_ENDED, /* see error */
};

struct mtls_p2c_proof {
    uint8_t slot, more;
    uint8_t tag[MTLS_TAG_LEN];
};

struct mtls_p2c_claim {
    uint32_t id;
    uint8_t path;
    enum mtls_claim_state state;
    int error; /* ENDED: MTLS_ERR_PATH_BUSY, _NOT_HERE, _CLOSED, _FOREIGN (connection ended
                  or foreign bytes before READY), MTLS_ERR_PROOF_MISSING (FAIL), ... */
    uint8_t fail_reason; /* of a FAIL frame, advisory */
    bool ready_seen;     /* any READY with the right hash came, whatever its status [DWN-1] */
    mtls_tstamp hello_at, ready_at, proof_at; /* 0 = not yet */
    uint8_t p2[MTLS_SHA256_LEN];              /* valid from READY on */
    uint8_t
        nproof; /* a proof that came stays valid when FAIL or the connection's end comes later */
    struct mtls_p2c_proof proofs[MTLS_SLOTS_MAX];
    void *user; /* the caller's */
};

struct mtls_p2c;

/* Called inside mtls_p2c_input() and mtls_p2c_closed() after a claim changed. It may call
 * mtls_p2c_confirm/_fail/_release for that claim, not free the connection. */
typedef void mtls_p2c_changed_fn(void *arg, struct mtls_p2c_claim *claim);

MTLS_NODISCARD int mtls_p2c_new(struct mtls_p2c **out, struct mtls_crypto *c,
                                mtls_p2c_changed_fn *changed, void *arg);
void mtls_p2c_free(struct mtls_p2c *p); /* frees its claims without a call-back */

/* Opens a claim: queues HELLO (the preface first, once) with a fresh nonce. Claim ids rise strictly
 * from 1. Errors: MTLS_ERR_LIMIT (too many open claims, or ids used up: open another connection),
 * MTLS_ERR_PATH_CLOSED, MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_p2c_hello(struct mtls_p2c *p, uint8_t path, uint16_t port1,
                                  const uint8_t secret[MTLS_SECRET_LEN], void *user,
                                  struct mtls_p2c_claim **out, mtls_tstamp now);

/* Feeds what was read. 0, or a negative error: the caller closes the connection (every open claim
 * has then ended and was reported). Checks READY's hash [P2-READY]; a second READY, a PROOF before
 * READY or in a slot already taken, or a frame for an unknown claim is an error; frames for claims
 * that ended or were released a moment ago are dropped in silence. */
MTLS_NODISCARD int mtls_p2c_input(struct mtls_p2c *p, const uint8_t *data, size_t len,
                                  mtls_tstamp now);
/* The transport ended (EOF, reset, refusal: error says which, MTLS_ERR_PATH_*): every open claim
 * ends with it. */
void mtls_p2c_closed(struct mtls_p2c *p, int error, mtls_tstamp now);

/* Queues CONFIRM (a claim in state PROOF) or FAIL; both end the claim's exchange. */
MTLS_NODISCARD int mtls_p2c_confirm(struct mtls_p2c *p, struct mtls_p2c_claim *claim, uint8_t slot,
                                    uint8_t k, uint8_t n, const uint8_t tag[MTLS_TAG_LEN]);
void mtls_p2c_fail(struct mtls_p2c *p, struct mtls_p2c_claim *claim, uint8_t reason);
/* The caller forgets the claim; it is freed. */
void mtls_p2c_release(struct mtls_p2c *p, struct mtls_p2c_claim *claim);

/* Bytes to write; tell how many went out. */
const uint8_t *mtls_p2c_out(const struct mtls_p2c *p, size_t *len);
void mtls_p2c_sent(struct mtls_p2c *p, size_t n);

bool mtls_p2c_preface_seen(const struct mtls_p2c *p); /* the peer's preface was right */
size_t mtls_p2c_open_claims(const struct mtls_p2c *p);

#endif
