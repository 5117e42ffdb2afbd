/* Concept: the bytes of path 2 (wire_frame.h): a table of the frames, encoders, the streaming
 * reader. */
#include "wire_frame.h"

#include <string.h>

#include "crypto.h"

const uint8_t mtls_preface[MTLS_PREFACE_LEN] = {0xF0, 0x4D, 0x54, 0x4C, 0x53, 0x32, 0x0D, 0x0A};

enum { FROM_SERVER = 1 << MTLS_ROLE_SERVER, FROM_CLIENT = 1 << MTLS_ROLE_CLIENT };

static const struct {
    uint8_t len;  /* header included */
    uint8_t from; /* who may send it */
} frames[] = {
    [MTLS_FRAME_HELLO] = {MTLS_HELLO_LEN, FROM_CLIENT},
    [MTLS_FRAME_READY] = {MTLS_READY_LEN, FROM_SERVER},
    [MTLS_FRAME_PROOF] = {MTLS_PROOF_LEN, FROM_SERVER},
    [MTLS_FRAME_CONFIRM] = {MTLS_CONFIRM_LEN, FROM_CLIENT},
    [MTLS_FRAME_FAIL] = {MTLS_FAIL_LEN, FROM_SERVER | FROM_CLIENT},
};

/* Writes the header and returns where the body begins. */
static uint8_t *put_header(uint8_t *out, uint8_t type, uint32_t claim)
{
    out[0] = type;
    out[1] = MTLS_VERSION_1;
    out[2] = 0;
    out[3] = (uint8_t)(frames[type].len - MTLS_FRAME_HEADER_LEN);
    out[4] = (uint8_t)(claim >> 24);
    out[5] = (uint8_t)(claim >> 16);
    out[6] = (uint8_t)(claim >> 8);
    out[7] = (uint8_t)claim;
    return out + MTLS_FRAME_HEADER_LEN;
}

void mtls_frame_hello(uint8_t out[MTLS_HELLO_LEN], uint32_t claim, uint16_t port1, uint8_t path,
                      const uint8_t secret[MTLS_SECRET_LEN], const uint8_t nonce[MTLS_NONCE_LEN])
{
    uint8_t *body = put_header(out, MTLS_FRAME_HELLO, claim);

    body[0] = (uint8_t)(port1 >> 8);
    body[1] = (uint8_t)port1;
    body[2] = path;
    memcpy(body + 3, secret, MTLS_SECRET_LEN);
    memcpy(body + 3 + MTLS_SECRET_LEN, nonce, MTLS_NONCE_LEN);
}

void mtls_frame_ready(uint8_t out[MTLS_READY_LEN], uint32_t claim, uint8_t status,
                      const uint8_t nonce[MTLS_NONCE_LEN],
                      const uint8_t hello_hash[MTLS_SHA256_LEN])
{
    uint8_t *body = put_header(out, MTLS_FRAME_READY, claim);

    body[0] = status;
    memcpy(body + 1, nonce, MTLS_NONCE_LEN);
    memcpy(body + 1 + MTLS_NONCE_LEN, hello_hash, MTLS_SHA256_LEN);
}

void mtls_frame_proof(uint8_t out[MTLS_PROOF_LEN], uint32_t claim, uint8_t slot, uint8_t more,
                      const uint8_t tag[MTLS_TAG_LEN])
{
    uint8_t *body = put_header(out, MTLS_FRAME_PROOF, claim);

    body[0] = slot;
    body[1] = more;
    memcpy(body + 2, tag, MTLS_TAG_LEN);
}

void mtls_frame_confirm(uint8_t out[MTLS_CONFIRM_LEN], uint32_t claim, uint8_t slot, uint8_t k,
                        uint8_t n, const uint8_t tag[MTLS_TAG_LEN])
{
    uint8_t *body = put_header(out, MTLS_FRAME_CONFIRM, claim);

    body[0] = slot;
    body[1] = k;
    body[2] = n;
    memcpy(body + 3, tag, MTLS_TAG_LEN);
}

void mtls_frame_fail(uint8_t out[MTLS_FAIL_LEN], uint32_t claim, uint8_t reason)
{
    put_header(out, MTLS_FRAME_FAIL, claim)[0] = reason;
}

void mtls_frame_reader_init(struct mtls_frame_reader *r, int from)
{
    memset(r, 0, sizeof *r);
    r->from = (uint8_t)from;
}

/* Whether byte i of the header, just read, may stand there. */
static int check_header(const struct mtls_frame_reader *r, size_t i)
{
    const uint8_t *b = r->buf;

    switch (i) {
    case 0:
        if (b[0] >= sizeof frames / sizeof frames[0] || (frames[b[0]].from >> r->from & 1) == 0)
            return MTLS_ERR_FRAME_TYPE;
        return 0;
    case 1:
        return b[1] == MTLS_VERSION_1 ? 0 : MTLS_ERR_FRAME_VERSION;
    case 2:
        return b[2] == 0 ? 0 : MTLS_ERR_FRAME_LENGTH;
    case 3:
        return b[3] == frames[b[0]].len - MTLS_FRAME_HEADER_LEN ? 0 : MTLS_ERR_FRAME_LENGTH;
    default:
        return 0;
    }
}

/* Whether byte i of the body, just read, may stand there. Every k over the bound would be over n,
 * too. */
static bool body_byte_legal(const uint8_t *b, size_t i)
{
    const uint8_t *body = b + MTLS_FRAME_HEADER_LEN;

    switch (b[0]) {
    case MTLS_FRAME_HELLO:
        return i != 2 || body[2] < MTLS_PATHS_MAX;
    case MTLS_FRAME_READY:
        return i != 0 || body[0] <= MTLS_READY_NOT_HERE;
    case MTLS_FRAME_PROOF:
        return i == 0 ? body[0] < MTLS_SLOTS_MAX : i != 1 || body[1] <= 1;
    case MTLS_FRAME_CONFIRM:
        if (i == 0)
            return body[0] < MTLS_SLOTS_MAX;
        if (i == 1)
            return body[1] >= 1 && body[1] <= MTLS_PATHS_MAX;
        return i != 2 || (body[2] >= body[1] && body[2] <= MTLS_PATHS_MAX);
    default:
        return true; /* FAIL: a reason we do not know is advisory all the same */
    }
}

/* Takes one byte. Returns 1 when it completes a frame, 0, or the error it shows. */
static int take(struct mtls_frame_reader *r, uint8_t byte)
{
    size_t i = r->have++;

    if (!r->preface_done) {
        if (byte != mtls_preface[i])
            return MTLS_ERR_FRAME_PREFACE;
        if (r->have == MTLS_PREFACE_LEN) {
            r->preface_done = true;
            r->have = 0;
        }
        return 0;
    }
    r->buf[i] = byte;
    if (i < MTLS_FRAME_HEADER_LEN)
        return check_header(r, i);
    if (!body_byte_legal(r->buf, i - MTLS_FRAME_HEADER_LEN))
        return MTLS_ERR_FRAME_VALUE;
    return r->have == frames[r->buf[0]].len;
}

enum { JUDGED_LEN = MTLS_FRAME_HEADER_LEN + 3 /* behind them every byte is legal */ };

/* Takes what is there of a frame's rest at once, but for its last byte. */
static size_t take_rest(struct mtls_frame_reader *r, const uint8_t *data, size_t len)
{
    size_t n;

    if (!r->preface_done || r->have < JUDGED_LEN)
        return 0;
    n = (size_t)frames[r->buf[0]].len - 1 - r->have;
    n = n < len ? n : len;
    memcpy(r->buf + r->have, data, n);
    r->have = (uint8_t)(r->have + n);
    return n;
}

static void frame_fill(const uint8_t *b, struct mtls_frame *out)
{
    const uint8_t *body = b + MTLS_FRAME_HEADER_LEN;

    memset(out, 0, sizeof *out);
    out->type = b[0];
    out->claim = (uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 | (uint32_t)b[6] << 8 | b[7];
    out->raw = b;
    out->raw_len = frames[b[0]].len;
    switch (b[0]) {
    case MTLS_FRAME_HELLO:
        out->u.hello.port1 = (uint16_t)(body[0] << 8 | body[1]);
        out->u.hello.path = body[2];
        out->u.hello.secret = body + 3;
        out->u.hello.nonce = body + 3 + MTLS_SECRET_LEN;
        break;
    case MTLS_FRAME_READY:
        out->u.ready.status = body[0];
        out->u.ready.nonce = body + 1;
        out->u.ready.hello_hash = body + 1 + MTLS_NONCE_LEN;
        break;
    case MTLS_FRAME_PROOF:
        out->u.proof.slot = body[0];
        out->u.proof.more = body[1];
        out->u.proof.tag = body + 2;
        break;
    case MTLS_FRAME_CONFIRM:
        out->u.confirm.slot = body[0];
        out->u.confirm.k = body[1];
        out->u.confirm.n = body[2];
        out->u.confirm.tag = body + 3;
        break;
    default:
        out->u.fail.reason = body[0];
        break;
    }
}

int mtls_frame_reader_next(struct mtls_frame_reader *r, const uint8_t *data, size_t len,
                           size_t *pos, struct mtls_frame *out)
{
    int rc;

    if (r->err != 0)
        return r->err;
    while (*pos < len) {
        *pos += take_rest(r, data + *pos, len - *pos);
        if (*pos == len)
            break;
        rc = take(r, data[(*pos)++]);
        if (rc < 0)
            return r->err = rc;
        if (rc == 1) {
            frame_fill(r->buf, out);
            r->have = 0; /* the bytes stay for the caller until the next call */
            return 1;
        }
    }
    return 0;
}
