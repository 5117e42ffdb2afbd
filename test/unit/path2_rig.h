/* Concept: a client's end of path 2 under test, and a server by hand that answers it. Include it
 * after cmocka.h. */
#ifndef MTLS_TEST_PATH2_RIG_H
#define MTLS_TEST_PATH2_RIG_H

/* The whole room, to reach the counter of claim numbers. */
#include "mtls/core/path2_client.c" /* NOLINT(bugprone-suspicious-include) */
#include "path2_lab.h"

struct rig {
    struct mtls_p2c *p;
    uint8_t secret[MTLS_SECRET_LEN];
    mtls_tstamp now;
    unsigned changes;
    struct mtls_p2c_claim *last; /* that changed; do not follow it after a release */
    enum { KEEP, RELEASE, FAIL_AND_RELEASE } on_change;
    uint8_t hello[MTLS_HELLO_LEN]; /* the last one */
    uint8_t ready[MTLS_READY_LEN];
};

static inline void on_changed(void *arg, struct mtls_p2c_claim *claim)
{
    struct rig *r = arg;

    r->changes++;
    r->last = claim;
    if (r->on_change == FAIL_AND_RELEASE)
        mtls_p2c_fail(r->p, claim, MTLS_FAIL_NOT_COUNTED);
    if (r->on_change != KEEP)
        mtls_p2c_release(r->p, claim);
}

static inline void rig_start(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    memset(r->secret, 0x33, sizeof(r->secret));
    r->now = 5000;
    assert_int_equal(mtls_p2c_new(&r->p, lab_crypto, on_changed, r), 0);
}

static inline void rig_stop(struct rig *r)
{
    mtls_p2c_free(r->p);
}

/* Opens a claim and takes HELLO (and the preface before the first one) off the wire. */
static inline struct mtls_p2c_claim *rig_hello(struct rig *r, uint8_t path)
{
    struct mtls_p2c_claim *claim = NULL;
    bool first = !r->p->preface_sent;
    const uint8_t *out;
    size_t len, skip = first ? MTLS_PREFACE_LEN : 0;

    assert_int_equal(mtls_p2c_hello(r->p, path, 443, r->secret, r, &claim, r->now), 0);
    out = mtls_p2c_out(r->p, &len);
    assert_true(len >= skip + MTLS_HELLO_LEN); /* behind what the test left there */
    if (first) {
        assert_int_equal(len, skip + MTLS_HELLO_LEN);
        assert_memory_equal(out, mtls_preface, MTLS_PREFACE_LEN);
    }
    memcpy(r->hello, out + len - MTLS_HELLO_LEN, MTLS_HELLO_LEN);
    mtls_p2c_sent(r->p, len);
    return claim;
}

static inline int rig_input(struct rig *r, const uint8_t *data, size_t len)
{
    return mtls_p2c_input(r->p, data, len, r->now);
}

static inline void rig_greet(struct rig *r)
{
    assert_int_equal(rig_input(r, mtls_preface, MTLS_PREFACE_LEN), 0);
}

/* READY for the last HELLO. */
static inline int rig_ready(struct rig *r, uint32_t id, uint8_t status)
{
    const struct mtls_bytes hello = {r->hello, sizeof(r->hello)};
    uint8_t echo[MTLS_SHA256_LEN], nonce[MTLS_NONCE_LEN] = {9};

    assert_int_equal(mtls_crypto_sha256(lab_crypto, &hello, 1, echo), 0);
    mtls_frame_ready(r->ready, id, status, nonce, echo);
    return rig_input(r, r->ready, sizeof(r->ready));
}

static inline int rig_proof(struct rig *r, uint32_t id, uint8_t slot, uint8_t more)
{
    uint8_t frame[MTLS_PROOF_LEN], tag[MTLS_TAG_LEN];

    memset(tag, 0x70 + slot, sizeof(tag));
    mtls_frame_proof(frame, id, slot, more, tag);
    return rig_input(r, frame, sizeof(frame));
}

static inline int rig_fail(struct rig *r, uint32_t id, uint8_t reason)
{
    uint8_t frame[MTLS_FAIL_LEN];

    mtls_frame_fail(frame, id, reason);
    return rig_input(r, frame, sizeof(frame));
}

/* A claim in state PROOF (one proof, slot 2). */
static inline struct mtls_p2c_claim *rig_proven(struct rig *r)
{
    struct mtls_p2c_claim *claim;

    rig_start(r);
    claim = rig_hello(r, 0);
    rig_greet(r);
    assert_int_equal(rig_ready(r, 1, MTLS_READY_OK), 0);
    assert_int_equal(rig_proof(r, 1, 2, 0), 0);
    return claim;
}

#endif
