/* Concept: the client's secondary connections and the claims that sessions make over them. A claim
 * outlives the connection it began on: a kept connection that turns out dead is replaced once, in
 * silence. Connections are kept by (server name, port of path 1, path specification), never by
 * address [REU]. Engine lock held for every call; call-backs run on the reactor. */
#ifndef MTLS_NET_PATH2_POOL_H
#define MTLS_NET_PATH2_POOL_H

#include "../core/config.h"
#include "../core/decision.h"
#include "../core/distinct.h"
#include "../core/path2_client.h"

/* At most that many connections, and at most a quarter of the descriptors that the process may
 * have; where they are used up, the oldest without an open claim makes room. */
enum { MTLS_POOL_CONNS_MAX = 1024, MTLS_POOL_ADDRS_MAX = 8 };

struct mtls_path2_claim;

/* Something about the claim changed: ask mtls_path2_claim_status(). It may free the claim. */
typedef void mtls_path2_claim_fn(void *arg, struct mtls_path2_claim *claim, mtls_tstamp now);

struct mtls_path2_request {
    const char *name; /* canonical server name, or a literal the user gave; "" = unknown */
    uint16_t port1;
    const struct mtls_path_spec *spec; /* concrete, not auto */
    uint8_t path;                      /* its number in HELLO */
    struct mtls_addr
        path1_remote; /* family 0 = not known; only chooses among path 2's own answers */
    const struct mtls_addr *stored; /* addresses from the host memory, admissible by [PATH] (c) */
    size_t nstored;
    bool tfo, reuse;
    const uint8_t *secret;
};

/* Begins a claim: HELLO over a kept connection, or a new one. The request is copied. Never calls fn
 * itself: an immediate failure shows in the status. Errors: MTLS_ERR_NOMEM, MTLS_ERR_LIMIT,
 * MTLS_ERR_CRYPTO, MTLS_ERR_STOPPED. */
MTLS_NODISCARD int mtls_path2_claim_new(struct mtls_path2_claim **out,
                                        const struct mtls_path2_request *req,
                                        mtls_path2_claim_fn *fn, void *arg, mtls_tstamp now);
void mtls_path2_claim_set_fn(struct mtls_path2_claim *claim, mtls_path2_claim_fn *fn, void *arg);
/* The claim's session has sent its ClientHello and waits for nothing yet: what was left out for it
 * is asked now. */
void mtls_path2_claim_note(struct mtls_path2_claim *claim);
void mtls_path2_claim_free(struct mtls_path2_claim *claim); /* NULL is fine */

/* state, error, ready_seen, not_here, rtt_us; the checks of proofs are the caller's. */
void mtls_path2_claim_status(const struct mtls_path2_claim *claim, struct mtls_path_status *out);
/* READY's P2 and the PROOFs; NULL before READY. */
const struct mtls_p2c_claim *mtls_path2_claim_wire(const struct mtls_path2_claim *claim);
/* The live socket's facts now; facts->known is false without one. */
void mtls_path2_claim_facts(const struct mtls_path2_claim *claim, struct mtls_path_facts *facts);
const struct mtls_path_spec *mtls_path2_claim_spec(const struct mtls_path2_claim *claim);

struct mtls_path2_times {
    mtls_tstamp connected_at, hello_at, ready_at, proof_at;
};
void mtls_path2_claim_times(const struct mtls_path2_claim *claim, struct mtls_path2_times *out);

/* Sends CONFIRM at once, as far as the socket takes it. */
MTLS_NODISCARD int mtls_path2_claim_confirm(struct mtls_path2_claim *claim, uint8_t slot, uint8_t k,
                                            uint8_t n, const uint8_t tag[MTLS_TAG_LEN]);
void mtls_path2_claim_fail(struct mtls_path2_claim *claim, uint8_t reason);

/* Opens a connection ahead of its first claim (announce). req->secret and path are not looked at. 0
 * also when there is one. */
MTLS_NODISCARD int mtls_path2_warm(const struct mtls_path2_request *req, mtls_tstamp now);
/* Whether a kept connection is open for it. */
bool mtls_path2_is_warm(const struct mtls_path2_request *req, mtls_tstamp now);

void mtls_pool_fork_child(void);

#endif
