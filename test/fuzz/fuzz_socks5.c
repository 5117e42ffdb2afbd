/* Fuzz target: what a SOCKS5 proxy answers. The first byte says in which steps the reply arrives;
 * the result and what is left for the tunnel must not depend on it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mtls/core/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void drain(struct mtls_socks5 *s)
{
    size_t len;

    (void)mtls_socks5_out(s, &len);
    mtls_socks5_sent(s, len);
}

/* The method in one piece, since no proxy may be ahead of our request; then the reply in steps. */
static int run(const uint8_t *data, size_t size, size_t step, size_t *taken)
{
    const struct mtls_host host = {.name = "www.example"};
    const size_t method_len = size < 2 ? size : 2;
    struct mtls_socks5 s;
    int r;

    check(mtls_socks5_init(&s, &host, 443) == 0);
    drain(&s);
    *taken = 0;
    r = mtls_socks5_input(&s, data, method_len, taken);
    check(r <= 0 && *taken <= method_len);
    drain(&s);
    for (size_t end = method_len; r == 0 && end < size;) {
        end = size - end < step ? size : end + step;
        r = mtls_socks5_input(&s, data, end, taken);
        check(*taken <= end && (r != 0 || *taken == end));
    }
    if (r != 0) { /* for ever, and takes nothing more */
        const size_t before = *taken;

        check(mtls_socks5_input(&s, data, size, taken) == r && *taken == before);
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t once, steps;

    if (size == 0)
        return 0;
    check(run(data + 1, size - 1, size, &once) ==
          run(data + 1, size - 1, 1u + data[0] % 7u, &steps));
    check(once == steps);
    return 0;
}
