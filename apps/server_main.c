/* mtls-server: accepts TLS connections whose handshakes are confirmed over a second network path,
 * and serves files, passes the bytes on, or echoes them. One thread, one event loop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include <mtls/mtls.h>

#include "complain.h"
#include "server.h"
#include "linger.h"
#include "options.h"
#include "www.h"

#define PROG             "mtls-server"
#define TICKET_KEY_BYTES 80 /* name, AES-256 key, HMAC key of OpenSSL's tickets */
#define LOOKUP_MS        10000

static int load_ticket_key(SSL_CTX *ctx, const char *file)
{
    uint8_t key[TICKET_KEY_BYTES + 1];
    struct stat st;
    FILE *f = fopen(file, "re");
    size_t len;
    int rv = -1;

    if (f == NULL) {
        complain(PROG, "%s: %s", file, strerror(errno));
        return -1;
    }
    setvbuf(f, NULL, _IONBF, 0);
    len = fread(key, 1, sizeof key, f);
    if (fstat(fileno(f), &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        complain_warning(PROG, "%s can be read by others; whoever reads it reads resumed sessions",
                         file);
    fclose(f);
    if (len != TICKET_KEY_BYTES)
        complain(PROG, "%s: not %d bytes", file, TICKET_KEY_BYTES);
    else if (SSL_CTX_set_tlsext_ticket_keys(ctx, key, TICKET_KEY_BYTES) != 1)
        tls_setup_error(PROG, file);
    else
        rv = 0;
    OPENSSL_cleanse(key, sizeof key);
    return rv;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    const struct server_config *c = arg;
    unsigned char *chosen = NULL;

    if (SSL_select_next_proto(&chosen, out_len, c->alpn, (unsigned)c->alpn_len, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int set_client_ca(SSL_CTX *ctx, const char *file)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);

    if (names == NULL || SSL_CTX_load_verify_file(ctx, file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_setup_error(PROG, file);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int load_files(struct server *s)
{
    const struct server_config *c = &s->config;

    if (tls_setup_certificate(s->ctx, PROG, c->cert, c->key) < 0)
        return -1;
    return c->ticket_key != NULL ? load_ticket_key(s->ctx, c->ticket_key) : 0;
}

static int setup_tls(struct server *s)
{
    struct server_config *c = &s->config;

    s->ctx = SSL_CTX_new(TLS_server_method());
    if (s->ctx == NULL)
        return tls_setup_error(PROG, "SSL_CTX_new");
    SSL_CTX_set_min_proto_version(s->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(s->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                    SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF); /* tickets hold the sessions */
    SSL_CTX_set_session_id_context(s->ctx, (const unsigned char *)PROG, sizeof PROG - 1);
    if (load_files(s) < 0 || tls_setup_keylog(s->ctx, PROG) < 0)
        return -1;
    if (c->client_ca != NULL && set_client_ca(s->ctx, c->client_ca) < 0)
        return -1;
    if (c->alpn_len == 0 && c->service == SERVICE_WWW)
        c->alpn_len = tls_setup_alpn_wire("http/1.1,http/1.0", c->alpn);
    if (c->alpn_len > 0)
        SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, c);
    if (mtls_ssl_ctx_hook(s->ctx, c->words.text) != 1)
        return tls_setup_error(PROG, "Multipath TLS");
    s->hooked = mtls_ssl_ctx_is_hooked(s->ctx) == 1;
    if (s->hooked && strstr(c->words.text, "policy=require") != NULL &&
        mtls_ssl_ctx_get0_listener(s->ctx, 0) == NULL)
        return usage_error(PROG, "--policy require needs --path2-listen: no client could confirm");
    if (s->hooked && mtls_ssl_ctx_get0_listener(s->ctx, 0) == NULL)
        complain_warning(PROG, "no --path2-listen: no session can be verified here");
    return 0;
}

static int setup_service(struct server *s)
{
    struct server_config *c = &s->config;
    const char *why;

    if (c->service == SERVICE_WWW && (s->www_root = www_open_root(c->www)) < 0) {
        complain(PROG, "%s: %s", c->www,
                 errno == ENOSYS ? "this kernel cannot confine paths (openat2)" : strerror(errno));
        return -1;
    }
    if (c->service != SERVICE_FORWARD)
        return 0;
    s->backend.hp = c->forward;
    s->backend.looked_up_at = ev_now(s->loop);
    if (addr_lookup(c->forward.host, c->forward.port, AF_UNSPEC, LOOKUP_MS, &s->backend.list,
                    &why) < 0) {
        complain(PROG, "--forward %s: %s", c->forward.host, why);
        return -1;
    }
    return 0;
}

static int setup_listeners(struct server *s)
{
    const char *why;

    s->listeners = listeners_new(s->loop, server_session_accept, s);
    if (s->listeners == NULL)
        return -1;
    for (size_t i = 0; i < s->config.listen_count; i++)
        if (listeners_add(s->listeners, s->config.listen[i], &why) < 0) {
            complain(PROG, "--listen %s: %s", s->config.listen[i], why);
            return -1;
        }
    return 0;
}

static void announce(const struct server *s)
{
    const char *text;
    struct json j;

    if (!s->out.json) {
        for (size_t i = 0; i < listeners_count(s->listeners); i++)
            fprintf(stderr, "%s: listening on %s\n", PROG, listeners_get0_text(s->listeners, i));
        for (size_t i = 0; s->hooked && (text = mtls_ssl_ctx_get0_listener(s->ctx, i)) != NULL; i++)
            fprintf(stderr, "%s: path 2 on %s\n", PROG, text);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", "listening");
    json_open(&j, "listen", '[');
    for (size_t i = 0; i < listeners_count(s->listeners); i++)
        json_string(&j, NULL, listeners_get0_text(s->listeners, i));
    json_close(&j, ']');
    json_open(&j, "path2", '[');
    for (size_t i = 0; s->hooked && (text = mtls_ssl_ctx_get0_listener(s->ctx, i)) != NULL; i++)
        json_string(&j, NULL, text);
    json_close(&j, ']');
    output_json(json_end(&j));
}

void server_session_gone(struct server *s)
{
    if (s->draining && s->session_count == 0)
        ev_break(s->loop, EVBREAK_ALL);
    else if (!s->draining && s->session_count < s->config.max_connections)
        listeners_run(s->listeners, true);
}

static void on_drained(struct ev_loop *loop, ev_timer *w, int events)
{
    ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
    static ev_timer limit;
    struct server *s = w->data;

    if (s->draining) { /* asked twice: at once */
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    s->draining = true;
    listeners_free(s->listeners);
    s->listeners = NULL;
    ev_timer_init(&limit, on_drained, (double)s->config.drain_s, 0.);
    ev_timer_start(loop, &limit);
    server_sessions_drain(s);
    server_session_gone(s);
}

/* A file that cannot be read leaves what was there in use. */
static void on_reload(struct ev_loop *loop, ev_signal *w, int events)
{
    struct server *s = w->data;

    if (load_files(s) == 0)
        output_message(&s->out, "reloaded", "certificate and keys were loaded again");
    else
        output_message(&s->out, "error",
                       "certificate and keys were not loaded again; the old ones stay");
}

static void run(struct server *s)
{
    ev_signal term, interrupt, hangup;

    ev_signal_init(&term, on_stop, SIGTERM);
    ev_signal_init(&interrupt, on_stop, SIGINT);
    ev_signal_init(&hangup, on_reload, SIGHUP);
    term.data = interrupt.data = hangup.data = s;
    ev_signal_start(s->loop, &term);
    ev_signal_start(s->loop, &interrupt);
    ev_signal_start(s->loop, &hangup);
    listeners_run(s->listeners, true);
    announce(s);
    ev_run(s->loop, 0);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    struct server *s = &server;
    int rv = EXIT_USAGE;

    s->www_root = -1;
    complain_mode(argc, argv);
    switch (server_config_parse(&s->config, argc, argv)) {
    case SERVER_CONFIG_HELP:
        return EXIT_FINE;
    case SERVER_CONFIG_BAD:
        return EXIT_USAGE;
    default:
        break;
    }
    s->out = (struct output){.prog = PROG, .json = s->config.json};
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    s->loop = ev_loop_new(EVFLAG_AUTO);
    if (s->loop != NULL && setup_service(s) == 0 && setup_tls(s) == 0 && setup_listeners(s) == 0) {
        run(s);
        rv = EXIT_FINE;
    }
    server_sessions_free(s);
    listeners_free(s->listeners);
    SSL_CTX_free(s->ctx);
    if (s->www_root >= 0)
        close(s->www_root);
    if (s->loop != NULL) {
        linger_end_all(s->loop);
        ev_loop_destroy(s->loop);
    }
    return rv;
}
