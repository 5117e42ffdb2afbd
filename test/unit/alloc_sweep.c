/* Concept: allocation failures on demand (alloc_sweep.h). Owns one thread-local counter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "alloc_sweep.h"
#include "mtls/error.h"

static _Thread_local unsigned armed_scope, made, fail_at;
static _Thread_local bool failed;

static bool fails(unsigned scope)
{
    if ((armed_scope & scope) == 0 || ++made != fail_at)
        return false;
    failed = true;
    return true;
}

void alloc_arm(enum alloc_scope scope, unsigned n)
{
    made = 0;
    fail_at = n;
    failed = false;
    armed_scope = (unsigned)scope;
}

bool alloc_disarm(void)
{
    armed_scope = 0;
    return failed;
}

unsigned alloc_count(void)
{
    return made;
}

/* ---- Calls from the objects under test (-Wl,--wrap) ---- */

#define WRAP(ret, name, params, args)                                                              \
    ret __real_##name params;                                                                      \
    ret __wrap_##name params;                                                                      \
    ret __wrap_##name params                                                                       \
    {                                                                                              \
        return fails(ALLOC_OURS) ? NULL : __real_##name args;                                      \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *p, size_t size), (p, size))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))
WRAP(void *, CRYPTO_malloc, (size_t n, const char *f, int l), (n, f, l))
WRAP(void *, CRYPTO_zalloc, (size_t n, const char *f, int l), (n, f, l))
WRAP(void *, CRYPTO_realloc, (void *p, size_t n, const char *f, int l), (p, n, f, l))
WRAP(void *, CRYPTO_memdup, (const void *p, size_t n, const char *f, int l), (p, n, f, l))
WRAP(char *, CRYPTO_strdup, (const char *s, const char *f, int l), (s, f, l))
WRAP(char *, CRYPTO_strndup, (const char *s, size_t n, const char *f, int l), (s, n, f, l))

/* ---- Calls inside libcrypto ---- */

static void *libcrypto_malloc(size_t n, const char *file, int line)
{
    return n == 0 || fails(ALLOC_LIBCRYPTO) ? NULL : __real_malloc(n);
}

static void *libcrypto_realloc(void *p, size_t n, const char *file, int line)
{
    if (n == 0) {
        free(p);
        return NULL;
    }
    return fails(ALLOC_LIBCRYPTO) ? NULL : __real_realloc(p, n);
}

static void libcrypto_free(void *p, const char *file, int line)
{
    free(p);
}

__attribute__((constructor)) static void take_libcrypto_allocator(void)
{
    /* Possible only before libcrypto's first allocation, therefore here. */
    if (CRYPTO_set_mem_functions(libcrypto_malloc, libcrypto_realloc, libcrypto_free) != 1)
        abort();
}

/* ---- The sweep ---- */

static bool clean_error(enum alloc_scope scope, int rc)
{
    if (rc == MTLS_ERR_NOMEM)
        return true;
    return (scope & ALLOC_LIBCRYPTO) != 0 &&
           (rc == 0 || rc == MTLS_ERR_CRYPTO || rc == MTLS_ERR_PROVIDER);
}

unsigned alloc_sweep(enum alloc_scope scope, alloc_scenario *scenario, void *arg)
{
    unsigned n = 0;
    int rc;

    assert_int_equal(scenario(arg), 0);
    for (;;) {
        alloc_arm(scope, n + 1);
        rc = scenario(arg);
        if (!alloc_disarm())
            break;
        if (!clean_error(scope, rc))
            fail_msg("allocation %u failed and the result was %d (%s)", n + 1, rc,
                     mtls_error_name(rc));
        ERR_clear_error();
        n++;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(scenario(arg), 0);
    return n;
}
