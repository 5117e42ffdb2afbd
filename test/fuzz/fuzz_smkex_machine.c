/* Fuzz target: one SMKEX connection on either side. The input is a script: bytes for path 1 as they
 * come from the network, decisions, reads, writes, updates, ends; some of its bytes are a right
 * peer's. Nothing may crash, nothing be delivered that the peer did not seal, and a failed
 * connection stays failed. */
#include <stdint.h>

#include "path2_fuzz.h"
#include "smkex/core/machine.h"

enum { ACTIONS = 10 };

static const struct smkex_crypto *primitives(void)
{
    static struct smkex_crypto *c;

    if (c == NULL)
        check(smkex_crypto_new(&c, NULL) == 0);
    return c;
}

static struct smkex_machine *make(bool server, bool single)
{
    struct smkex_params p = {.server = server,
                             .mode = single ? SMKEX_MODE_SINGLE : SMKEX_MODE_MULTIPATH,
                             .nsuites = 1,
                             .suites = {SMKEX_SUITE_AES128},
                             .ngroups = 1,
                             .groups = {SMKEX_GROUP_X25519}};
    struct smkex_machine *m;

    check(smkex_machine_new(&m, primitives(), &p) == 0);
    return m;
}

/* Every call that is allowed at any time. */
static void look(struct smkex_machine *m)
{
    enum smkex_state state = smkex_machine_state(m);
    uint32_t age;
    size_t len;

    check((state == SMKEX_STATE_FAILED) == (smkex_machine_error(m) != 0));
    check(state == SMKEX_STATE_OPEN || smkex_machine_data(m, &len) == NULL);
    (void)smkex_machine_missing(m);
    (void)smkex_machine_is_refused(m);
    (void)smkex_machine_server_key(m, &age);
    (void)smkex_machine_peer_closed(m);
}

/* What a sent, or the fuzzer's bytes, into b. Data that comes out must be the constant that is
 * written. */
static void feed(struct smkex_machine *b, const uint8_t *data, size_t len)
{
    bool failed = smkex_machine_state(b) == SMKEX_STATE_FAILED;
    size_t room, have;
    uint8_t *at;
    const uint8_t *out;

    while (len > 0 && (at = smkex_machine_room(b, &room)) != NULL && room > 0) {
        size_t n = len < room ? len : room;

        memcpy(at, data, n);
        data += n;
        len -= n;
        if (smkex_machine_filled(b, n) != 0)
            break;
        while ((out = smkex_machine_data(b, &have)) != NULL) {
            for (size_t i = 0; i < have; i++)
                check(out[i] == 0x5a);
            if (smkex_machine_take(b, have) != 0)
                break;
        }
    }
    check(!failed || smkex_machine_state(b) == SMKEX_STATE_FAILED);
}

static void pass(struct smkex_machine *a, struct smkex_machine *b, size_t most)
{
    size_t len;
    const uint8_t *out = smkex_machine_out(a, &len);

    len = len < most ? len : most;
    if (len == 0)
        return;
    feed(b, out, len);
    smkex_machine_sent(a, len);
}

static void act(struct input *in, struct smkex_machine *m[2], bool single)
{
    static const uint8_t d[MTLS_SHA256_LEN], text[300] = {[0 ... 299] = 0x5a};
    uint8_t op = next(in);
    struct smkex_machine *me = m[op >> 7], *other = m[!(op >> 7)];
    const uint8_t *bytes;
    size_t len;

    switch ((op & 0x7f) % ACTIONS) {
    case 0:
        bytes = next_bytes(in, &len);
        feed(me, bytes, len);
        break;
    case 1:
        pass(other, me, SIZE_MAX);
        break;
    case 2:
        pass(other, me, next(in));
        break;
    case 3:
        (void)!smkex_machine_answer(me);
        break;
    case 4:
        (void)!smkex_machine_decide(me, single ? NULL : d, !single, !single);
        break;
    case 5:
        (void)!smkex_machine_write(me, text, next(in));
        break;
    case 6:
        (void)!smkex_machine_update(me, next(in) & 1);
        break;
    case 7:
        (void)!smkex_machine_close(me);
        break;
    case 8:
        (void)!smkex_machine_eof(me);
        break;
    default:
        if (smkex_machine_state(me) == SMKEX_STATE_OFFERED)
            smkex_machine_refuse(me, SMKEX_REFUSE_ROOM, MTLS_ERR_LIMIT);
    }
    look(me);
    look(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    bool single = next(&in) & 1;
    struct smkex_machine *m[2] = {make(false, single), make(true, single)};

    while (more(&in))
        act(&in, m, single);
    smkex_machine_free(m[0]);
    smkex_machine_free(m[1]);
    return 0;
}
