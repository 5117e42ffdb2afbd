/* mtls-client check: one server, on a thread of its own. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "client_check.h"
#include "client_tls_confirm.h"

static void fail(struct check_result *out, const char *reason, const char *text)
{
    out->reason = reason;
    out->meaning = "path 1 did not come about";
    snprintf(out->error, sizeof out->error, "%s", text);
}

/* false: the time is over. */
static bool await(int fd, short events, uint64_t until_us)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        uint64_t now = clock_us();
        int n = poll(&p, 1, now < until_us ? (int)((until_us - now) / 1000 + 1) : 0);

        if (n > 0)
            return true;
        if (n == 0 && clock_us() >= until_us)
            return false;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* Path 1's socket is bound as the flags say, or pinned to the device that it leaves by. */
static int open_socket(const struct client_config *config, const struct addr *to)
{
    int fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const char *device = config->device;

    if (fd < 0)
        return -1;
    if ((device != NULL &&
         setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0) ||
        (config->has_local && config->local.sa.ss_family == to->sa.ss_family &&
         bind(fd, (const struct sockaddr *)&config->local.sa, config->local.len) < 0)) {
        close(fd);
        return -1;
    }
    if (device == NULL && !config->has_local)
        client_protocol_pin(NULL, fd, to);
    return fd;
}

static int connect_one(const struct client_config *config, const struct addr *to, uint64_t until_us)
{
    int fd = open_socket(config, to), error = 0;
    socklen_t len = sizeof error;

    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&to->sa, to->len) == 0)
        return fd;
    if (errno == EINPROGRESS && await(fd, POLLOUT, until_us) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)
        return fd;
    error = error != 0 ? error : errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = error;
    return -1;
}

static int connect_any(const struct client_config *config, const struct addr_list *list)
{
    uint64_t until = clock_us() + config->timeout_s * 1000000;
    int fd = -1;

    for (size_t i = 0; i < list->count && fd < 0; i++)
        fd = connect_one(config, &list->at[i], until);
    return fd;
}

static bool find(const struct client_config *config, struct addr_list *list,
                 struct check_result *out)
{
    const char *why;

    if (config->has_connect) {
        list->at[0] = config->connect;
        addr_set_port(&list->at[0], config->server.port);
        list->count = 1;
        return true;
    }
    if (addr_lookup(config->server.host, config->server.port, config->family,
                    (unsigned)config->timeout_s * 1000, list, &why) == 0)
        return true;
    fail(out, "look-up", why);
    return false;
}

static bool shake_hands(SSL *ssl, int fd, uint64_t until_us, struct check_result *out)
{
    for (;;) {
        int rv, error;
        unsigned long code;

        ERR_clear_error();
        rv = SSL_connect(ssl);
        if (rv == 1)
            return true;
        error = SSL_get_error(ssl, rv);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
            if (await(fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until_us))
                continue;
            fail(out, "timeout", "handshake timed out");
            return false;
        }
        code = ERR_peek_error();
        if (SSL_get_verify_result(ssl) != X509_V_OK)
            fail(out, "certificate", X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
        else
            fail(out, "tls", code != 0 ? ERR_reason_error_string(code) : "connection was closed");
        ERR_clear_error();
        return false;
    }
}

static uint64_t handshake_us(const struct client_config *config)
{
    return (config->deadline_ms + CLIENT_HANDSHAKE_EXTRA_MS) * 1000;
}

static void confirm(struct mtls_confirmation *confirmation, SSL *ssl, struct check_result *out)
{
    uint64_t start = clock_us();

    snprintf(out->tls, sizeof out->tls, "%s", SSL_get_version(ssl));
    (void)mtls_confirmation_run(confirmation, ssl); /* the verdict alone matters here */
    out->confirm_us = clock_us() - start;
    out->verdict = mtls_confirmation_verdict(confirmation);
    out->reason = mtls_confirmation_reason(confirmation);
    out->meaning = mtls_confirmation_meaning(confirmation);
    out->json = mtls_confirmation_json(confirmation);
    if (out->verdict == MTLS_VERDICT_NONE)
        fail(out, mtls_error_name(mtls_last_error()), mtls_error_string(mtls_last_error()));
    ERR_clear_error();
}

static void probe(const struct client *c, struct check_result *out)
{
    const struct client_config *config = &c->config;
    struct mtls_confirmation *confirmation;
    struct addr_list list;
    uint64_t start;
    SSL *ssl = NULL;
    int fd;

    confirmation =
        mtls_confirmation_new(config->words.text, client_host_name(c), config->server.port, NULL);
    if (confirmation == NULL) {
        fail(out, mtls_error_name(mtls_last_error()), mtls_error_string(mtls_last_error()));
        ERR_clear_error();
        return;
    }
    fd = find(config, &list, out) ? 0 : -1;
    start = clock_us();
    if (fd == 0 && (fd = connect_any(config, &list)) < 0)
        fail(out, "connect", strerror(errno));
    if (fd >= 0) {
        out->connect_us = clock_us() - start;
        start = clock_us();
        ssl = client_tls_new(c);
        if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
            fail(out, "local", "out of memory");
        } else if (shake_hands(ssl, fd, start + handshake_us(config), out)) {
            out->handshake_us = clock_us() - start;
            confirm(confirmation, ssl, out);
            (void)SSL_shutdown(ssl);
        }
    }
    mtls_confirmation_free(confirmation);
    SSL_free(ssl);
    ERR_clear_error();
    if (fd >= 0)
        close(fd);
}

static int parse(const char *target, struct host_port *out)
{
    char text[300];
    int len = snprintf(text, sizeof text, "%s:443", target);

    if (host_port_parse(target, 1, out) == 0)
        return 0;
    return len < 0 || (size_t)len >= sizeof text ? -1 : host_port_parse(text, 1, out);
}

void client_probe(const struct client *c, const char *target, struct check_result *out)
{
    struct client *own = calloc(1, sizeof *own);

    if (own == NULL) {
        fail(out, "local", "out of memory");
        return;
    }
    own->ctx = c->ctx;
    own->config = c->config;
    if (parse(target, &own->config.server) < 0)
        fail(out, "usage", "not HOST or HOST:PORT");
    else if (client_paths_add(&own->config, client_prog) < 0)
        fail(out, "usage", "second path: too long");
    else
        probe(own, out);
    free(own);
}
