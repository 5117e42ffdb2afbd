/* Fuzz target: path 2's frames inside one MPTCP connection, both ends against each other. The input
 * says how each message is cut and what of it is another byte; nobody may crash, and nobody be
 * confirmed by what was changed [MPC]. */
#include <stdint.h>

#include "path2_fuzz.h"
#include "smkex/core/inband.h"

static const uint8_t secret[MTLS_SECRET_LEN] = {7};
static const struct mtls_addr peer = {.family = 4, .ip = {192, 0, 2, 1}};

/* One message, with up to 15 bytes changed. *same: none was. */
static int carry(struct smkex_inband *from, struct smkex_inband *to, struct input *in, bool *same)
{
    uint8_t text[SMKEX_INBAND_PROOF], cut = next(in), edits = cut & 15;
    size_t len, step = (size_t)(cut >> 4) * 8 + 1;
    const uint8_t *out = smkex_inband_out(from, &len);
    int rc = 0;

    check(len > 0 && len <= sizeof(text));
    memcpy(text, out, len);
    for (uint8_t i = 0; i < edits; i++) {
        uint8_t at = next(in);

        text[at % len] = next(in);
    }
    *same = *same && memcmp(text, out, len) == 0; /* not secret */
    smkex_inband_sent(from, len);
    for (size_t i = 0; rc == 0 && i < len; i += step)
        rc = smkex_inband_input(to, text + i, len - i < step ? len - i : step, 2);
    return rc;
}

static void exchange(struct smkex_inband *client, struct smkex_inband *server,
                     const struct mtls_keys *keys, struct input *in)
{
    uint8_t d[MTLS_SHA256_LEN], there[MTLS_SHA256_LEN], k, n;
    bool same = true;
    int rc = carry(client, server, in, &same);

    if (rc == 0)
        rc = carry(server, client, in, &same);
    if (rc == 0)
        rc = smkex_inband_check(client, keys);
    check(!same || rc == 0); /* a wrong slot is for the server to notice */
    if (rc == 0)
        check(smkex_inband_confirm(client, keys, d) == 0);
    if (rc == 0)
        rc = carry(client, server, in, &same);
    check(smkex_inband_confirmed(server, there, &k, &n) == (rc == 0));
    check(same == (rc == 0));
    check(rc != 0 || (k == 1 && n == 1 && memcmp(d, there, sizeof(d)) == 0)); /* not secret */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct smkex_inband *client, *server;
    uint8_t join[MTLS_JOIN_LEN];
    struct mtls_keys keys;

    keys_of(2, &keys);
    keys.protocol = MTLS_PROTOCOL_SMKEX;
    check(mtls_crypto_join(crypto, secret, join) == 0);
    check(smkex_inband_client(&client, crypto, 443, secret, 1) == 0);
    check(smkex_inband_server(&server, crypto, join, &keys, &peer, 1) == 0);
    exchange(client, server, &keys, &in);
    smkex_inband_free(client);
    smkex_inband_free(server);
    return 0;
}
