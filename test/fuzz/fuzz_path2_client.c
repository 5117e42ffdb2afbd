/* Fuzz target: the client's end of path 2. The input is a sequence of steps: claims, what the
 * caller does with them, raw bytes, and well-formed frames of a server, right and wrong. READY
 * counts only with the right echo; a claim's state fits what came; after an error no claim is open.
 */
#include <stdint.h>

#include "mtls/core/path2_client.h"
#include "path2_fuzz.h"

enum { CLAIMS = 16 };

struct seen_claim {
    struct mtls_p2c_claim *claim; /* NULL: never opened, or released */
    uint8_t hello[MTLS_HELLO_LEN];
    bool answered; /* a READY with the right echo was fed */
};

static struct world {
    struct mtls_p2c *client;
    struct seen_claim claims[CLAIMS + 1]; /* by number */
    uint8_t opened;
    bool release; /* in the call-back */
    mtls_tstamp now;
} w;

static void check_claim(const struct mtls_p2c_claim *c)
{
    check(c->nproof <= MTLS_SLOTS_MAX);
    check(!c->ready_seen || w.claims[c->id].answered);
    check(c->state != MTLS_CLAIM_HELLO || !c->ready_seen);
    check(c->state != MTLS_CLAIM_READY || (c->ready_seen && c->nproof == 0));
    check(c->state != MTLS_CLAIM_PROOF || (c->ready_seen && c->nproof > 0));
    check(c->state == MTLS_CLAIM_ENDED || c->error == 0);
    for (size_t i = 0; i < c->nproof; i++)
        for (size_t j = 0; j < i; j++)
            check(c->proofs[i].slot != c->proofs[j].slot);
}

static void on_changed(void *arg, struct mtls_p2c_claim *claim)
{
    (void)arg;
    check(w.claims[claim->id].claim == claim);
    check_claim(claim);
    if (w.release) {
        w.claims[claim->id].claim = NULL;
        mtls_p2c_release(w.client, claim);
    }
}

static void drain(uint8_t hello[MTLS_HELLO_LEN])
{
    size_t len;
    const uint8_t *out = mtls_p2c_out(w.client, &len);

    if (hello != NULL) {
        check(len >= MTLS_HELLO_LEN);
        memcpy(hello, out + len - MTLS_HELLO_LEN, MTLS_HELLO_LEN);
    }
    mtls_p2c_sent(w.client, len);
}

static void feed(const uint8_t *data, size_t len)
{
    int rc = mtls_p2c_input(w.client, data, len, ++w.now);

    check(rc <= 0);
    if (rc < 0) {
        check(mtls_p2c_open_claims(w.client) == 0);
        check(mtls_p2c_input(w.client, data, len, w.now) == rc);
    }
}

static void step_hello(uint8_t what)
{
    uint8_t secret[MTLS_SECRET_LEN] = {what};
    struct mtls_p2c_claim *claim;
    int rc;

    if (w.opened == CLAIMS)
        return;
    rc = mtls_p2c_hello(w.client, what & 7, 443, secret, NULL, &claim, ++w.now);
    check(rc == 0 || rc == MTLS_ERR_PATH_CLOSED);
    if (rc < 0)
        return;
    check(claim->id == ++w.opened);
    w.claims[claim->id].claim = claim;
    drain(w.claims[claim->id].hello);
}

static void step_ready(uint8_t id, uint8_t status)
{
    uint8_t frame[MTLS_READY_LEN], echo[MTLS_SHA256_LEN], nonce[MTLS_NONCE_LEN] = {status};
    bool right = (status & 0x80) == 0;

    echo_of(w.claims[id % (CLAIMS + 1)].hello, echo);
    echo[0] ^= !right;
    if (right && id <= CLAIMS)
        w.claims[id].answered = true;
    mtls_frame_ready(frame, id, status & 3, nonce, echo);
    feed(frame, sizeof(frame));
}

static void step_proof(uint8_t id, uint8_t what)
{
    uint8_t frame[MTLS_PROOF_LEN], tag[MTLS_TAG_LEN] = {what};

    mtls_frame_proof(frame, id, what & 7, what >> 3 & 1, tag);
    feed(frame, sizeof(frame));
}

static void step_fail(uint8_t id, uint8_t reason)
{
    uint8_t frame[MTLS_FAIL_LEN];

    mtls_frame_fail(frame, id, reason);
    feed(frame, sizeof(frame));
}

static void step_caller(uint8_t op, uint8_t id, uint8_t what)
{
    struct seen_claim *s = &w.claims[id % (CLAIMS + 1)];
    uint8_t tag[MTLS_TAG_LEN] = {what};

    if (s->claim == NULL)
        return;
    if (op == 5) {
        bool may = s->claim->state == MTLS_CLAIM_PROOF;
        int rc = mtls_p2c_confirm(w.client, s->claim, what & 7, 1, 1, tag);

        check(rc == 0 ? may && s->claim->state == MTLS_CLAIM_ENDED : rc < 0);
    } else if (op == 6) {
        mtls_p2c_fail(w.client, s->claim, what);
        check(s->claim->state == MTLS_CLAIM_ENDED);
    } else {
        mtls_p2c_release(w.client, s->claim);
        s->claim = NULL;
    }
}

static void step(struct input *in)
{
    uint8_t op = next(in), a = next(in);
    const uint8_t *data;
    size_t len;

    switch (op & 15) {
    case 0:
        data = next_bytes(in, &len);
        feed(data, len);
        break;
    case 1:
        feed(mtls_preface, MTLS_PREFACE_LEN);
        break;
    case 2:
        step_ready(a, next(in));
        break;
    case 3:
        step_proof(a, next(in));
        break;
    case 4:
        step_fail(a, next(in));
        break;
    case 5:
    case 6:
    case 7:
        step_caller(op & 15, a, next(in));
        break;
    case 8:
        mtls_p2c_closed(w.client, MTLS_ERR_PATH_CLOSED, ++w.now);
        check(mtls_p2c_open_claims(w.client) == 0);
        break;
    case 9:
        w.release = (a & 1) != 0;
        break;
    default:
        step_hello(a);
        break;
    }
}

static void check_counts(void)
{
    size_t open = 0;

    for (size_t i = 1; i <= CLAIMS; i++) {
        const struct mtls_p2c_claim *c = w.claims[i].claim;

        if (c == NULL)
            continue;
        check(c->id == i);
        check_claim(c);
        open += c->state != MTLS_CLAIM_ENDED;
    }
    check(open == mtls_p2c_open_claims(w.client));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    memset(&w, 0, sizeof(w));
    check(mtls_p2c_new(&w.client, crypto, on_changed, NULL) == 0);
    while (more(&in)) {
        step(&in);
        drain(NULL);
        check_counts();
    }
    mtls_p2c_free(w.client);
    return 0;
}
