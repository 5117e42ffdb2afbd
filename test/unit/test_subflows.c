/* [MPC-2] [MPC-5]: which subflows and which counters are believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/subflows.h"

static const struct mtls_subflow_bytes bytes[2] = {{.received = 51, .sent = 134},
                                                   {.received = 123, .sent = 83}};

static struct mtls_subflows two(void)
{
    struct mtls_subflows s = {.n = 2};

    for (int i = 0; i < 2; i++) {
        struct mtls_subflow *f = &s.at[i];

        *f = (struct mtls_subflow){.id = (uint32_t)i + 1,
                                   .established = true,
                                   .full = true,
                                   .flags_known = true,
                                   .received = bytes[i].received,
                                   .sent = bytes[i].sent};
        f->local = (struct mtls_addr){4, {10, (uint8_t)i, 0, 2}, (uint16_t)(40000 + i)};
        f->remote = (struct mtls_addr){4, {192, 0, 2, 1}, 443};
    }
    return s;
}

static void a_pair_is_two_that_carry_data(void **state)
{
    struct mtls_subflows s = two();

    assert_int_equal(mtls_subflows_pair(&s), 0);
    s.at[1].full = false;
    assert_int_equal(mtls_subflows_pair(&s), MTLS_ERR_SUBFLOW_MISSING);
    s.at[1].flags_known = false; /* where the kernel does not tell */
    assert_int_equal(mtls_subflows_pair(&s), 0);
    s.at[1].established = false;
    assert_int_equal(mtls_subflows_pair(&s), MTLS_ERR_SUBFLOW_MISSING);
    s = two();
    s.n = 1;
    assert_int_equal(mtls_subflows_pair(&s), MTLS_ERR_SUBFLOW_MISSING);
    s.n = 0;
    assert_int_equal(mtls_subflows_pair(&s), MTLS_ERR_SUBFLOW_MISSING);
    s = two();
    s.n = 3;
    assert_int_equal(mtls_subflows_pair(&s), MTLS_ERR_SUBFLOW_CHANGED);
}

static void equal_bytes_are_believed(void **state)
{
    struct mtls_subflows then = two(), now = two();

    then.at[1].received = then.at[1].sent = 0; /* it is now that counts */
    assert_int_equal(mtls_subflows_check(&then, &now, bytes), 0);
}

/* One byte more or less, anywhere. */
static void unequal_bytes_are_not(void **state)
{
    struct mtls_subflows then = two();

    for (int i = 0; i < 8; i++) {
        struct mtls_subflows now = two();
        uint64_t *counter = i % 4 < 2 ? &now.at[i & 1].received : &now.at[i & 1].sent;

        *counter += i < 4 ? 1 : UINT64_MAX;
        assert_int_equal(mtls_subflows_check(&then, &now, bytes), MTLS_ERR_SUBFLOW_BYTES);
    }
}

/* Behind the client's last word more may be here: by the second subflow, and only received. */
static void more_is_believed_of_the_second_alone(void **state)
{
    struct mtls_subflow_bytes last[2] = {bytes[0], bytes[1]};
    struct mtls_subflows then = two();

    last[1].more = true;
    for (int i = 0; i < 8; i++) {
        struct mtls_subflows now = two();
        uint64_t *counter = i % 4 < 2 ? &now.at[i & 1].received : &now.at[i & 1].sent;

        *counter += i < 4 ? 1 : UINT64_MAX;
        assert_int_equal(mtls_subflows_check(&then, &now, last),
                         i == 1 ? 0 : MTLS_ERR_SUBFLOW_BYTES);
    }
}

/* The sums agree, the subflows do not: what the second should have carried came by the first. */
static void bytes_of_the_other_subflow_are_not(void **state)
{
    struct mtls_subflows then = two(), now = two();

    now.at[0].received += now.at[1].received;
    now.at[1].received = 0;
    assert_int_equal(mtls_subflows_check(&then, &now, bytes), MTLS_ERR_SUBFLOW_BYTES);
}

static void other_subflows_are_not(void **state)
{
    struct mtls_subflows then = two();

    for (int i = 0; i < 12; i++) {
        struct mtls_subflows now = two();
        struct mtls_subflow *f = &now.at[i & 1];

        switch (i / 2) {
        case 0:
            f->id += 2; /* it went and another one came */
            break;
        case 1:
            f->local.port++;
            break;
        case 2:
            f->remote.ip[3]++;
            break;
        case 3:
            f->local.family = 6;
            break;
        case 4:
            f->established = false;
            break;
        default:
            now.n = i & 1 ? 3 : 1;
        }
        assert_int_equal(mtls_subflows_check(&then, &now, bytes), MTLS_ERR_SUBFLOW_CHANGED);
    }
    then.n = 1;
    assert_int_equal(mtls_subflows_check(&then, &then, bytes), MTLS_ERR_SUBFLOW_CHANGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pair_is_two_that_carry_data),
                                       cmocka_unit_test(equal_bytes_are_believed),
                                       cmocka_unit_test(unequal_bytes_are_not),
                                       cmocka_unit_test(more_is_believed_of_the_second_alone),
                                       cmocka_unit_test(bytes_of_the_other_subflow_are_not),
                                       cmocka_unit_test(other_subflows_are_not)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
