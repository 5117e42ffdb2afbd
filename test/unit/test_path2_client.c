/* The client's end of path 2: sections 4 and 6 of the protocol, alone and against the server's end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "path2_rig.h"

/* ---- The exchange ---- */

static void a_claim_from_hello_to_confirm(void **state)
{
    struct rig r;
    struct mtls_p2c_claim *claim;
    uint8_t p2[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN] = {7}, confirm[MTLS_CONFIRM_LEN];
    const uint8_t *out;
    size_t len;

    rig_start(&r);
    assert_null(mtls_p2c_out(r.p, &len)); /* [P2-1] nothing before the first HELLO */
    claim = rig_hello(&r, 5);
    assert_int_equal(claim->id, 1);
    assert_int_equal(claim->path, 5);
    assert_int_equal(claim->state, MTLS_CLAIM_HELLO);
    assert_int_equal(claim->hello_at, 5000);
    assert_ptr_equal(claim->user, &r);
    assert_int_equal(r.hello[8] << 8 | r.hello[9], 443);
    assert_int_equal(r.hello[10], 5);
    assert_memory_equal(r.hello + 11, r.secret, sizeof(r.secret));
    assert_int_equal(mtls_p2c_open_claims(r.p), 1);
    assert_false(mtls_p2c_preface_seen(r.p));
    rig_greet(&r);
    assert_true(mtls_p2c_preface_seen(r.p));
    r.now = 6000;
    assert_int_equal(rig_ready(&r, 1, MTLS_READY_OK), 0);
    assert_int_equal(claim->state, MTLS_CLAIM_READY);
    assert_true(claim->ready_seen);
    assert_int_equal(claim->ready_at, 6000);
    assert_int_equal(mtls_confirm_p2(lab_crypto, r.hello, r.ready, p2), 0);
    assert_memory_equal(claim->p2, p2, sizeof(p2));
    r.now = 7000;
    assert_int_equal(rig_proof(&r, 1, 7, 1), 0);
    r.now = 8000;
    assert_int_equal(rig_proof(&r, 1, 0, 0), 0);
    assert_int_equal(r.changes, 3);
    assert_int_equal(claim->state, MTLS_CLAIM_PROOF);
    assert_int_equal(claim->proof_at, 7000);
    assert_int_equal(claim->nproof, 2);
    assert_int_equal(claim->proofs[0].slot, 7);
    assert_int_equal(claim->proofs[0].more, 1);
    assert_int_equal(claim->proofs[0].tag[31], 0x77);
    assert_int_equal(claim->proofs[1].slot, 0);
    assert_int_equal(mtls_p2c_confirm(r.p, claim, 7, 1, 2, tag), 0);
    mtls_frame_confirm(confirm, 1, 7, 1, 2, tag);
    out = mtls_p2c_out(r.p, &len);
    assert_int_equal(len, sizeof(confirm));
    assert_memory_equal(out, confirm, len);
    assert_int_equal(claim->state, MTLS_CLAIM_ENDED);
    assert_int_equal(claim->error, 0);
    assert_int_equal(claim->nproof, 2);
    assert_int_equal(mtls_p2c_open_claims(r.p), 0);
    assert_int_equal(r.changes, 3);
    assert_int_equal(rig_fail(&r, 1, MTLS_FAIL_NO_SESSION), 0); /* [P2-6] crossed it */
    assert_int_equal(claim->fail_reason, 0);
    mtls_p2c_release(r.p, claim);
    mtls_p2c_release(r.p, NULL);
    rig_stop(&r);
}

/* [P2-3] [RDY-1] */
static void claims_have_numbers_and_nonces_of_their_own(void **state)
{
    struct rig r;
    uint8_t nonce[MTLS_NONCE_LEN];
    struct mtls_p2c_claim *a, *b;

    rig_start(&r);
    a = rig_hello(&r, 0);
    memcpy(nonce, r.hello + 43, sizeof(nonce));
    b = rig_hello(&r, 1);
    assert_memory_not_equal(nonce, r.hello + 43, sizeof(nonce));
    assert_int_equal(a->id, 1);
    assert_int_equal(b->id, 2);
    mtls_p2c_release(r.p, b);
    assert_int_equal(rig_hello(&r, 1)->id, 3);
    rig_greet(&r);
    assert_int_equal(rig_ready(&r, 3, MTLS_READY_OK), 0); /* in any order: [REU-5] */
    assert_int_equal(a->state, MTLS_CLAIM_HELLO);
    rig_stop(&r);
}

/* [RDY-6]: every bit of the echo; the twin passes. */
static void a_ready_with_another_hash_is_foreign(void **state)
{
    struct rig r;
    struct mtls_p2c_claim *claim, *other;

    for (size_t bit = 0; bit <= 256; bit++) {
        uint8_t ready[MTLS_READY_LEN], nonce[MTLS_NONCE_LEN] = {4};

        rig_start(&r);
        other = rig_hello(&r, 1);
        claim = rig_hello(&r, 0);
        rig_greet(&r);
        {
            const struct mtls_bytes hello = {r.hello, sizeof(r.hello)};
            uint8_t echo[MTLS_SHA256_LEN];

            assert_int_equal(mtls_crypto_sha256(lab_crypto, &hello, 1, echo), 0);
            mtls_frame_ready(ready, 2, MTLS_READY_OK, nonce, echo);
        }
        if (bit == 256) {
            assert_int_equal(rig_input(&r, ready, sizeof(ready)), 0);
            assert_int_equal(claim->state, MTLS_CLAIM_READY);
        } else {
            ready[41 + bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(rig_input(&r, ready, sizeof(ready)), MTLS_ERR_READY_MISMATCH);
            assert_int_equal(claim->state, MTLS_CLAIM_ENDED);
            assert_int_equal(claim->error, MTLS_ERR_PATH_FOREIGN);
            assert_false(claim->ready_seen);
            assert_int_equal(other->error, MTLS_ERR_PATH_FOREIGN);
            assert_int_equal(r.changes, 2);
            assert_int_equal(rig_input(&r, ready, 0), MTLS_ERR_READY_MISMATCH); /* sticky */
        }
        rig_stop(&r);
    }
}

/* [RDY-5] [DWN-1] [P2-5] */
static void busy_and_not_here_end_the_claim(void **state)
{
    static const int errors[] = {
        [MTLS_READY_BUSY] = MTLS_ERR_PATH_BUSY, [MTLS_READY_NOT_HERE] = MTLS_ERR_PATH_NOT_HERE};

    for (uint8_t status = MTLS_READY_BUSY; status <= MTLS_READY_NOT_HERE; status++) {
        struct mtls_p2c_claim *claim, *next;
        struct rig r;

        rig_start(&r);
        claim = rig_hello(&r, 0);
        rig_greet(&r);
        assert_int_equal(rig_ready(&r, 1, status), 0);
        assert_int_equal(claim->state, MTLS_CLAIM_ENDED);
        assert_int_equal(claim->error, errors[status]);
        assert_true(claim->ready_seen);
        assert_int_equal(r.changes, 1);
        next = rig_hello(&r, 0); /* the connection goes on */
        assert_int_equal(rig_fail(&r, 1, 0), 0);
        assert_int_equal(rig_proof(&r, 1, 0, 0), MTLS_ERR_FRAME_CLAIM);
        assert_int_equal(next->error, MTLS_ERR_PATH_FOREIGN);
        rig_stop(&r);
    }
}

/* ---- FAIL and the end of the connection ---- */

static void fail_before_and_after_proof(void **state)
{
    struct mtls_p2c_claim *claim;
    uint8_t tag[MTLS_TAG_LEN] = {0};
    struct rig r;

    rig_start(&r); /* before READY */
    claim = rig_hello(&r, 0);
    rig_greet(&r);
    assert_int_equal(rig_fail(&r, 1, MTLS_FAIL_LIMIT), 0);
    assert_int_equal(claim->state, MTLS_CLAIM_ENDED);
    assert_int_equal(claim->error, MTLS_ERR_PROOF_MISSING);
    assert_int_equal(claim->fail_reason, MTLS_FAIL_LIMIT);
    assert_false(claim->ready_seen);
    assert_int_equal(rig_ready(&r, 1, MTLS_READY_OK), 0); /* [P2-6] */
    assert_false(claim->ready_seen);
    rig_stop(&r);

    rig_start(&r); /* before PROOF; [FAIL-2] an unknown reason */
    claim = rig_hello(&r, 0);
    rig_greet(&r);
    assert_int_equal(rig_ready(&r, 1, MTLS_READY_OK), 0);
    assert_int_equal(rig_fail(&r, 1, 200), 0);
    assert_int_equal(claim->error, MTLS_ERR_PROOF_MISSING);
    assert_int_equal(claim->fail_reason, MTLS_FAIL_UNSPECIFIED);
    assert_true(claim->ready_seen);
    rig_stop(&r);

    claim = rig_proven(&r); /* after PROOF: nothing is taken back */
    assert_int_equal(rig_fail(&r, 1, MTLS_FAIL_ABANDONED), 0);
    assert_int_equal(claim->state, MTLS_CLAIM_PROOF);
    assert_int_equal(claim->fail_reason, MTLS_FAIL_ABANDONED);
    assert_int_equal(r.changes, 3);
    assert_int_equal(rig_fail(&r, 1, MTLS_FAIL_LIMIT), 0);
    assert_int_equal(rig_proof(&r, 1, 3, 0), 0);
    assert_int_equal(claim->nproof, 1);
    assert_int_equal(claim->fail_reason, MTLS_FAIL_ABANDONED);
    assert_int_equal(r.changes, 3);
    assert_int_equal(mtls_p2c_confirm(r.p, claim, 2, 1, 1, tag), 0);
    rig_stop(&r);
}

/* [P2-7] */
static void the_transport_ends(void **state)
{
    struct mtls_p2c_claim *hello, *ready, *proof, *done, *none;
    uint8_t tag[MTLS_TAG_LEN] = {0};
    struct rig r;

    done = rig_proven(&r);
    assert_int_equal(mtls_p2c_confirm(r.p, done, 2, 1, 1, tag), 0);
    proof = rig_hello(&r, 1);
    assert_int_equal(rig_ready(&r, 2, MTLS_READY_OK), 0);
    assert_int_equal(rig_proof(&r, 2, 0, 0), 0);
    ready = rig_hello(&r, 2);
    assert_int_equal(rig_ready(&r, 3, MTLS_READY_OK), 0);
    hello = rig_hello(&r, 3);
    r.changes = 0;
    mtls_p2c_closed(r.p, MTLS_ERR_PATH_CLOSED, r.now);
    assert_int_equal(r.changes, 4); /* the confirmed one too: its owner must let go of it */
    assert_int_equal(done->error, 0);
    assert_int_equal(proof->state, MTLS_CLAIM_ENDED);
    assert_int_equal(proof->error, MTLS_ERR_PATH_CLOSED);
    assert_int_equal(proof->nproof, 1); /* it keeps counting */
    assert_int_equal(ready->error, MTLS_ERR_PATH_CLOSED);
    assert_true(ready->ready_seen);
    assert_int_equal(hello->error, MTLS_ERR_PATH_CLOSED);
    assert_false(hello->ready_seen);
    mtls_p2c_closed(r.p, MTLS_ERR_PATH_TIMEOUT, r.now);
    assert_int_equal(r.changes, 4);
    assert_int_equal(mtls_p2c_open_claims(r.p), 0);
    assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &none, r.now),
                     MTLS_ERR_PATH_CLOSED);
    assert_int_equal(mtls_p2c_confirm(r.p, proof, 0, 1, 1, tag), MTLS_ERR_PATH_CLOSED);
    mtls_p2c_fail(r.p, ready, 0);
    assert_int_equal(rig_input(&r, tag, 1), MTLS_ERR_PATH_CLOSED);
    rig_stop(&r);
}

/* [DWN-4]: foreign bytes are a definite answer before READY, and an error after it. */
static void foreign_bytes(void **state)
{
    static const char *const banners[] = {"SSH-2.0-x", "HTTP/1.1 400", "\x15\x03\x01", "\xf0\x4dX",
                                          ""};
    struct mtls_p2c_claim *hello, *ready;
    struct rig r;

    for (size_t i = 0; i + 1 < sizeof(banners) / sizeof(banners[0]); i++) {
        rig_start(&r);
        hello = rig_hello(&r, 0);
        assert_int_equal(rig_input(&r, (const uint8_t *)banners[i], strlen(banners[i])),
                         MTLS_ERR_FRAME_PREFACE);
        assert_int_equal(hello->error, MTLS_ERR_PATH_FOREIGN);
        assert_false(mtls_p2c_preface_seen(r.p));
        rig_stop(&r);
    }
    rig_start(&r);
    ready = rig_hello(&r, 0);
    rig_greet(&r);
    assert_int_equal(rig_ready(&r, 1, MTLS_READY_OK), 0);
    hello = rig_hello(&r, 0);
    assert_int_equal(rig_input(&r, r.hello, sizeof(r.hello)),
                     MTLS_ERR_FRAME_TYPE); /* an echo service */
    assert_int_equal(hello->error, MTLS_ERR_PATH_FOREIGN);
    assert_int_equal(ready->error, MTLS_ERR_FRAME_TYPE);
    rig_stop(&r);
}

/* ---- Broken rules ---- */

enum { R_OK = 1, R_BUSY, PROOF0, PROOF1, FAIL1, CONFIRMED, FAILED, RELEASED };

/* [P2-5] [P2-6]: what the server and the caller do, and what the last step gives. */
static void orders_of_frames(void **state)
{
    static const struct {
        uint8_t steps[8];
        int rc;
    } cases[] = {
        {{R_OK, PROOF0, PROOF1}, 0},
        {{PROOF0}, MTLS_ERR_FRAME_CLAIM},
        {{R_OK, R_OK}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, R_BUSY}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, PROOF0, R_OK}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, PROOF0, PROOF0}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, PROOF0, PROOF1, PROOF0}, MTLS_ERR_FRAME_REPEATED},
        {{R_BUSY, PROOF0}, MTLS_ERR_FRAME_CLAIM},
        {{R_BUSY, R_OK}, MTLS_ERR_FRAME_REPEATED},
        {{R_BUSY, FAIL1}, 0},
        {{FAIL1, R_OK}, 0},
        {{FAIL1, FAIL1}, 0},
        {{R_OK, FAIL1, PROOF0}, 0},
        {{R_OK, FAIL1, R_OK}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, PROOF0, CONFIRMED, PROOF1, FAIL1}, 0},
        {{R_OK, PROOF0, CONFIRMED, R_OK}, MTLS_ERR_FRAME_REPEATED},
        {{R_OK, FAILED, PROOF0}, 0},
        {{FAILED, R_OK, PROOF0}, 0},
        {{FAILED, R_BUSY, R_BUSY}, 0},
        {{RELEASED, R_OK, PROOF0, PROOF0, FAIL1}, 0},
        {{R_OK, RELEASED, PROOF0}, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mtls_p2c_claim *claim;
        uint8_t tag[MTLS_TAG_LEN] = {0};
        struct rig r;
        int rc = 0;

        rig_start(&r);
        claim = rig_hello(&r, 0);
        rig_greet(&r);
        for (const uint8_t *s = cases[i].steps; *s != 0; s++) {
            assert_int_equal(rc, 0); /* none but the last step fails */
            switch (*s) {
            case R_OK:
            case R_BUSY:
                rc = rig_ready(&r, 1, *s == R_OK ? MTLS_READY_OK : MTLS_READY_BUSY);
                break;
            case PROOF0:
            case PROOF1:
                rc = rig_proof(&r, 1, *s - PROOF0, 1);
                break;
            case FAIL1:
                rc = rig_fail(&r, 1, 0);
                break;
            case CONFIRMED:
                rc = mtls_p2c_confirm(r.p, claim, 0, 1, 1, tag);
                break;
            case FAILED:
                mtls_p2c_fail(r.p, claim, MTLS_FAIL_ABANDONED);
                break;
            default:
                mtls_p2c_release(r.p, claim);
                break;
            }
        }
        if (rc != cases[i].rc)
            fail_msg("case %zu gives %d", i, rc);
        rig_stop(&r);
    }
}

static void claims_never_opened(void **state)
{
    static const uint32_t ids[] = {0, 2, UINT32_MAX};
    struct rig r;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        rig_start(&r);
        rig_hello(&r, 0);
        rig_greet(&r);
        assert_int_equal(rig_fail(&r, ids[i], 0), MTLS_ERR_FRAME_CLAIM);
        rig_stop(&r);
    }
    rig_start(&r);
    rig_hello(&r, 0);
    rig_greet(&r);
    assert_int_equal(rig_fail(&r, 1, 0), 0); /* the twin */
    rig_stop(&r);
}

/* ---- Call-backs that act, arguments, limits ---- */

static void a_call_back_may_release_its_claim(void **state)
{
    for (int act = RELEASE; act <= FAIL_AND_RELEASE; act++) {
        struct rig r;

        rig_start(&r);
        r.on_change = act;
        rig_hello(&r, 0);
        rig_greet(&r);
        assert_int_equal(rig_ready(&r, 1, MTLS_READY_OK), 0);
        rig_hello(&r, 0);
        assert_int_equal(rig_fail(&r, 2, 0), 0);
        for (int i = 0; i < 5; i++) {
            struct mtls_p2c_claim *claim;

            assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &claim, 1), 0);
        }
        assert_int_equal(mtls_p2c_open_claims(r.p), 5);
        mtls_p2c_closed(r.p, MTLS_ERR_PATH_CLOSED, r.now);
        assert_int_equal(r.changes, 7);
        assert_int_equal(mtls_p2c_open_claims(r.p), 0);
        assert_true(mtls_list_empty(&r.p->claims));
        rig_stop(&r);
    }
}

static void nobody_needs_to_listen(void **state)
{
    struct mtls_p2c_claim *claim;
    struct mtls_p2c *p = NULL;
    uint8_t secret[MTLS_SECRET_LEN] = {0};

    assert_int_equal(mtls_p2c_new(&p, lab_crypto, NULL, NULL), 0);
    assert_int_equal(mtls_p2c_hello(p, 0, 443, secret, NULL, &claim, 1), 0);
    mtls_p2c_closed(p, MTLS_ERR_PATH_REFUSED, 1);
    assert_int_equal(claim->error, MTLS_ERR_PATH_REFUSED);
    mtls_p2c_free(p);
    mtls_p2c_free(NULL);
}

static void arguments_are_checked(void **state)
{
    static const struct {
        uint8_t slot, k, n;
        int rc;
    } cases[] = {{8, 1, 1, MTLS_ERR_ARG}, {2, 0, 1, MTLS_ERR_ARG}, {2, 2, 1, MTLS_ERR_ARG},
                 {2, 1, 9, MTLS_ERR_ARG}, {2, 0, 0, MTLS_ERR_ARG}, {2, 8, 8, 0}};
    struct mtls_p2c_claim *claim, *hello;
    uint8_t tag[MTLS_TAG_LEN] = {0};
    struct rig r;
    size_t len;

    claim = rig_proven(&r);
    hello = rig_hello(&r, 1);
    assert_int_equal(mtls_p2c_hello(r.p, 8, 443, r.secret, NULL, &hello, 1), MTLS_ERR_ARG);
    assert_int_equal(mtls_p2c_confirm(r.p, hello, 2, 1, 1, tag),
                     MTLS_ERR_ARG); /* not in state PROOF */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(mtls_p2c_confirm(r.p, claim, cases[i].slot, cases[i].k, cases[i].n, tag),
                         cases[i].rc);
        mtls_p2c_out(r.p, &len);
        assert_int_equal(len, cases[i].rc == 0 ? MTLS_CONFIRM_LEN : 0);
    }
    assert_int_equal(mtls_p2c_confirm(r.p, claim, 2, 1, 1, tag), MTLS_ERR_ARG); /* once */
    mtls_p2c_fail(r.p, claim, 0); /* nothing after CONFIRM */
    mtls_p2c_out(r.p, &len);
    assert_int_equal(len, MTLS_CONFIRM_LEN);
    rig_stop(&r);
}

static void limits(void **state)
{
    struct mtls_p2c_claim *claim, *first = NULL;
    uint8_t tag[MTLS_TAG_LEN] = {0};
    struct rig r;
    size_t len;

    rig_start(&r);
    for (unsigned i = 0; i < MTLS_P2C_CLAIMS_MAX; i++) {
        assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &claim, 1), 0);
        first = first ? first : claim;
    }
    mtls_p2c_out(r.p, &len);
    assert_int_equal(len, MTLS_PREFACE_LEN + MTLS_P2C_CLAIMS_MAX * MTLS_HELLO_LEN);
    assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &claim, 1), MTLS_ERR_LIMIT);
    mtls_p2c_fail(r.p, first, 0); /* ended, not released: no longer open */
    assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &claim, 1), 0);
    rig_stop(&r);

    rig_start(&r); /* the numbers are used up */
    r.p->last_id = UINT32_MAX - 1;
    assert_int_equal(rig_hello(&r, 0)->id, UINT32_MAX);
    assert_int_equal(mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &claim, 1), MTLS_ERR_LIMIT);
    rig_stop(&r);

    claim = rig_proven(&r); /* [P2-8] a peer that does not read */
    for (;;) {
        struct mtls_p2c_claim *more;
        int rc = mtls_p2c_hello(r.p, 0, 443, r.secret, NULL, &more, 1);

        if (rc == MTLS_ERR_LIMIT)
            break;
        assert_int_equal(rc, 0);
        mtls_p2c_release(r.p, more);
    }
    while (OUT_MAX - len >= MTLS_CONFIRM_LEN) {
        assert_int_equal(queue(r.p, tag, 1), 0);
        mtls_p2c_out(r.p, &len);
    }
    assert_int_equal(mtls_p2c_confirm(r.p, claim, 2, 1, 1, tag), MTLS_ERR_FRAME_OVERFLOW);
    assert_int_equal(claim->state, MTLS_CLAIM_PROOF);
    rig_stop(&r);
}

/* ---- Splits and allocation failures ---- */

static void split_at_every_byte(void **state)
{
    uint8_t stream[MTLS_PREFACE_LEN + MTLS_READY_LEN + 2 * MTLS_PROOF_LEN + MTLS_FAIL_LEN];

    for (size_t cut = 0; cut <= sizeof(stream); cut++) {
        struct mtls_p2c_claim *claim;
        uint8_t echo[MTLS_SHA256_LEN], fill[32] = {1}, *at = stream;
        struct mtls_bytes hello;
        struct rig r;

        rig_start(&r);
        claim = rig_hello(&r, 0);
        hello = (struct mtls_bytes){r.hello, sizeof(r.hello)};
        assert_int_equal(mtls_crypto_sha256(lab_crypto, &hello, 1, echo), 0);
        memcpy(at, mtls_preface, MTLS_PREFACE_LEN);
        mtls_frame_ready(at += MTLS_PREFACE_LEN, 1, MTLS_READY_OK, fill, echo);
        mtls_frame_proof(at += MTLS_READY_LEN, 1, 3, 1, fill);
        mtls_frame_proof(at += MTLS_PROOF_LEN, 1, 4, 0, echo);
        mtls_frame_fail(at += MTLS_PROOF_LEN, 1, MTLS_FAIL_ABANDONED);
        assert_int_equal(rig_input(&r, stream, cut), 0);
        assert_int_equal(rig_input(&r, stream + cut, sizeof(stream) - cut), 0);
        assert_int_equal(claim->state, MTLS_CLAIM_PROOF);
        assert_int_equal(claim->nproof, 2);
        assert_memory_equal(claim->proofs[1].tag, echo, sizeof(echo));
        assert_int_equal(claim->fail_reason, MTLS_FAIL_ABANDONED);
        assert_int_equal(r.changes, 4);
        rig_stop(&r);
    }
}

static int alloc_scenario_run(void *arg)
{
    struct mtls_p2c_claim *claims[8];
    uint8_t secret[MTLS_SECRET_LEN] = {0};
    struct mtls_p2c *p = NULL;
    int rc = mtls_p2c_new(&p, lab_crypto, NULL, NULL);

    for (size_t i = 0; i < 8 && rc == 0; i++)
        rc = mtls_p2c_hello(p, 0, 443, secret, NULL, &claims[i], 1);
    if (rc < 0 && p != NULL) { /* what failed left nothing behind: it works the second time */
        size_t open = mtls_p2c_open_claims(p);

        assert_int_equal(mtls_p2c_hello(p, 0, 443, secret, NULL, &claims[0], 1), 0);
        assert_int_equal(claims[0]->id, open + 1);
    }
    mtls_p2c_free(p);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    assert_true(alloc_sweep(ALLOC_OURS, alloc_scenario_run, NULL) >= 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_from_hello_to_confirm),
        cmocka_unit_test(claims_have_numbers_and_nonces_of_their_own),
        cmocka_unit_test(a_ready_with_another_hash_is_foreign),
        cmocka_unit_test(busy_and_not_here_end_the_claim),
        cmocka_unit_test(fail_before_and_after_proof),
        cmocka_unit_test(the_transport_ends),
        cmocka_unit_test(foreign_bytes),
        cmocka_unit_test(orders_of_frames),
        cmocka_unit_test(claims_never_opened),
        cmocka_unit_test(a_call_back_may_release_its_claim),
        cmocka_unit_test(nobody_needs_to_listen),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(limits),
        cmocka_unit_test(split_at_every_byte),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
