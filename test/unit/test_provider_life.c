/* Concept: tests of the provider's life: library contexts, threads, fork, teardown in any order,
 * memory that runs out, and other providers beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc_sweep.h"
#include "mtls/error.h"
#include "provider_lib.h"

/* ---- Contexts and teardown ---- */

static void the_default_provider_is_not_lost(void **state)
{
    struct lib lib = {OSSL_LIB_CTX_new(), NULL, NULL};
    EVP_MD *md;
    uint8_t tag[32];
    EVP_MAC_CTX *ctx;

    assert_int_equal(OSSL_PROVIDER_add_builtin(lib.ctx, "mtls", mtls_provider_init), 1);
    lib.mtls = OSSL_PROVIDER_try_load(lib.ctx, "mtls", 1);
    assert_non_null(lib.mtls);
    ctx = lib_proof(&lib); /* first of all, before anything has called for the default provider */
    proof_tag(ctx, "server", NULL, test_key, test_key, 32, tag);
    EVP_MAC_CTX_free(ctx);
    md = EVP_MD_fetch(lib.ctx, "SHA256", NULL);
    assert_non_null(md);
    EVP_MD_free(md);
    lib_close(&lib);
}

static void without_another_provider_there_is_an_error(void **state)
{
    struct lib lib = {OSSL_LIB_CTX_new(), NULL, NULL};
    static const char *const names[] = {MTLS_ALG_EK, "TLS13-KDF"};
    EVP_MAC *mac;

    lib_load_mtls(&lib);
    mac = EVP_MAC_fetch(lib.ctx, MTLS_ALG_PROOF, NULL);
    assert_non_null(mac);
    assert_null(EVP_MAC_CTX_new(mac));
    ERR_clear_error();
    for (size_t i = 0; i < 2; i++) {
        EVP_KDF *kdf = EVP_KDF_fetch(lib.ctx, names[i], NULL);

        assert_non_null(kdf);
        assert_null(EVP_KDF_CTX_new(kdf));
        EVP_KDF_free(kdf);
        ERR_clear_error();
    }
    lib_load_default(&lib); /* and now it works: a failure is not kept */
    EVP_MAC_CTX_free(lib_proof(&lib));
    EVP_MAC_free(mac);
    lib_close(&lib);
}

static void library_contexts_end_in_any_order(void **state)
{
    uint8_t tag[2][32];
    EVP_MAC_CTX *ctx[2];
    EVP_KDF_CTX *kdf[2];
    struct lib lib[2];

    for (int order = 0; order < 8; order++) {
        for (int i = 0; i < 2; i++) {
            lib_open_order(&lib[i], order & 1);
            ctx[i] = lib_proof(&lib[i]);
            kdf[i] = lib_kdf(&lib[i], MTLS_ALG_EK, NULL);
            proof_tag(ctx[i], "server", NULL, test_key, test_key, 32, tag[i]);
        }
        assert_memory_equal(tag[0], tag[1], 32);
        for (int i = 0; i < 2; i++) {
            int which = (order >> 1 & 1) ^ i;

            if (order & 4) { /* default first; the contexts keep what they need alive */
                assert_int_equal(OSSL_PROVIDER_unload(lib[which].dflt), 1);
                lib[which].dflt = NULL;
                assert_int_equal(OSSL_PROVIDER_unload(lib[which].mtls), 1);
                lib[which].mtls = NULL;
                proof_tag(ctx[which], "client", NULL, test_key, test_key, 32, tag[which]);
            }
            EVP_MAC_CTX_free(ctx[which]);
            EVP_KDF_CTX_free(kdf[which]);
            lib_close(&lib[which]);
        }
    }
}

static void fork_in_the_middle_of_an_operation(void **state)
{
    uint8_t want[32], got[32], child_tag[32];
    EVP_MAC_CTX *ctx;
    struct lib lib;
    int fds[2], status;
    size_t n;
    pid_t pid;

    lib_open(&lib);
    ctx = lib_proof(&lib);
    proof_tag(ctx, "server", NULL, test_key, test_key, 20, want);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(proof_init(ctx, "server", NULL, test_key), 1);
    assert_int_equal(EVP_MAC_update(ctx, test_key, 10), 1);
    pid = fork();
    assert_true(pid >= 0);
    if (EVP_MAC_update(ctx, test_key + 10, 10) != 1 || EVP_MAC_final(ctx, got, &n, 32) != 1)
        memset(got, 0, 32);
    if (pid == 0) /* both go on; the child also starts anew */
        _exit(write(fds[1], got, 32) == 32 && EVP_MAC_init(ctx, NULL, 0, NULL) == 1 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(read(fds[0], child_tag, 32), 32);
    assert_memory_equal(got, want, 32);
    assert_memory_equal(child_tag, want, 32);
    close(fds[0]);
    close(fds[1]);
    EVP_MAC_CTX_free(ctx);
    lib_close(&lib);
}

static void *first_use(void *arg)
{
    const struct lib *lib = arg;
    EVP_MAC *mac = EVP_MAC_fetch(lib->ctx, MTLS_ALG_PROOF, NULL);
    EVP_KDF *kdf = EVP_KDF_fetch(lib->ctx, MTLS_ALG_EK, NULL);
    EVP_MAC_CTX *a = EVP_MAC_CTX_new(mac);
    EVP_KDF_CTX *b = EVP_KDF_CTX_new(kdf);
    uint8_t tag[32], ek[64];
    size_t n = 0;
    bool ok = proof_init(a, "server", NULL, test_key) == 1 && EVP_MAC_final(a, tag, &n, 32) == 1 &&
              n == 32 && ek_derive(b, "SHA256", test_key, 32, ek, 64) == 1;

    EVP_MAC_free(mac);
    EVP_KDF_free(kdf);
    EVP_MAC_CTX_free(a);
    EVP_KDF_CTX_free(b);
    OPENSSL_thread_stop_ex(lib->ctx);
    return ok ? arg : NULL;
}

static void threads_may_race_for_the_first_use(void **state)
{
    pthread_t threads[8];
    struct lib lib;
    void *got;

    for (int round = 0; round < 5; round++) {
        lib_open(&lib);
        for (int i = 0; i < 8; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, first_use, &lib), 0);
        for (int i = 0; i < 8; i++) {
            pthread_join(threads[i], &got);
            assert_ptr_equal(got, &lib);
        }
        lib_close(&lib);
    }
}

/* ---- Another provider with the same names ---- */

static void *fake_new(void *provctx)
{
    return OPENSSL_zalloc(1);
}

static void fake_free(void *ctx)
{
    OPENSSL_free(ctx);
}

static int fake_derive(void *ctx, unsigned char *out, size_t len, const OSSL_PARAM params[])
{
    memset(out, 0xfa, len);
    return 1;
}

static const OSSL_ALGORITHM *fake_query(void *provctx, int operation, int *no_store)
{
    static const OSSL_DISPATCH kdf[] = {{OSSL_FUNC_KDF_NEWCTX, (void (*)(void))fake_new},
                                        {OSSL_FUNC_KDF_FREECTX, (void (*)(void))fake_free},
                                        {OSSL_FUNC_KDF_DERIVE, (void (*)(void))fake_derive},
                                        {0, NULL}};
    static const OSSL_ALGORITHM kdfs[] = {{"MTLS1-EK", "provider=fake", kdf, NULL},
                                          {"MTLS1-OBSERVED", "provider=fake", kdf, NULL},
                                          {NULL, NULL, NULL, NULL}};

    *no_store = 0;
    return operation == OSSL_OP_KDF ? kdfs : NULL;
}

static int fake_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                     const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))fake_query}, {0, NULL}};

    *out = functions;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

static void another_provider_has_the_same_names(void **state)
{
    uint8_t want[64], got[64];

    raw_exporter("SHA256", test_key, 32, "EXPORTER-Multipath-TLS-1", want, 64);
    for (int fake_first = 0; fake_first < 2; fake_first++) {
        struct lib lib = {OSSL_LIB_CTX_new(), NULL, NULL};
        EVP_KDF_CTX *ours, *theirs;
        OSSL_PROVIDER *fake;

        lib_load_default(&lib);
        if (!fake_first)
            lib_load_mtls(&lib);
        assert_int_equal(OSSL_PROVIDER_add_builtin(lib.ctx, "fake", fake_init), 1);
        fake = OSSL_PROVIDER_load(lib.ctx, "fake");
        assert_non_null(fake);
        if (fake_first)
            lib_load_mtls(&lib);
        ours = lib_kdf(&lib, MTLS_ALG_EK, "provider=mtls");
        theirs = lib_kdf(&lib, MTLS_ALG_EK, "provider!=mtls");
        assert_int_equal(ek_derive(ours, "SHA256", test_key, 32, got, 64), 1);
        assert_memory_equal(got, want, 64);
        assert_int_equal(ek_derive(theirs, "SHA256", test_key, 32, got, 64), 1);
        assert_int_equal(got[63], 0xfa);
        EVP_KDF_CTX_free(ours);
        EVP_KDF_CTX_free(theirs);
        assert_null(EVP_MAC_fetch(lib.ctx, MTLS_ALG_PROOF,
                                  "provider!=mtls")); /* a query that excludes us */
        assert_null(EVP_KDF_fetch(lib.ctx, MTLS_ALG_EK, "provider=default"));
        ERR_clear_error();
        assert_int_equal(OSSL_PROVIDER_unload(fake), 1);
        lib_close(&lib);
    }
}

/* ---- Out of memory ---- */

static int whole_life(void *arg)
{
    struct lib lib = {OSSL_LIB_CTX_new(), NULL, NULL};
    OSSL_PROVIDER *dflt = NULL, *mtls = NULL;
    char *config = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_ptr(MTLS_PROV_PARAM_CONFIG, &config, 0), END};
    int ok = 0;

    if (lib.ctx != NULL && OSSL_PROVIDER_add_builtin(lib.ctx, "mtls", mtls_provider_init) == 1 &&
        (dflt = OSSL_PROVIDER_load(lib.ctx, "default")) != NULL &&
        (mtls = OSSL_PROVIDER_load(lib.ctx, "mtls")) != NULL) {
        EVP_MAC *mac = EVP_MAC_fetch(lib.ctx, MTLS_ALG_PROOF, NULL);
        EVP_KDF *kdf = EVP_KDF_fetch(lib.ctx, MTLS_ALG_EK, NULL);
        EVP_MAC_CTX *a = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL,
                    *b = a != NULL ? EVP_MAC_CTX_dup(a) : NULL;
        EVP_KDF_CTX *k = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL,
                    *l = k != NULL ? EVP_KDF_CTX_dup(k) : NULL;
        uint8_t tag[32], ek[64];
        size_t n;

        ok = b != NULL && l != NULL && proof_init(b, "server", NULL, test_key) == 1 &&
             EVP_MAC_final(b, tag, &n, 32) == 1 &&
             ek_derive(l, "SHA256", test_key, 32, ek, 64) == 1 &&
             OSSL_PROVIDER_get_params(mtls, params) == 1;
        EVP_MAC_CTX_free(a);
        EVP_MAC_CTX_free(b);
        EVP_KDF_CTX_free(k);
        EVP_KDF_CTX_free(l);
        EVP_MAC_free(mac);
        EVP_KDF_free(kdf);
    }
    OSSL_PROVIDER_unload(mtls);
    OSSL_PROVIDER_unload(dflt);
    OSSL_LIB_CTX_free(lib.ctx);
    return ok ? 0 : MTLS_ERR_NOMEM;
}

static void our_allocations_may_fail(void **state)
{
    assert_true(alloc_sweep(ALLOC_OURS, whole_life, NULL) >= 6);
}

static int open_and_close(OSSL_LIB_CTX *libctx)
{
    OSSL_PROVIDER *prov = NULL;
    char *words = NULL;
    int rc = mtls_provider_open(libctx, &prov, &words);

    if (rc == 0) {
        assert_string_equal(words, "");
        assert_int_equal(OSSL_PROVIDER_unload(prov), 1);
        OPENSSL_free(words);
    }
    return rc;
}

/* A start that failed is tried once more from the built-in copy, so a single failure may pass. */
static void our_allocations_may_fail_while_opening(void **state)
{
    unsigned failures = 0;

    for (unsigned n = 1;; n++) {
        OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
        int rc;

        alloc_arm(ALLOC_OURS, n);
        rc = open_and_close(libctx);
        if (!alloc_disarm())
            n = 0;
        assert_true(rc == 0 || (n > 0 && (rc == MTLS_ERR_NOMEM || rc == MTLS_ERR_PROVIDER)));
        assert_int_equal(open_and_close(libctx), 0);
        OSSL_LIB_CTX_free(libctx);
        failures += rc != 0;
        if (n == 0)
            break;
    }
    assert_true(failures >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_provider_is_not_lost),
        cmocka_unit_test(without_another_provider_there_is_an_error),
        cmocka_unit_test(library_contexts_end_in_any_order),
        cmocka_unit_test(fork_in_the_middle_of_an_operation),
        cmocka_unit_test(threads_may_race_for_the_first_use),
        cmocka_unit_test(another_provider_has_the_same_names),
        cmocka_unit_test(our_allocations_may_fail),
        cmocka_unit_test(our_allocations_may_fail_while_opening),
    };

    setenv("OPENSSL_MODULES", "/nonexistent", 1); /* not the module that may be installed here */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
