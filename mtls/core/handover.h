/* Concept: what one process of a service tells another about path 2: that it has a claim for the
 * other's session, the frames of such a claim, and a whole connection with what is open on it.
 * Bytes only; never a key, a tag that is not in a frame, or a verdict [SRV-10]. Encodes and
 * decodes; whatever is not exactly a message is none. */
#ifndef MTLS_CORE_HANDOVER_H
#define MTLS_CORE_HANDOVER_H

#include "directory.h"
#include "wire_frame.h"

enum {
    MTLS_HANDOVER_CLAIMS_MAX = 64,  /* of a connection: MTLS_P2S_CLAIMS_MAX */
    MTLS_HANDOVER_BYTES_MAX = 1024, /* frames in one message */
    MTLS_HANDOVER_MAX = 8192,       /* a whole message */
};

enum mtls_handover_type {
    MTLS_HANDOVER_CLAIM = 1, /* holder to owner: serial, claim, local, peer */
    MTLS_HANDOVER_TO_OWNER,  /* frames of the client: serial, id, bytes */
    MTLS_HANDOVER_TO_HOLDER, /* frames for the client: serial, id, bytes */
    MTLS_HANDOVER_GONE,      /* holder to owner: the claim has ended: serial, id */
    MTLS_HANDOVER_DONE,      /* owner to holder: no more of it from here: serial, id, close */
    MTLS_HANDOVER_WANT,      /* owner to holder: there is a session now: join */
    MTLS_HANDOVER_CONN,      /* with the socket: conn */
};

struct mtls_claim_state {
    uint32_t id;
    uint8_t path, proofs; /* proofs: bit for each slot whose PROOF the client has */
    bool confirmed;
    uint8_t confirmed_slot;
    uint8_t join[MTLS_JOIN_LEN], p2[MTLS_SHA256_LEN];
};

struct mtls_conn_state {
    uint32_t last_id;
    bool preface_done, preface_sent;   /* the client's, the server's */
    uint8_t have, buf[MTLS_FRAME_MAX]; /* read, and not a frame yet */
    uint8_t nclaims;
    struct mtls_claim_state claims[MTLS_HANDOVER_CLAIMS_MAX];
};

struct mtls_handover {
    enum mtls_handover_type type;
    uint64_t serial; /* the holder's number of the connection */
    uint32_t id;     /* of the claim on it */
    bool close;      /* the connection broke a rule by what it sent */
    struct mtls_addr local, peer;
    struct mtls_claim_state claim;
    uint8_t join[MTLS_JOIN_LEN];
    const uint8_t *bytes; /* decoded: inside the message */
    size_t len;
    struct mtls_conn_state conn;
};

/* Returns the length, or MTLS_ERR_ARG (does not fit, or no such message). */
MTLS_NODISCARD int mtls_handover_encode(const struct mtls_handover *m, uint8_t *out, size_t cap);
/* Errors: MTLS_ERR_FRAME_TYPE, MTLS_ERR_FRAME_VERSION, MTLS_ERR_FRAME_LENGTH, MTLS_ERR_FRAME_VALUE.
 */
MTLS_NODISCARD int mtls_handover_decode(struct mtls_handover *m, const uint8_t *data, size_t len);

#endif
