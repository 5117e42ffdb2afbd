/* The bytes of path 2: [P2-1], [P2-2], [P2-4] and the frames of section 4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/crypto.h"
#include "mtls/core/wire_frame.h"
#include "vectors.h"

enum { SERVER = MTLS_ROLE_SERVER, CLIENT = MTLS_ROLE_CLIENT };
enum { CLAIM = 0x01020304 };

static uint8_t ones[32], twos[32];

static int fill(void **state)
{
    memset(ones, 0x11, sizeof ones);
    memset(twos, 0x22, sizeof twos);
    return 0;
}

/* One frame of each type and direction, legal. */
struct sample {
    int from;
    size_t len;
    uint8_t bytes[MTLS_FRAME_MAX];
};
enum { SAMPLES = 6 };

static void make_samples(struct sample s[SAMPLES])
{
    memset(s, 0, SAMPLES * sizeof *s);
    s[0].from = CLIENT;
    s[0].len = MTLS_HELLO_LEN;
    mtls_frame_hello(s[0].bytes, CLAIM, 443, 5, ones, twos);
    s[1].from = SERVER;
    s[1].len = MTLS_READY_LEN;
    mtls_frame_ready(s[1].bytes, CLAIM, MTLS_READY_BUSY, ones, twos);
    s[2].from = SERVER;
    s[2].len = MTLS_PROOF_LEN;
    mtls_frame_proof(s[2].bytes, CLAIM, 6, 1, twos);
    s[3].from = CLIENT;
    s[3].len = MTLS_CONFIRM_LEN;
    mtls_frame_confirm(s[3].bytes, CLAIM, 3, 2, 4, ones);
    s[4].from = CLIENT;
    s[4].len = MTLS_FAIL_LEN;
    mtls_frame_fail(s[4].bytes, CLAIM, MTLS_FAIL_PROOF_WRONG);
    s[5] = s[4];
    s[5].from = SERVER;
}

/* A reader that is past the preface. */
static struct mtls_frame_reader begun(int from)
{
    struct mtls_frame_reader r;
    struct mtls_frame f;
    size_t pos = 0;

    mtls_frame_reader_init(&r, from);
    assert_int_equal(mtls_frame_reader_next(&r, mtls_preface, MTLS_PREFACE_LEN, &pos, &f), 0);
    assert_int_equal(pos, MTLS_PREFACE_LEN);
    return r;
}

/* What a fresh reader says to these bytes; *used gets how many it took. The bytes are copied, so
 * that a read beyond them is seen by the ASan build. */
static int read_one(int from, const uint8_t *bytes, size_t len, size_t *used)
{
    struct mtls_frame_reader r = begun(from);
    uint8_t *copy = malloc(len + 1);
    struct mtls_frame f;
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, bytes, len);
    *used = 0;
    rc = mtls_frame_reader_next(&r, copy + 1, len, used, &f);
    free(copy);
    if (rc == 1) {
        assert_int_equal(f.raw_len, *used);
        assert_memory_equal(f.raw, bytes, f.raw_len);
    }
    return rc;
}

static void known_bytes(void **state)
{
    const uint8_t preface[] = {0xF0, 0x4D, 0x54, 0x4C, 0x53, 0x32, 0x0D, 0x0A};
    const uint8_t heads[SAMPLES - 1][12] = {
        {1, 1, 0, 67, 1, 2, 3, 4, 0x01, 0xBB, 5, 0x11},
        {2, 1, 0, 65, 1, 2, 3, 4, 1, 0x11, 0x11, 0x11},
        {3, 1, 0, 34, 1, 2, 3, 4, 6, 1, 0x22, 0x22},
        {4, 1, 0, 35, 1, 2, 3, 4, 3, 2, 4, 0x11},
        {5, 1, 0, 1, 1, 2, 3, 4, 2},
    };
    const size_t lens[SAMPLES - 1] = {75, 73, 42, 43, 9};
    struct sample s[SAMPLES];

    make_samples(s);
    assert_memory_equal(mtls_preface, preface, sizeof preface);
    for (size_t i = 0; i < SAMPLES - 1; i++) {
        assert_int_equal(s[i].len, lens[i]);
        assert_memory_equal(s[i].bytes, heads[i], i == 4 ? 9 : 12);
    }
    assert_memory_equal(s[0].bytes + 11, ones, 32);
    assert_memory_equal(s[0].bytes + 43, twos, 32);
    assert_memory_equal(s[1].bytes + 9, ones, 32);
    assert_memory_equal(s[1].bytes + 41, twos, 32);
    assert_memory_equal(s[2].bytes + 10, twos, 32);
    assert_memory_equal(s[3].bytes + 11, ones, 32);
}

static void check_sample_fields(const struct mtls_frame *f, size_t i)
{
    assert_int_equal(f->claim, CLAIM);
    switch (i) {
    case 0:
        assert_int_equal(f->type, MTLS_FRAME_HELLO);
        assert_int_equal(f->u.hello.port1, 443);
        assert_int_equal(f->u.hello.path, 5);
        assert_memory_equal(f->u.hello.secret, ones, 32);
        assert_memory_equal(f->u.hello.nonce, twos, 32);
        break;
    case 1:
        assert_int_equal(f->type, MTLS_FRAME_READY);
        assert_int_equal(f->u.ready.status, MTLS_READY_BUSY);
        assert_memory_equal(f->u.ready.nonce, ones, 32);
        assert_memory_equal(f->u.ready.hello_hash, twos, 32);
        break;
    case 2:
        assert_int_equal(f->type, MTLS_FRAME_PROOF);
        assert_int_equal(f->u.proof.slot, 6);
        assert_int_equal(f->u.proof.more, 1);
        assert_memory_equal(f->u.proof.tag, twos, 32);
        break;
    case 3:
        assert_int_equal(f->type, MTLS_FRAME_CONFIRM);
        assert_int_equal(f->u.confirm.slot, 3);
        assert_int_equal(f->u.confirm.k, 2);
        assert_int_equal(f->u.confirm.n, 4);
        assert_memory_equal(f->u.confirm.tag, ones, 32);
        break;
    default:
        assert_int_equal(f->type, MTLS_FRAME_FAIL);
        assert_int_equal(f->u.fail.reason, MTLS_FAIL_PROOF_WRONG);
        break;
    }
}

static void every_frame_is_read_back(void **state)
{
    struct sample s[SAMPLES];

    make_samples(s);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct mtls_frame_reader r = begun(s[i].from);
        struct mtls_frame f;
        size_t pos = 0;

        assert_int_equal(mtls_frame_reader_next(&r, s[i].bytes, s[i].len, &pos, &f), 1);
        assert_int_equal(pos, s[i].len);
        check_sample_fields(&f, i);
        assert_int_equal(mtls_frame_reader_next(&r, s[i].bytes, s[i].len, &pos, &f), 0);
    }
}

/* The whole of one direction: preface and each of its frames, twice. Returns the length. */
static size_t stream(int from, uint8_t *out, size_t *nframes)
{
    struct sample s[SAMPLES];
    size_t len = MTLS_PREFACE_LEN;

    make_samples(s);
    *nframes = 0;
    memcpy(out, mtls_preface, MTLS_PREFACE_LEN);
    for (size_t i = 0; i < 2 * SAMPLES; i++)
        if (s[i % SAMPLES].from == from) {
            memcpy(out + len, s[i % SAMPLES].bytes, s[i % SAMPLES].len);
            len += s[i % SAMPLES].len;
            ++*nframes;
        }
    return len;
}

/* Reads data[0..len) and returns the number of frames; gathers their bytes behind the preface in
 * echo. */
static size_t drain(struct mtls_frame_reader *r, const uint8_t *data, size_t len, uint8_t *echo,
                    size_t *echo_len)
{
    struct mtls_frame f;
    size_t pos = 0, n = 0;
    int rc;

    while ((rc = mtls_frame_reader_next(r, data, len, &pos, &f)) == 1) {
        memcpy(echo + *echo_len, f.raw, f.raw_len);
        *echo_len += f.raw_len;
        n++;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(pos, len);
    return n;
}

static void split_at_every_byte(void **state)
{
    uint8_t data[1024], echo[1024];

    for (int from = SERVER; from <= CLIENT; from++) {
        size_t nframes, len = stream(from, data, &nframes);

        for (size_t a = 0; a <= len; a++)
            for (size_t b = a; b <= len; b += a == len ? 1 : (len - a + 6) / 7) {
                struct mtls_frame_reader r;
                size_t echo_len = 0, n;

                mtls_frame_reader_init(&r, from);
                n = drain(&r, data, a, echo, &echo_len);
                n += drain(&r, data + a, b - a, echo, &echo_len);
                n += drain(&r, data + b, len - b, echo, &echo_len);
                assert_int_equal(n, nframes);
                assert_int_equal(echo_len, len - MTLS_PREFACE_LEN);
                assert_memory_equal(echo, data + MTLS_PREFACE_LEN, echo_len);
            }
    }
}

static void byte_by_byte(void **state)
{
    uint8_t data[1024], echo[1024];

    for (int from = SERVER; from <= CLIENT; from++) {
        size_t nframes, len = stream(from, data, &nframes), echo_len = 0, n = 0;
        struct mtls_frame_reader r;

        mtls_frame_reader_init(&r, from);
        for (size_t i = 0; i < len; i++)
            n += drain(&r, data + i, 1, echo, &echo_len);
        assert_int_equal(n, nframes);
        assert_memory_equal(echo, data + MTLS_PREFACE_LEN, echo_len);
    }
}

/* [P2-1]: each byte of the preface is told at once, and the error stays. */
static void preface_with_every_bit_flipped(void **state)
{
    for (size_t bit = 0; bit < 8 * MTLS_PREFACE_LEN; bit++) {
        struct mtls_frame_reader r;
        struct mtls_frame f;
        uint8_t bad[MTLS_PREFACE_LEN];
        size_t pos = 0;

        memcpy(bad, mtls_preface, sizeof bad);
        bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        mtls_frame_reader_init(&r, SERVER);
        assert_int_equal(mtls_frame_reader_next(&r, bad, sizeof bad, &pos, &f),
                         MTLS_ERR_FRAME_PREFACE);
        assert_int_equal(pos, bit / 8 + 1);
        pos = 0;
        assert_int_equal(mtls_frame_reader_next(&r, mtls_preface, MTLS_PREFACE_LEN, &pos, &f),
                         MTLS_ERR_FRAME_PREFACE);
        assert_int_equal(pos, 0);
    }
}

static void preface_is_no_frame_and_frames_are_no_preface(void **state)
{
    struct sample s[SAMPLES];
    struct mtls_frame_reader r;
    struct mtls_frame f;
    size_t pos = 0, used;

    make_samples(s);
    mtls_frame_reader_init(&r, CLIENT);
    assert_int_equal(mtls_frame_reader_next(&r, s[0].bytes, s[0].len, &pos, &f),
                     MTLS_ERR_FRAME_PREFACE);
    assert_int_equal(read_one(CLIENT, mtls_preface, MTLS_PREFACE_LEN, &used), MTLS_ERR_FRAME_TYPE);
}

/* What other protocols say first is told apart at the first byte. */
static void foreign_greetings(void **state)
{
    const char *const greetings[] = {"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 302 Found\r\n",
                                     "\x15\x03\x03\x00\x02\x02\x32", "\x05\x01",
                                     "220 mail ESMTP\r\n"};

    for (size_t i = 0; i < sizeof greetings / sizeof greetings[0]; i++) {
        struct mtls_frame_reader r;
        struct mtls_frame f;
        size_t pos = 0;

        mtls_frame_reader_init(&r, SERVER);
        assert_int_equal(mtls_frame_reader_next(&r, (const uint8_t *)greetings[i],
                                                strlen(greetings[i]), &pos, &f),
                         MTLS_ERR_FRAME_PREFACE);
        assert_int_equal(pos, 1);
    }
}

/* [P2-4] types, from both sides. */
static void every_type_in_each_direction(void **state)
{
    const uint8_t legal[2] = {
        [SERVER] = 1 << MTLS_FRAME_READY | 1 << MTLS_FRAME_PROOF | 1 << MTLS_FRAME_FAIL,
        [CLIENT] = 1 << MTLS_FRAME_HELLO | 1 << MTLS_FRAME_CONFIRM | 1 << MTLS_FRAME_FAIL,
    };

    for (int from = SERVER; from <= CLIENT; from++)
        for (int type = 0; type < 256; type++) {
            uint8_t byte = (uint8_t)type;
            size_t used;
            int rc = read_one(from, &byte, 1, &used);

            assert_int_equal(rc, type < 8 && (legal[from] >> type & 1) ? 0 : MTLS_ERR_FRAME_TYPE);
            assert_int_equal(used, 1);
        }
}

/* The error that a wrong value at this byte of such a frame gives; 0 = any value is legal. */
static int error_at(uint8_t type, size_t at)
{
    static const int header[] = {MTLS_ERR_FRAME_TYPE, MTLS_ERR_FRAME_VERSION, MTLS_ERR_FRAME_LENGTH,
                                 MTLS_ERR_FRAME_LENGTH};
    static const char *const bodies[] = {/* v: bounded */
                                         [MTLS_FRAME_HELLO] = "--v",
                                         [MTLS_FRAME_READY] = "v",
                                         [MTLS_FRAME_PROOF] = "vv",
                                         [MTLS_FRAME_CONFIRM] = "vvv",
                                         [MTLS_FRAME_FAIL] = ""};

    if (at < 4)
        return header[at];
    if (at < MTLS_FRAME_HEADER_LEN || at - MTLS_FRAME_HEADER_LEN >= strlen(bodies[type]))
        return 0;
    return bodies[type][at - MTLS_FRAME_HEADER_LEN] == 'v' ? MTLS_ERR_FRAME_VALUE : 0;
}

/* Which values are legal in a bounded byte, written down anew from [P2-4]. */
static bool value_legal(const struct sample *s, size_t at, int value)
{
    switch (s->bytes[0] << 8 | (int)at) {
    case MTLS_FRAME_HELLO << 8 | 10: /* path */
    case MTLS_FRAME_PROOF << 8 | 8:  /* slot */
    case MTLS_FRAME_CONFIRM << 8 | 8:
        return value <= 7;
    case MTLS_FRAME_READY << 8 | 8: /* status */
        return value <= 2;
    case MTLS_FRAME_PROOF << 8 | 9: /* more */
        return value <= 1;
    case MTLS_FRAME_CONFIRM << 8 | 9: /* k, with n = 4 */
        return value >= 1 && value <= 4;
    case MTLS_FRAME_CONFIRM << 8 | 10: /* n, with k = 2 */
        return value >= 2 && value <= 8;
    default:
        return value == s->bytes[at];
    }
}

/* Every value of every byte: legal and read as itself, or the error the rule names, at that byte (a
 * k that is over n shows at n). */
static void every_byte_with_every_value(void **state)
{
    struct sample s[SAMPLES];

    make_samples(s);
    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t at = 1; at < s[i].len; at++) {
            int err = error_at(s[i].bytes[0], at);
            uint8_t right = s[i].bytes[at];

            for (int value = 0; value < 256; value++, s[i].bytes[at] = right) {
                size_t used;
                bool legal = err == 0 || value_legal(&s[i], at, value);
                bool k = s[i].bytes[0] == MTLS_FRAME_CONFIRM && at == 9;
                size_t shows = k && value >= 1 && value <= 8 ? at + 1 : at;

                s[i].bytes[at] = (uint8_t)value;
                assert_int_equal(read_one(s[i].from, s[i].bytes, s[i].len, &used), legal ? 1 : err);
                assert_int_equal(used, legal ? s[i].len : shows + 1);
            }
        }
}

/* Every flipped bit is either an error or another frame: none is overlooked. */
static void every_bit_flipped(void **state)
{
    struct sample s[SAMPLES];

    make_samples(s);
    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t bit = 0; bit < 8 * s[i].len; bit++) {
            uint8_t bad[MTLS_FRAME_MAX];
            size_t used;
            int rc;

            memcpy(bad, s[i].bytes, sizeof bad);
            bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
            rc = read_one(s[i].from, bad, s[i].len, &used); /* compares raw with bad */
            assert_int_not_equal(rc, 0);
            if (bit / 8 < 4)
                assert_true(rc < 0);
        }
}

static void every_frame_cut_short(void **state)
{
    struct sample s[SAMPLES];

    make_samples(s);
    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t cut = 0; cut < s[i].len; cut++) {
            size_t used;

            assert_int_equal(read_one(s[i].from, s[i].bytes, cut, &used), 0);
            assert_int_equal(used, cut);
        }
}

static void an_error_stays(void **state)
{
    struct mtls_frame_reader r = begun(SERVER);
    struct sample s[SAMPLES];
    struct mtls_frame f;
    size_t pos = 0;

    make_samples(s);
    assert_int_equal(mtls_frame_reader_next(&r, s[0].bytes, s[0].len, &pos, &f),
                     MTLS_ERR_FRAME_TYPE);
    pos = 0;
    assert_int_equal(mtls_frame_reader_next(&r, s[1].bytes, s[1].len, &pos, &f),
                     MTLS_ERR_FRAME_TYPE);
    assert_int_equal(pos, 0);
    assert_int_equal(mtls_frame_reader_next(&r, NULL, 0, &pos, &f), MTLS_ERR_FRAME_TYPE);
}

static void nothing_is_read_from_nothing(void **state)
{
    struct mtls_frame_reader r;
    struct mtls_frame f;
    size_t pos = 0;

    mtls_frame_reader_init(&r, CLIENT);
    assert_int_equal(mtls_frame_reader_next(&r, NULL, 0, &pos, &f), 0);
    r = begun(CLIENT);
    assert_int_equal(mtls_frame_reader_next(&r, NULL, 0, &pos, &f), 0);
}

static void extreme_values(void **state)
{
    uint8_t out[MTLS_FRAME_MAX];
    struct mtls_frame_reader r = begun(CLIENT);
    struct mtls_frame f;
    size_t pos = 0;

    mtls_frame_hello(out, 0xFFFFFFFF, 0xFFFF, 7, ones, twos);
    assert_int_equal(mtls_frame_reader_next(&r, out, MTLS_HELLO_LEN, &pos, &f), 1);
    assert_int_equal(f.claim, 0xFFFFFFFF);
    assert_int_equal(f.u.hello.port1, 0xFFFF);
    pos = 0;
    mtls_frame_confirm(out, 0, 7, 8, 8, ones);
    assert_int_equal(mtls_frame_reader_next(&r, out, MTLS_CONFIRM_LEN, &pos, &f), 1);
    assert_int_equal(f.claim, 0);
    assert_int_equal(f.u.confirm.k, 8);
    pos = 0;
    mtls_frame_fail(out, 1, 255); /* [P2-4]: any reason is legal */
    assert_int_equal(mtls_frame_reader_next(&r, out, MTLS_FAIL_LEN, &pos, &f), 1);
    assert_int_equal(f.u.fail.reason, 255);
}

/* ---- test/vectors/frames.json ---- */

static const char *hex(const uint8_t *bytes, char out[65])
{
    for (size_t i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return out;
}

/* The fields as the vectors write them. */
static void describe(const struct mtls_frame *f, char *out, size_t cap)
{
    char a[65], b[65];
    int n;

    switch (f->type) {
    case MTLS_FRAME_HELLO:
        n = snprintf(out, cap, "hello claim=%u port1=%u path=%u secret=%s nonce=%s", f->claim,
                     f->u.hello.port1, f->u.hello.path, hex(f->u.hello.secret, a),
                     hex(f->u.hello.nonce, b));
        break;
    case MTLS_FRAME_READY:
        n = snprintf(out, cap, "ready claim=%u status=%u nonce=%s hello_hash=%s", f->claim,
                     f->u.ready.status, hex(f->u.ready.nonce, a), hex(f->u.ready.hello_hash, b));
        break;
    case MTLS_FRAME_PROOF:
        n = snprintf(out, cap, "proof claim=%u slot=%u more=%u tag=%s", f->claim, f->u.proof.slot,
                     f->u.proof.more, hex(f->u.proof.tag, a));
        break;
    case MTLS_FRAME_CONFIRM:
        n = snprintf(out, cap, "confirm claim=%u slot=%u k=%u n=%u tag=%s", f->claim,
                     f->u.confirm.slot, f->u.confirm.k, f->u.confirm.n, hex(f->u.confirm.tag, a));
        break;
    default:
        n = snprintf(out, cap, "fail claim=%u reason=%u", f->claim, f->u.fail.reason);
        break;
    }
    assert_true(n > 0 && (size_t)n < cap);
}

static void check_vector(const struct vectors *v, size_t i)
{
    int from = strcmp(vectors_str(v, i, "in_from"), "server") == 0 ? SERVER : CLIENT, rc;
    uint8_t bytes[2048], frame[MTLS_FRAME_MAX];
    size_t len = vectors_hex(v, i, "in_stream", bytes, sizeof bytes), pos = 0, n = 0;
    struct mtls_frame_reader r;
    struct mtls_frame f;
    char path[32], text[256];

    mtls_frame_reader_init(&r, from);
    while ((rc = mtls_frame_reader_next(&r, bytes, len, &pos, &f)) == 1) {
        snprintf(path, sizeof path, "out_frames.%zu", n);
        vectors_bytes(v, i, path, frame, f.raw_len);
        assert_memory_equal(f.raw, frame, f.raw_len);
        snprintf(path, sizeof path, "out_fields.%zu", n++);
        describe(&f, text, sizeof text);
        assert_string_equal(text, vectors_str(v, i, path));
    }
    assert_int_equal(n, vectors_len(v, i, "out_frames"));
    assert_string_equal(mtls_error_name(rc), vectors_str(v, i, "out_result"));
    assert_int_equal(pos, vectors_int(v, i, "out_consumed"));
}

static void vectors_agree(void **state)
{
    struct vectors *v = vectors_load("frames");

    for (size_t i = 0; i < v->nobjects; i++)
        check_vector(v, i);
    vectors_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(every_frame_is_read_back),
        cmocka_unit_test(split_at_every_byte),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(preface_with_every_bit_flipped),
        cmocka_unit_test(preface_is_no_frame_and_frames_are_no_preface),
        cmocka_unit_test(foreign_greetings),
        cmocka_unit_test(every_type_in_each_direction),
        cmocka_unit_test(every_byte_with_every_value),
        cmocka_unit_test(every_bit_flipped),
        cmocka_unit_test(every_frame_cut_short),
        cmocka_unit_test(an_error_stays),
        cmocka_unit_test(nothing_is_read_from_nothing),
        cmocka_unit_test(extreme_values),
        cmocka_unit_test(vectors_agree),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
