/* Concept: allocation failures on demand, for every unit test. The build wraps malloc, calloc,
 * realloc, strdup, strndup and the CRYPTO_* allocators as they are called from our own objects, and
 * puts libcrypto's own allocations behind the same counter. Counts on the thread that armed it
 * only.
 *
 *     static int scenario(void *arg)      // builds, uses and frees the thing; 0 or MTLS_ERR_*
 *     unsigned n = alloc_sweep(ALLOC_OURS, scenario, NULL);
 *     assert_true(n > 0);
 *
 * Leaks on the way are found by the ASan build. */
#ifndef MTLS_TEST_ALLOC_SWEEP_H
#define MTLS_TEST_ALLOC_SWEEP_H

#include <stdbool.h>

enum alloc_scope {
    ALLOC_OURS = 1,      /* calls from the objects under test */
    ALLOC_LIBCRYPTO = 2, /* calls inside libcrypto on their behalf */
    ALLOC_ALL = 3,
};

typedef int alloc_scenario(void *arg);

/* Runs scenario unharmed (it must return 0), then with its 1st, 2nd, ... allocation failing until
 * none is left to fail. A run with a failed allocation must return MTLS_ERR_NOMEM, or, in a scope
 * that includes libcrypto, also MTLS_ERR_CRYPTO, MTLS_ERR_PROVIDER or 0 (libcrypto may do without).
 * Then once more unharmed. Returns how many allocations were made to fail. Fails the cmocka test
 * otherwise. */
unsigned alloc_sweep(enum alloc_scope scope, alloc_scenario *scenario, void *arg);

/* The pieces, for scenarios whose result is not a return code: the n-th allocation from now (1 =
 * the next) fails once; alloc_disarm() tells whether it did. alloc_count() is how many were made
 * since arming. */
void alloc_arm(enum alloc_scope scope, unsigned n);
bool alloc_disarm(void);
unsigned alloc_count(void);

#endif
