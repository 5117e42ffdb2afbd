/* Both ends of path 2 against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/path2_client.h"
#include "path2_lab.h"

/* Moves bytes between the ends until both are silent. */
static void pump(struct mtls_p2c *p, struct mtls_p2s_conn *c, mtls_tstamp now)
{
    const uint8_t *out;
    size_t len;

    for (bool moved = true; moved;) {
        moved = false;
        if ((out = mtls_p2c_out(p, &len)) != NULL) {
            assert_int_equal(mtls_p2s_conn_input(c, out, len, now), 0);
            mtls_p2c_sent(p, len);
            moved = true;
        }
        if ((out = mtls_p2s_conn_out(c, &len)) != NULL) {
            assert_int_equal(mtls_p2c_input(p, out, len, now), 0);
            mtls_p2s_conn_sent(c, len);
            moved = true;
        }
    }
}

/* Two paths, both counted; each order of HELLO and keys. [MUL-4] */
static void both_ends_agree(void **state)
{
    for (int keys_first = 0; keys_first < 2; keys_first++) {
        struct mtls_addr addr = lab_v4(2, 1);
        struct mtls_p2s_session *x;
        struct mtls_p2s_conn *c[2];
        struct mtls_p2c_claim *claim[2];
        struct mtls_counted counted[2];
        struct mtls_p2c *p[2];
        struct mtls_keys keys;
        struct lab lab = {0};
        uint8_t secret[MTLS_SECRET_LEN], d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN];

        lab_start(&lab);
        lab_keys(&keys, 8);
        lab_secret(100, secret);
        x = lab_session(&lab, 100, &lab);
        if (keys_first)
            assert_int_equal(mtls_p2s_session_keys(x, &keys, 1), 0);
        for (uint8_t i = 0; i < 2; i++) {
            assert_int_equal(mtls_p2s_conn_new(&c[i], lab.server, &addr, NULL, 1), 0);
            assert_int_equal(mtls_p2c_new(&p[i], lab_crypto, NULL, NULL), 0);
            assert_int_equal(mtls_p2c_hello(p[i], i, 443, secret, NULL, &claim[i], 1), 0);
            pump(p[i], c[i], 1);
        }
        if (!keys_first)
            assert_int_equal(mtls_p2s_session_keys(x, &keys, 1), 0);
        for (size_t i = 0; i < 2; i++) {
            pump(p[i], c[i], 1);
            assert_int_equal(claim[i]->state, MTLS_CLAIM_PROOF);
            assert_int_equal(mtls_confirm_server_tag(lab_crypto, &keys, claim[i]->p2, tag), 0);
            assert_true(mtls_tag_equal(tag, claim[i]->proofs[0].tag));
            counted[i].path = claim[i]->path;
            memcpy(counted[i].p2, claim[i]->p2, sizeof(counted[i].p2));
            memcpy(counted[i].tag_s, tag, sizeof(tag));
        }
        assert_int_equal(mtls_confirm_d(lab_crypto, counted, 2, d), 0);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(mtls_confirm_client_tag(lab_crypto, &keys, counted[i].p2,
                                                     counted[i].tag_s, 2, 2, d, tag),
                             0);
            assert_int_equal(mtls_p2c_confirm(p[i], claim[i], claim[i]->proofs[0].slot, 2, 2, tag),
                             0);
            pump(p[i], c[i], 1);
            assert_int_equal(lab.confirmed, 1);
        }
        mtls_p2s_session_free(x, MTLS_FAIL_ABANDONED, 2);
        for (size_t i = 0; i < 2; i++) {
            pump(p[i], c[i], 2);
            mtls_p2c_free(p[i]);
            mtls_p2s_conn_free(c[i]);
        }
        lab_stop(&lab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_agree),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
