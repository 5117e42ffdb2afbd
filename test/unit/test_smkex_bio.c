/* SMKEX's BIOs over real sockets on two real paths. */
#include "smkex_lab.h"

static void *bio_echo(void *arg)
{
    BIO *bio = BIO_pop(arg);
    char buf[64];
    int n;

    while ((n = BIO_read(bio, buf, sizeof buf)) > 0)
        assert_int_equal(BIO_write(bio, buf, n), n);
    BIO_free_all(bio);
    return NULL;
}

static BIO *bio_listener(struct smkex_ctx *server, char *port)
{
    BIO *bio;

    netns_go_there();
    bio = smkex_bio_new_accept(server, "0.0.0.0:0");
    assert_int_equal(BIO_do_accept(bio), 1);
    netns_go_here();
    strcpy(port, BIO_get_accept_port(bio));
    if (atoi(port) == 0) { /* the real one */
        struct sockaddr_in sa;
        socklen_t len = sizeof sa;

        assert_int_equal(getsockname((int)BIO_get_fd(bio, NULL), (struct sockaddr *)&sa, &len), 0);
        sprintf(port, "%u", ntohs(sa.sin_port));
    }
    return bio;
}

static void *bio_accept(void *arg)
{
    return (void *)(intptr_t)BIO_do_accept(arg);
}

static void bios_talk(void **state)
{
    struct smkex_ctx *server = server_context(""), *client = client_context(server, "");
    char port[16], address[64], got[16];
    BIO *listens = bio_listener(server, port), *bio;
    pthread_t thread;
    void *accepted;

    snprintf(address, sizeof address, "203.0.113.1:%s", port);
    for (int i = 0; i < 2; i++) {
        bio = smkex_bio_new_connect(client, address);
        assert_null(smkex_bio_get0(bio));
        assert_int_equal(pthread_create(&thread, NULL, bio_accept, listens), 0);
        if (i == 1) /* non-blocking: retries as any BIO */
            BIO_set_nbio(bio, 1);
        assert_true(BIO_do_connect(BIO_next(bio)) == 1 || i == 1);
        pthread_join(thread, &accepted);
        assert_int_equal((intptr_t)accepted, 1);
        assert_int_equal(pthread_create(&thread, NULL, bio_echo, listens), 0);
        while (BIO_do_handshake(bio) != 1) {
            struct pollfd fd = {.fd = (int)BIO_get_fd(bio, NULL),
                                .events = BIO_should_write(bio) ? POLLOUT : POLLIN};

            assert_true(i == 1 && BIO_should_retry(bio) && poll(&fd, 1, 20000) == 1);
        }
        assert_int_equal(smkex_get_outcome(smkex_bio_get0(bio)), SMKEX_OUTCOME_VERIFIED);
        set_blocking((int)BIO_get_fd(bio, NULL), true);
        assert_int_equal(BIO_write(bio, "hello", 5), 5);
        assert_int_equal(BIO_read(bio, got, sizeof got), 5);
        assert_memory_equal(got, "hello", 5);
        assert_int_equal(BIO_shutdown_wr(bio), 1);
        assert_int_equal(BIO_read(bio, got, sizeof got), 0);
        assert_true(BIO_eof(bio));
        pthread_join(thread, NULL);
        BIO_free_all(bio);
    }
    BIO_free_all(listens);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

/* [SPO-3] with one BIO: its second connection is plain, whether it blocks or not. */
static void bios_go_on_in_clear_by_policy(void **state)
{
    struct smkex_ctx *client = context("path2=dev=v1,remote=203.0.113.1:1 policy=prefer");
    char address[64], got[8];

    snprintf(address, sizeof address, "203.0.113.1:%u", port1);
    for (int nbio = 0; nbio < 2; nbio++) {
        BIO *bio = smkex_bio_new_connect(client, address);
        int fd;

        BIO_set_nbio(bio, nbio);
        while (BIO_do_connect(BIO_next(bio)) != 1)
            assert_true(nbio && BIO_should_retry(BIO_next(bio)));
        fd = accept(listener, NULL, NULL);
        assert_int_equal(send(fd, "220 hello", 9, 0), 9);
        while (BIO_do_handshake(bio) != 1)
            assert_true(nbio && BIO_should_retry(bio));
        close(fd);
        assert_int_equal(smkex_get_outcome(smkex_bio_get0(bio)), SMKEX_OUTCOME_PLAIN);
        fd = accept(listener, NULL, NULL);
        assert_int_equal(BIO_write(bio, "clear", 5), 5);
        assert_int_equal(recv(fd, got, 5, MSG_WAITALL), 5);
        assert_memory_equal(got, "clear", 5);
        close(fd);
        BIO_free_all(bio);
    }
    smkex_ctx_free(client);
}

static void bios_fail_with_a_reason(void **state)
{
    struct smkex_ctx *server = context("mode=single"), *client = context("mode=single pad=0");
    char port[16], address[64], got[16];
    BIO *listens = bio_listener(server, port), *bio = NULL;
    pthread_t thread;
    void *accepted;
    int fd;

    snprintf(address, sizeof address, "203.0.113.1:%u", port1);
    bio = smkex_bio_new_connect(client, address); /* nobody who speaks SMKEX */
    assert_int_equal(BIO_do_connect(BIO_next(bio)), 1);
    fd = accept(listener, NULL, NULL);
    assert_int_equal(send(fd, "SSH-2.0", 7, 0), 7);
    assert_int_equal(BIO_read(bio, got, sizeof got), -1);
    assert_false(BIO_should_retry(bio));
    assert_int_equal(mtls_last_error(), MTLS_ERR_SMKEX_FOREIGN);
    ERR_clear_error();
    close(fd);
    BIO_free_all(bio);
    assert_int_equal(pthread_create(&thread, NULL, bio_accept, listens), 0);
    snprintf(address, sizeof address, "203.0.113.1:%s", port);
    bio = BIO_new_connect(address); /* plain */
    assert_int_equal(BIO_do_connect(bio), 1);
    pthread_join(thread, &accepted);
    assert_int_equal(BIO_write(bio, "GET / HTTP", 10), 10);
    assert_int_equal(BIO_read(BIO_next(listens), got, sizeof got), -1);
    assert_int_equal(mtls_last_error(), MTLS_ERR_SMKEX_FOREIGN);
    ERR_clear_error();
    BIO_free_all(bio);
    BIO_free_all(listens);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bios_talk),
        cmocka_unit_test(bios_go_on_in_clear_by_policy),
        cmocka_unit_test(bios_fail_with_a_reason),
    };

    netns_setup();
    open_listener();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
