/* Concept: the bytes of path 2: the preface and five frames. Encodes frames and cuts a byte stream
 * into frames, at any split. Knows lengths and field ranges, not claims or states. */
#ifndef MTLS_CORE_WIRE_FRAME_H
#define MTLS_CORE_WIRE_FRAME_H

#include "common.h"

enum mtls_frame_type {
    MTLS_FRAME_HELLO = 1,
    MTLS_FRAME_READY = 2,
    MTLS_FRAME_PROOF = 3,
    MTLS_FRAME_CONFIRM = 4,
    MTLS_FRAME_FAIL = 5,
};

enum mtls_ready_status { MTLS_READY_OK = 0, MTLS_READY_BUSY = 1, MTLS_READY_NOT_HERE = 2 };

/* Reasons in FAIL: advisory, unauthenticated. */
enum mtls_fail_reason {
    MTLS_FAIL_UNSPECIFIED = 0,
    MTLS_FAIL_NO_SESSION = 1,    /* no session with this join came in time, or it has ended */
    MTLS_FAIL_PROOF_WRONG = 2,   /* client */
    MTLS_FAIL_CONFIRM_WRONG = 3, /* server */
    MTLS_FAIL_LIMIT = 4,         /* too many claims for this session */
    MTLS_FAIL_ABANDONED = 5,     /* the session ended for another reason */
    MTLS_FAIL_NOT_COUNTED = 6,   /* client: this path is not needed or not distinct */
};

enum {
    MTLS_PREFACE_LEN = 8,
    MTLS_FRAME_HEADER_LEN = 8,
    MTLS_HELLO_LEN = MTLS_FRAME_HEADER_LEN + 2 + 1 + 32 + 32,  /* 75 */
    MTLS_READY_LEN = MTLS_FRAME_HEADER_LEN + 1 + 32 + 32,      /* 73 */
    MTLS_PROOF_LEN = MTLS_FRAME_HEADER_LEN + 1 + 1 + 32,       /* 42 */
    MTLS_CONFIRM_LEN = MTLS_FRAME_HEADER_LEN + 1 + 1 + 1 + 32, /* 43 */
    MTLS_FAIL_LEN = MTLS_FRAME_HEADER_LEN + 1,                 /* 9 */
    MTLS_FRAME_MAX = MTLS_HELLO_LEN,
};

extern const uint8_t mtls_preface[MTLS_PREFACE_LEN]; /* F0 4D 54 4C 53 32 0D 0A */

struct mtls_frame {
    uint8_t type;
    uint32_t claim;
    const uint8_t *raw; /* the whole frame, header included; valid until the next call */
    size_t raw_len;
    union {
        struct {
            uint16_t port1;
            uint8_t path;
            const uint8_t *secret, *nonce;
        } hello;
        struct {
            uint8_t status;
            const uint8_t *nonce, *hello_hash;
        } ready;
        struct {
            uint8_t slot, more;
            const uint8_t *tag;
        } proof;
        struct {
            uint8_t slot, k, n;
            const uint8_t *tag;
        } confirm;
        struct {
            uint8_t reason;
        } fail;
    } u;
};

/* Encoders write exactly MTLS_<TYPE>_LEN bytes. They cannot fail. */
void mtls_frame_hello(uint8_t out[MTLS_HELLO_LEN], uint32_t claim, uint16_t port1, uint8_t path,
                      const uint8_t secret[MTLS_SECRET_LEN], const uint8_t nonce[MTLS_NONCE_LEN]);
void mtls_frame_ready(uint8_t out[MTLS_READY_LEN], uint32_t claim, uint8_t status,
                      const uint8_t nonce[MTLS_NONCE_LEN],
                      const uint8_t hello_hash[MTLS_SHA256_LEN]);
void mtls_frame_proof(uint8_t out[MTLS_PROOF_LEN], uint32_t claim, uint8_t slot, uint8_t more,
                      const uint8_t tag[MTLS_TAG_LEN]);
void mtls_frame_confirm(uint8_t out[MTLS_CONFIRM_LEN], uint32_t claim, uint8_t slot, uint8_t k,
                        uint8_t n, const uint8_t tag[MTLS_TAG_LEN]);
void mtls_frame_fail(uint8_t out[MTLS_FAIL_LEN], uint32_t claim, uint8_t reason);

/* Streaming reader. Wrong bytes are an error at the first byte that shows it; errors are sticky. */
struct mtls_frame_reader {
    uint8_t from; /* enum mtls_role of the sender: decides which types are legal */
    bool preface_done;
    uint8_t have;
    int err;
    uint8_t buf[MTLS_FRAME_MAX];
};

/* from: MTLS_ROLE_SERVER or MTLS_ROLE_CLIENT (crypto.h), who sends what is read. */
void mtls_frame_reader_init(struct mtls_frame_reader *r, int from);

/* Consumes bytes from data[*pos..len) and advances *pos. Returns 1 with *out filled when a frame is
 * complete (call again: more may follow), 0 when all bytes are consumed, or MTLS_ERR_FRAME_PREFACE,
 * _TYPE (unknown, or illegal in this direction), _VERSION (not 1), _LENGTH, _VALUE (status > 2,
 * more > 1, path >= MTLS_PATHS_MAX, slot >= MTLS_SLOTS_MAX, k or n 0, k > n, n > MTLS_PATHS_MAX):
 * close the connection. */
MTLS_NODISCARD int mtls_frame_reader_next(struct mtls_frame_reader *r, const uint8_t *data,
                                          size_t len, size_t *pos, struct mtls_frame *out);

#endif
