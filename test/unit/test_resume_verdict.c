/* The verdict of a confirmation by resumption: each reason by name, and every combination of facts
 * against the rules as the specification words them. [RSM-8] [RSM-9] [RSM-10] [RSM-11] [RSM-13] */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/confirmation.h"
#include "mtls/core/resume_verdict.h"

static struct mtls_rsm_facts good(void)
{
    return (struct mtls_rsm_facts){.tls13 = true,
                                   .path1_open = true,
                                   .checked = true,
                                   .ticket = true,
                                   .distinct = true,
                                   .end = MTLS_RSM_COMPLETED,
                                   .psk = true};
}

static struct mtls_rsm_facts full(enum mtls_rsm_key key)
{
    struct mtls_rsm_facts f = good();

    f.psk = false;
    f.chain_valid = true;
    f.key = key;
    return f;
}

static struct mtls_rsm_facts ended(enum mtls_rsm_end end, uint8_t alert)
{
    struct mtls_rsm_facts f = good();

    f.psk = false;
    f.end = end;
    f.alert = alert;
    return f;
}

#define IS(facts, why) assert_string_equal(mtls_rsm_word(mtls_rsm_judge(&(facts))), why)

static void resumed(void **state)
{
    struct mtls_rsm_facts f = good();

    IS(f, "resumed");
    f.distinct = false;
    IS(f, "paths-not-distinct");
    f = good();
    f.ticket = false; /* a PSK that was never offered */
    IS(f, "path2-foreign");
    f = good();
    f.checked = false; /* certificates have no part in it */
    IS(f, "resumed");
    f.tls13 = false;
    IS(f, "tls-version");
    f = good();
    f.path1_open = false;
    IS(f, "path1-closed");
    f.broken = true;
    IS(f, "local-error");
}

static void spare_ticket(void **state)
{
    struct mtls_rsm_facts f = {.tls13 = true, .record = true, .remembered = true};

    IS(f, "spare-ticket");
    f.tls13 = false;
    IS(f, "shows-less");
}

static void full_handshake(void **state)
{
    struct mtls_rsm_facts f = full(MTLS_RSM_KEY_SAME);

    IS(f, "not-resumed");
    f.ticket = false;
    IS(f, "no-ticket");
    f.distinct = false;
    IS(f, "paths-not-distinct");
    f = full(MTLS_RSM_KEY_OTHER);
    IS(f, "other-key");
    f.checked = false;
    IS(f, "other-key");
    f.distinct = false;
    IS(f, "other-key");
    f = full(MTLS_RSM_KEY_ALTERNATE);
    IS(f, "alternate-key");
    f = full(MTLS_RSM_KEY_SAME);
    f.chain_valid = false;
    IS(f, "path2-certificate");
    f.key = MTLS_RSM_KEY_ALTERNATE;
    IS(f, "path2-certificate");
    f.checked = false;
    f.key = MTLS_RSM_KEY_SAME;
    IS(f, "certificate-unchecked");
    f = full(MTLS_RSM_KEY_UNKNOWN);
    IS(f, "local-error");
}

static void ends(void **state)
{
    struct mtls_rsm_facts f = ended(MTLS_RSM_ALERTED, 47);

    IS(f, "ticket-refused");
    f.alert = 51;
    IS(f, "ticket-refused");
    f.ticket = false; /* nothing that a PSK could have been wrong with */
    IS(f, "path2-alert");
    f = ended(MTLS_RSM_ALERTED, 40);
    IS(f, "path2-alert");
    f = ended(MTLS_RSM_ALERTED, 70);
    IS(f, "path2-tls-version");
    f = ended(MTLS_RSM_BELOW_13, 0);
    IS(f, "path2-tls-version");
    f = ended(MTLS_RSM_NOT_MADE, 0);
    IS(f, "path2-failed");
    f = ended(MTLS_RSM_CLOSED, 0);
    IS(f, "path2-closed");
    f = ended(MTLS_RSM_SILENT, 0);
    IS(f, "path2-silent");
    f = ended(MTLS_RSM_FOREIGN, 0);
    IS(f, "path2-foreign");
    f = ended(MTLS_RSM_BROKEN, 0);
    IS(f, "local-error");
}

static void remembered(void **state)
{
    struct mtls_rsm_facts f = full(MTLS_RSM_KEY_SAME);

    f.remembered = true;
    IS(f, "shows-less");
    f.key = MTLS_RSM_KEY_ALTERNATE;
    IS(f, "shows-less");
    f.key = MTLS_RSM_KEY_OTHER;
    IS(f, "other-key");
    f = ended(MTLS_RSM_CLOSED, 0); /* whoever cuts path 2 raises no alarm */
    f.remembered = true;
    IS(f, "path2-closed");
    f = good();
    f.remembered = true;
    IS(f, "resumed");
}

/* ---- every combination ---- */

static bool may_verify(const struct mtls_rsm_facts *f)
{
    if (f->broken || !f->tls13)
        return false;
    return f->record ||
           (f->path1_open && f->end == MTLS_RSM_COMPLETED && f->psk && f->ticket && f->distinct);
}

static bool asked(const struct mtls_rsm_facts *f)
{
    return !f->broken && f->tls13 && !f->record && f->path1_open;
}

static bool without_psk(const struct mtls_rsm_facts *f)
{
    return asked(f) && f->end == MTLS_RSM_COMPLETED && !f->psk && f->key != MTLS_RSM_KEY_UNKNOWN;
}

static bool same_key(const struct mtls_rsm_facts *f)
{
    return without_psk(f) && f->key == MTLS_RSM_KEY_SAME && f->checked && f->chain_valid &&
           f->distinct;
}

static bool contradicts(const struct mtls_rsm_facts *f)
{
    bool refused =
        asked(f) && f->end == MTLS_RSM_ALERTED && f->ticket && (f->alert == 47 || f->alert == 51);
    bool below13 =
        !f->broken && (!f->tls13 || (asked(f) && (f->end == MTLS_RSM_BELOW_13 ||
                                                  (f->end == MTLS_RSM_ALERTED && f->alert == 70))));
    bool alternate = without_psk(f) && f->key == MTLS_RSM_KEY_ALTERNATE;

    return refused || (without_psk(f) && f->key == MTLS_RSM_KEY_OTHER) ||
           (without_psk(f) && f->checked && !f->chain_valid) ||
           (f->remembered && (same_key(f) || below13 || alternate));
}

static struct mtls_rsm_facts combination(uint32_t n)
{
    static const uint8_t alerts[] = {40, 47, 51, 70};
    struct mtls_rsm_facts f = {.tls13 = n & 1,
                               .path1_open = n >> 1 & 1,
                               .broken = n >> 2 & 1,
                               .checked = n >> 3 & 1,
                               .ticket = n >> 4 & 1,
                               .record = n >> 5 & 1,
                               .remembered = n >> 6 & 1,
                               .distinct = n >> 7 & 1,
                               .psk = n >> 8 & 1,
                               .chain_valid = n >> 9 & 1};

    f.key = (enum mtls_rsm_key)(n >> 10 & 3);
    f.end = (enum mtls_rsm_end)(n >> 12 & 7);
    f.alert = alerts[n >> 15 & 3];
    return f;
}

static void all(void **state)
{
    unsigned count[5] = {0};

    for (uint32_t n = 0; n < 1u << 17; n++) {
        struct mtls_rsm_facts f = combination(n);
        enum mtls_rsm_verdict v = mtls_rsm_verdict_of(mtls_rsm_judge(&f));

        count[v]++;
        assert_int_equal(v == MTLS_RSM_VERIFIED, may_verify(&f));
        assert_int_equal(v == MTLS_RSM_ALARM, contradicts(&f));
        assert_int_equal(v == MTLS_RSM_CONSISTENT, same_key(&f) && !f.remembered);
    }
    assert_int_equal(count[MTLS_RSM_NONE], 0);
    for (int v = MTLS_RSM_VERIFIED; v <= MTLS_RSM_ALARM; v++)
        assert_true(count[v] > 0);
}

static void policies(void **state)
{
    static const struct {
        enum mtls_policy policy;
        bool named, remembered;
        bool verified, consistent, unproven;
    } rows[] = {
        {MTLS_POLICY_REQUIRE, false, false, true, false, false},
        {MTLS_POLICY_REQUIRE, true, false, true, true, false},
        {MTLS_POLICY_REQUIRE, true, true, true, true, false},
        {MTLS_POLICY_PREFER, false, false, true, true, true},
        {MTLS_POLICY_PREFER, false, true, true, true, false},
        {MTLS_POLICY_UNSET, false, false, true, false, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
#define ALLOWS(v) mtls_rsm_allows(rows[i].policy, rows[i].named, rows[i].remembered, v)
        assert_int_equal(ALLOWS(MTLS_RSM_VERIFIED), rows[i].verified);
        assert_int_equal(ALLOWS(MTLS_RSM_CONSISTENT), rows[i].consistent);
        assert_int_equal(ALLOWS(MTLS_RSM_UNPROVEN), rows[i].unproven);
        assert_false(ALLOWS(MTLS_RSM_ALARM));
        assert_false(ALLOWS(MTLS_RSM_NONE));
#undef ALLOWS
    }
}

/* Each word once, each with a sentence; the public numbers are the inner ones. [RSM-12] */
static void words(void **state)
{
    for (int i = 0; i < MTLS_RSM_WHY_COUNT; i++) {
        assert_true(strlen(mtls_rsm_meaning((enum mtls_rsm_reason)i)) > 20);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(mtls_rsm_word((enum mtls_rsm_reason)i),
                                    mtls_rsm_word((enum mtls_rsm_reason)j));
    }
    assert_string_equal(mtls_rsm_word((enum mtls_rsm_reason)999), "local-error");
    assert_int_equal(MTLS_VERDICT_VERIFIED, MTLS_RSM_VERIFIED);
    assert_int_equal(MTLS_VERDICT_ALARM, MTLS_RSM_ALARM);
    assert_string_equal(mtls_verdict_name(MTLS_VERDICT_CONSISTENT), "consistent");
    assert_string_equal(mtls_verdict_name((enum mtls_confirm_verdict)9), "none");
    assert_int_equal(MTLS_CONFIRM_AUTO, MTLS_WAY_AUTO);
    assert_int_equal(MTLS_CONFIRM_RESUME, MTLS_WAY_RESUME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed),        cmocka_unit_test(spare_ticket),
        cmocka_unit_test(full_handshake), cmocka_unit_test(ends),
        cmocka_unit_test(remembered),     cmocka_unit_test(all),
        cmocka_unit_test(policies),       cmocka_unit_test(words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
