/* Error names and texts: complete, unique, in their bands; and the helpers of this folder
 * themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "alloc_sweep.h"
#include "mtls/error.h"

static const struct {
    int code;
    const char *name, *text;
} all[] = {
#define ROW(sym, code, name, text) {MTLS_ERR_##sym, name, text},
    MTLS_ERROR_LIST(ROW)
#undef ROW
};
enum { COUNT = sizeof all / sizeof all[0] };

static void every_code_has_its_name_and_text(void **state)
{
    for (size_t i = 0; i < COUNT; i++) {
        assert_string_equal(mtls_error_name(all[i].code), all[i].name);
        assert_string_equal(mtls_error_string(all[i].code), all[i].text);
        assert_true(strlen(all[i].text) > strlen("error"));
    }
}

static void codes_and_names_are_unique(void **state)
{
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all[i].code, all[j].code);
            assert_string_not_equal(all[i].name, all[j].name);
            assert_string_not_equal(all[i].text, all[j].text);
        }
}

static void names_are_words_with_dashes(void **state)
{
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(all[i].code < 0 && all[i].code > -600);
        assert_int_equal(strspn(all[i].name, "abcdefghijklmnopqrstuvwxyz0123456789-"),
                         strlen(all[i].name));
        assert_string_not_equal(all[i].name, "unknown");
        assert_string_not_equal(all[i].name, "ok");
    }
}

static void zero_is_ok_and_other_numbers_are_unknown(void **state)
{
    const int none[] = {1, -99, -499, -599, -600, -1000, 2147483647, -2147483647 - 1};

    assert_string_equal(mtls_error_name(MTLS_OK), "ok");
    assert_string_equal(mtls_error_string(MTLS_OK), "no error");
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_string_equal(mtls_error_name(none[i]), "unknown");
        assert_non_null(mtls_error_string(none[i]));
    }
}

/* ---- alloc_sweep.h: a sweep that finds nothing must not be a sweep that looks at nothing ---- */

static int two_allocations(void *arg)
{
    void *volatile a = malloc(10), *b = OPENSSL_malloc(10); /* volatile: not to be optimised away */
    int rc = a == NULL || b == NULL ? MTLS_ERR_NOMEM : 0;

    free(a);
    OPENSSL_free(b);
    return rc;
}

static void sweep_counts_and_fails_each_allocation(void **state)
{
    assert_int_equal(alloc_sweep(ALLOC_OURS, two_allocations, NULL), 2);
    assert_int_equal(alloc_sweep(ALLOC_LIBCRYPTO, two_allocations, NULL), 1);
    assert_int_equal(alloc_sweep(ALLOC_ALL, two_allocations, NULL), 3);
}

static void one_allocation_fails_once(void **state)
{
    void *volatile p;

    alloc_arm(ALLOC_OURS, 1);
    p = malloc(1);
    assert_null(p);
    p = malloc(1);
    assert_non_null(p);
    assert_int_equal(alloc_count(), 2);
    assert_true(alloc_disarm());
    free(p);
    alloc_arm(ALLOC_OURS, 2);
    p = malloc(1);
    assert_false(alloc_disarm());
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_name_and_text),
        cmocka_unit_test(codes_and_names_are_unique),
        cmocka_unit_test(names_are_words_with_dashes),
        cmocka_unit_test(zero_is_ok_and_other_numbers_are_unknown),
        cmocka_unit_test(sweep_counts_and_fails_each_allocation),
        cmocka_unit_test(one_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
