/* Concept: tests of mtls_provider_open(): which copy of the provider is taken, and no policy in
 * openssl.cnf is lost. The default library context reads openssl.cnf once, so each case runs in a
 * process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/core_dispatch.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/error.h"
#include "provider_lib.h"

#define HEAD         "openssl_conf = init\n[init]\nproviders = list\n[list]\n"
#define WITH_DEFAULT HEAD "default = yes\n[yes]\nactivate = 1\n[list]\n"

struct open_case {
    const char *cnf; /* NULL: no such file */
    int rc;
    const char *words, *name;
};

static bool proof_works(OSSL_LIB_CTX *libctx)
{
    EVP_MAC *mac = EVP_MAC_fetch(libctx, MTLS_ALG_PROOF, "provider=mtls");
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    bool ok = ctx != NULL && proof_init(ctx, "server", NULL, test_key) == 1;

    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok;
}

/* Who serves a query without properties. */
static bool tls13_kdf_is_of(OSSL_LIB_CTX *libctx, const char *query, const char *name)
{
    EVP_KDF *kdf = EVP_KDF_fetch(libctx, "TLS13-KDF", query);
    bool ok = kdf != NULL && strcmp(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), name) == 0;

    EVP_KDF_free(kdf);
    return ok;
}

/* Twice, since the second time everything is there; a foreign error on the queue stays alone. */
static int open_twice(const struct open_case *c)
{
    ERR_raise(ERR_LIB_USER, 7);
    for (int i = 0; i < 2; i++) {
        OSSL_PROVIDER *prov = NULL;
        char *words = NULL;
        int rc = mtls_provider_open(NULL, &prov, &words);

        if (rc != c->rc)
            return 10;
        if (rc != 0)
            continue;
        if (strcmp(words, c->words) != 0)
            return 11;
        if (strcmp(OSSL_PROVIDER_get0_name(prov), c->name) != 0)
            return 12;
        if (!proof_works(NULL))
            return 13;
        OPENSSL_free(words);
        if (i == 1 && OSSL_PROVIDER_unload(prov) != 1)
            return 14;
    }
    if (ERR_GET_REASON(ERR_get_error()) != 7 || ERR_get_error() != 0)
        return 15;
    return OSSL_PROVIDER_available(NULL, "default") == 1 ? 0 : 16;
}

static void in_a_process_of_its_own(int (*run)(const struct open_case *), const struct open_case *c)
{
    char file[] = "/tmp/test_provider_open.XXXXXX";
    FILE *f = fdopen(mkstemp(file), "w");
    int status;
    pid_t pid;

    assert_non_null(f);
    if (c->cnf != NULL)
        fputs(c->cnf, f);
    fclose(f);
    if (c->cnf == NULL)
        unlink(file);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("OPENSSL_CONF", file, 1);
        setenv("OPENSSL_MODULES", "/nonexistent", 1);
        _exit(run(c));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    unlink(file);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 0)
        fail_msg("step %d failed with: %s", WEXITSTATUS(status), c->cnf != NULL ? c->cnf : "-");
}

static void the_built_in_copy_gets_the_words_of_the_file(void **state)
{
    static const struct open_case cases[] = {
        {NULL, 0, "", "mtls"},
        {"", 0, "", "mtls"},
        {HEAD, 0, "", "mtls"},
        {"policy = off\n", 0, "", "mtls"},
        {WITH_DEFAULT "mtls = m\n[m]\nactivate = 1\npolicy = require\n", 0, "policy=require",
         "mtls"},
        {WITH_DEFAULT "mtls = m\n[m]\npolicy = require\npath2.1=auto\n", 0,
         "policy=require path2=auto", "mtls-builtin"},
        {HEAD "mtls = m\n[m]\npolicy = prefer\n", 0, "policy=prefer", "mtls-builtin"},
        {WITH_DEFAULT "1.mtls = m\n[m]\nneed = 2\n", 0, "need=2", "mtls-builtin"},
        {"name = outside\n" WITH_DEFAULT "mtls = m\n[m]\nneed = 2\n", 0, "need=2", "mtls-builtin"},
        {WITH_DEFAULT "mtlsx = m\n[m]\nneed = 2\n", 0, "", "mtls"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        in_a_process_of_its_own(open_twice, &cases[i]);
}

static void a_file_that_cannot_be_understood_is_an_error(void **state)
{
    static const struct open_case cases[] = {
        {WITH_DEFAULT "mtls = m\n[m]\nname = a policy=off\n", MTLS_ERR_CONFIG_VALUE, NULL, NULL},
        {WITH_DEFAULT "mtls = m\n[m]\nactivate = 1\nname = a policy=off\n", MTLS_ERR_CONFIG_VALUE,
         NULL, NULL},
        {WITH_DEFAULT "mtls = m\n[m]\nname = \"\"\n", MTLS_ERR_CONFIG_VALUE, NULL, NULL},
        {"[init\npolicy", MTLS_ERR_CONFIG_SYNTAX, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        in_a_process_of_its_own(open_twice, &cases[i]);
}

/* Another library context has a configuration of its own, or none: the file is not asked. */
static int open_elsewhere(const struct open_case *c)
{
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new(), *before;
    OSSL_PROVIDER *prov = NULL;
    char *words = NULL;
    int rc = mtls_provider_open(libctx, &prov, &words);

    if (!tls13_kdf_is_of(libctx, NULL, "default") ||
        !tls13_kdf_is_of(libctx, MTLS_OBSERVER_QUERY, "mtls"))
        return 24;
    if (rc != 0 || strcmp(words, "") != 0 || !proof_works(libctx))
        return 20;
    OPENSSL_free(words);
    if (OSSL_PROVIDER_available(libctx, "default") != 1 || OSSL_PROVIDER_unload(prov) != 1)
        return 21;
    prov = NULL;
    before = OSSL_LIB_CTX_set0_default(libctx); /* NULL now means libctx on this thread */
    rc = mtls_provider_open(NULL, &prov, &words);
    if (rc != 0 || strcmp(words, "") != 0 || OSSL_PROVIDER_unload(prov) != 1)
        return 22;
    OPENSSL_free(words);
    if (mtls_provider_open(before, &prov, &words) != 0 || strcmp(words, c->words) != 0)
        return 23;
    OPENSSL_free(words);
    OSSL_LIB_CTX_set0_default(before);
    OSSL_LIB_CTX_free(libctx);
    return 0;
}

static void another_library_context_is_left_alone(void **state)
{
    const struct open_case c = {WITH_DEFAULT "mtls = m\n[m]\npolicy = require\n", 0,
                                "policy=require", NULL};

    in_a_process_of_its_own(open_elsewhere, &c);
}

static int foreign_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                        const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {{0, NULL}};

    *out = functions;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

static int open_beside_a_foreign_one(const struct open_case *c)
{
    OSSL_PROVIDER *prov = NULL;
    char *words = NULL;

    if (OSSL_PROVIDER_add_builtin(NULL, "mtls", foreign_init) != 1 ||
        OSSL_PROVIDER_try_load(NULL, "mtls", 1) == NULL)
        return 30;
    return mtls_provider_open(NULL, &prov, &words) < 0 ? 0 : 31;
}

static void a_foreign_provider_of_our_name_is_an_error(void **state)
{
    const struct open_case c = {NULL, MTLS_ERR_PROVIDER, NULL, NULL};

    in_a_process_of_its_own(open_beside_a_foreign_one, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_copy_gets_the_words_of_the_file),
        cmocka_unit_test(a_file_that_cannot_be_understood_is_an_error),
        cmocka_unit_test(another_library_context_is_left_alone),
        cmocka_unit_test(a_foreign_provider_of_our_name_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
