/* Fuzz target: SMKEX's OFFER and ANSWER. An ANSWER that is accepted must encode to the very bytes
 * it came from (flags apart), an OFFER too unless groups were skipped; the length is told alike for
 * the whole and for its beginning. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smkex/core/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void offer(const uint8_t *data, size_t size)
{
    uint8_t out[SMKEX_MESSAGE_MAX];
    struct smkex_offer o;
    int rc = smkex_offer_parse(data, size, &o);

    check(rc == 0 || rc == MTLS_ERR_SMKEX_FOREIGN || rc == MTLS_ERR_SMKEX_MALFORMED);
    if (rc != 0 || o.ngroups == 0)
        return;
    rc = smkex_offer_encode(&o, out);
    check(rc > 0 && (size_t)rc <= size);
    check((size_t)rc < size || memcmp(out, data, size) == 0);
}

static void answer(const uint8_t *data, size_t size)
{
    uint8_t out[SMKEX_MESSAGE_MAX];
    struct smkex_answer a;
    int rc = smkex_answer_parse(data, size, &a);

    check(rc == 0 || rc == MTLS_ERR_SMKEX_FOREIGN || rc == MTLS_ERR_SMKEX_MALFORMED ||
          rc == MTLS_ERR_SMKEX_CHOICE);
    if (rc != 0)
        return;
    check(smkex_answer_encode(&a, out) == (int)size);
    check(memcmp(out, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int whole = smkex_message_length(data, size);

    for (size_t n = 0; n < size && n <= SMKEX_HEAD_LEN; n++) {
        int told = smkex_message_length(data, n);

        check(told == 0 || told == whole);
    }
    offer(data, size);
    answer(data, size);
    return 0;
}
