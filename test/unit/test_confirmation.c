/* Confirmation by resumption as a library: what the calls refuse, and that a hooked SSL_CTX never
 * passes for it. What goes over a network is in test/system/test_confirm_resume.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "mtls/confirmation.h"

#define PATH "path2=dev=lo,remote=127.0.0.1"

static void refused(const char *words, const char *name, uint16_t port, int code)
{
    ERR_clear_error();
    assert_null(mtls_confirmation_new(words, name, port, NULL));
    assert_int_equal(mtls_last_error(), code);
    ERR_clear_error();
}

static void modes(void **state)
{
    assert_int_equal(mtls_confirm_mode(NULL), MTLS_CONFIRM_EXPORTER);
    assert_int_equal(mtls_confirm_mode("confirm=exporter"), MTLS_CONFIRM_EXPORTER);
    assert_int_equal(mtls_confirm_mode("confirm=resume " PATH), MTLS_CONFIRM_RESUME);
    assert_int_equal(mtls_confirm_mode("confirm=auto"), MTLS_CONFIRM_AUTO);
    assert_int_equal(mtls_confirm_mode("confirm=maybe"), -1);
    assert_int_equal(mtls_last_error(), MTLS_ERR_CONFIG_VALUE);
    ERR_clear_error();
}

/* [RSM-2] A context that is hooked with these words would let data pass unconfirmed: it is not. */
static void a_context_is_not_hooked_with_them(void **state)
{
    static const char *const words[] = {"confirm=resume " PATH, "confirm=auto " PATH,
                                        "confirm=resume policy=prefer " PATH};
    SSL_CTX *ctx;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        ctx = SSL_CTX_new(TLS_client_method());
        assert_int_equal(mtls_ssl_ctx_hook(ctx, words[i]), 0);
        assert_int_equal(mtls_last_error(), MTLS_ERR_CONFIRM_MODE);
        assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 0);
        ERR_clear_error();
        SSL_CTX_free(ctx);
    }
    ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "confirm=exporter " PATH), 1);
    SSL_CTX_free(ctx);
}

static void bad_beginnings(void **state)
{
    refused("confirm=resume", "a.example", 443, MTLS_ERR_PATH_NONE);
    refused(PATH, NULL, 443, MTLS_ERR_ARG);
    refused(PATH, "a.example", 0, MTLS_ERR_ARG);
    refused(PATH, "not a name", 443, MTLS_ERR_ARG);
    refused(PATH " path2=auto need=2", "a.example", 443, MTLS_ERR_CONFIG_CONFLICT);
    refused("path2=nonsense", "a.example", 443, MTLS_ERR_CONFIG_SYNTAX);
}

/* [RSM-14] A memory that cannot be read is not an empty one. */
static void corrupt_memory(void **state)
{
    char file[] = "/tmp/mtls-confirmation-XXXXXX", words[200];
    int fd = mkstemp(file);
    struct mtls_confirmation *c;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "garbage\n", 8), 8);
    close(fd);
    snprintf(words, sizeof words, "policy=prefer hosts=%s " PATH, file);
    refused(words, "a.example", 443, MTLS_ERR_HOSTS_CORRUPT);
    unlink(file);
    c = mtls_confirmation_new(words, "a.example", 443, NULL); /* its twin: none there yet */
    assert_non_null(c);
    mtls_confirmation_free(c);
}

static void run_refused(struct mtls_confirmation *c, SSL *ssl)
{
    ERR_clear_error();
    assert_int_equal(mtls_confirmation_run(c, ssl), 0);
    assert_int_equal(mtls_last_error(), MTLS_ERR_ARG);
    assert_int_equal(mtls_confirmation_verdict(c), MTLS_VERDICT_NONE);
}

static void run_without_a_handshake(void **state)
{
    struct mtls_confirmation *c = mtls_confirmation_new(PATH " early=off", "a.example", 443, NULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL *ssl = SSL_new(ctx), *server = SSL_new(ctx);
    struct mtls_path_info path;
    char *json;

    assert_non_null(c);
    SSL_set_connect_state(ssl);
    SSL_set_accept_state(server);
    run_refused(c, NULL);
    run_refused(c, ssl);
    run_refused(NULL, ssl);
    assert_string_equal(mtls_confirmation_reason(NULL), "none");
    assert_string_equal(mtls_confirmation_meaning(NULL), mtls_confirmation_meaning(c));
    assert_int_equal(mtls_confirmation_scope(NULL), 0);
    assert_int_equal(mtls_confirmation_resumed(NULL), 0);
    assert_null(mtls_confirmation_get1_session(NULL));
    assert_null(mtls_confirmation_json(NULL));
    run_refused(c, server);
    assert_string_equal(mtls_confirmation_reason(c), "none");
    assert_int_equal(mtls_confirmation_scope(c), 0);
    assert_int_equal(mtls_confirmation_resumed(c), 0);
    assert_null(mtls_confirmation_get1_session(c));
    assert_int_equal(mtls_confirmation_get_path(c, 0, &path), 0);
    json = mtls_confirmation_json(c);
    assert_non_null(json);
    assert_non_null(strstr(json, "\"outcome\": \"none\", \"mode\": \"resume\""));
    assert_null(strchr(json, '\n'));
    OPENSSL_free(json);
    SSL_free(ssl);
    SSL_free(server);
    SSL_CTX_free(ctx);
    mtls_confirmation_free(c);
    mtls_confirmation_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes),
        cmocka_unit_test(a_context_is_not_hooked_with_them),
        cmocka_unit_test(bad_beginnings),
        cmocka_unit_test(corrupt_memory),
        cmocka_unit_test(run_without_a_handshake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
