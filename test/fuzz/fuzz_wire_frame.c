/* Fuzz target: the stream of path 2. The first byte of the input says who sends and in which steps
 * the rest arrives; the frames and the error must not depend on the steps, and each frame must
 * encode to its own bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mtls/core/crypto.h"
#include "mtls/core/wire_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_encoding(const struct mtls_frame *f)
{
    uint8_t out[MTLS_FRAME_MAX] = {0};

    switch (f->type) {
    case MTLS_FRAME_HELLO:
        mtls_frame_hello(out, f->claim, f->u.hello.port1, f->u.hello.path, f->u.hello.secret,
                         f->u.hello.nonce);
        break;
    case MTLS_FRAME_READY:
        mtls_frame_ready(out, f->claim, f->u.ready.status, f->u.ready.nonce, f->u.ready.hello_hash);
        break;
    case MTLS_FRAME_PROOF:
        mtls_frame_proof(out, f->claim, f->u.proof.slot, f->u.proof.more, f->u.proof.tag);
        break;
    case MTLS_FRAME_CONFIRM:
        mtls_frame_confirm(out, f->claim, f->u.confirm.slot, f->u.confirm.k, f->u.confirm.n,
                           f->u.confirm.tag);
        break;
    default:
        check(f->type == MTLS_FRAME_FAIL);
        mtls_frame_fail(out, f->claim, f->u.fail.reason);
        break;
    }
    check(f->raw_len <= sizeof out && memcmp(out, f->raw, f->raw_len) == 0);
}

/* Reads everything in steps of this size; returns the last result and counts frames and bytes
 * taken. */
static int read_all(int from, const uint8_t *data, size_t size, size_t step, size_t *frames,
                    size_t *taken)
{
    struct mtls_frame_reader r;
    struct mtls_frame f;
    int rc = 0;

    *frames = *taken = 0;
    mtls_frame_reader_init(&r, from);
    for (size_t at = 0; at < size && rc == 0; at += step) {
        size_t len = size - at < step ? size - at : step, pos = 0;

        while ((rc = mtls_frame_reader_next(&r, data + at, len, &pos, &f)) == 1) {
            check_encoding(&f);
            ++*frames;
        }
        check(rc < 0 || pos == len);
        *taken += pos;
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t frames[2], taken[2], step;
    int from, rc;

    if (size == 0)
        return 0;
    from = data[0] & 1 ? MTLS_ROLE_CLIENT : MTLS_ROLE_SERVER;
    step = (size_t)(data[0] >> 1) + 1;
    rc = read_all(from, data + 1, size - 1, size, &frames[0], &taken[0]);
    check(rc == read_all(from, data + 1, size - 1, step, &frames[1], &taken[1]));
    check(frames[0] == frames[1] && taken[0] == taken[1]);
    return 0;
}
