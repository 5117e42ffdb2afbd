/* mtls-client: a TLS client whose handshakes are confirmed over a second network path. Pipes
 * standard input and output, fetches a file, or carries a local port's connections. One thread, one
 * event loop. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <mtls/mtls.h>

#include "complain.h"
#include "client.h"
#include "linger.h"
#include "options.h"

#define PROG             "mtls-client"
#define SESSION_LINE_MAX 4096

/* What the library's thread hands over when a plain session turns out to be a downgrade. */
static struct {
    pthread_mutex_t lock;
    char *json;
    struct ev_loop *loop;
    ev_async wake;
} late = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *sess_out;

static void on_outcome(SSL *ssl, enum mtls_outcome outcome, int reason, const char *json, void *arg)
{
    if (ssl != NULL || outcome != MTLS_OUTCOME_FAILED)
        return;
    pthread_mutex_lock(&late.lock);
    if (late.json == NULL)
        late.json = strdup(json);
    pthread_mutex_unlock(&late.lock);
    ev_async_send(late.loop, &late.wake);
}

static void on_late(struct ev_loop *loop, ev_async *w, int events)
{
    struct client *c = w->data;

    pthread_mutex_lock(&late.lock);
    c->late_json = late.json;
    pthread_mutex_unlock(&late.lock);
    c->exit_code = EXIT_VERIFY;
    output_message(&c->out, "error", "%s", mtls_error_string(MTLS_ERR_DOWNGRADE_LATE));
    client_sessions_abort(c, mtls_error_string(MTLS_ERR_DOWNGRADE_LATE));
}

/* The newest session replaces the file's content as a whole: a reader never sees half of one. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    char temp[SESSION_LINE_MAX];
    int fd, len = snprintf(temp, sizeof temp, "%s.XXXXXX", sess_out);
    FILE *f;
    bool ok;

    if (len < 0 || (size_t)len >= sizeof temp || (fd = mkostemp(temp, O_CLOEXEC)) < 0) {
        complain_warning(PROG, "--sess-out %s: %s", sess_out, strerror(errno));
        return 0;
    }
    if ((f = fdopen(fd, "w")) == NULL) {
        close(fd);
        unlink(temp);
        return 0;
    }
    ok = PEM_write_SSL_SESSION(f, session) == 1;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(temp, sess_out) < 0) {
        complain_warning(PROG, "--sess-out %s: %s", sess_out, strerror(errno));
        unlink(temp);
    }
    return 0;
}

/* Told before anything is sent: later it would cost a connection. */
static int check_sess_out(void)
{
    char folder[SESSION_LINE_MAX];
    const char *slash = strrchr(sess_out, '/');
    int len = snprintf(folder, sizeof folder, "%.*s.",
                       slash != NULL ? (int)(slash + 1 - sess_out) : 0, sess_out);

    if (len < 0 || (size_t)len >= sizeof folder) {
        complain(PROG, "--sess-out: too long");
        return -1;
    }
    if (access(folder, W_OK | X_OK) == 0)
        return 0;
    complain(PROG, "--sess-out %s: %s", sess_out, strerror(errno));
    return -1;
}

static int load_session(struct client *c)
{
    FILE *f = fopen(c->config.sess_in, "re");

    if (f == NULL) {
        complain(PROG, "--sess-in %s: %s", c->config.sess_in, strerror(errno));
        return -1;
    }
    c->resume = PEM_read_SSL_SESSION(f, NULL, NULL, NULL);
    fclose(f);
    return c->resume != NULL ? 0 : tls_setup_error(PROG, c->config.sess_in);
}

static int setup_trust(const struct client_config *c, SSL_CTX *ctx)
{
    if (c->no_verify) {
        complain_warning(PROG,
                         "--unsafe-no-verify: the server's certificate is NOT checked; anybody "
                         "on path 1 can be the server");
        return 0;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (c->cafile == NULL && c->capath == NULL)
        return SSL_CTX_set_default_verify_paths(ctx) == 1
                   ? 0
                   : tls_setup_error(PROG, "system's authorities");
    if (c->cafile != NULL && SSL_CTX_load_verify_file(ctx, c->cafile) != 1)
        return tls_setup_error(PROG, c->cafile);
    if (c->capath != NULL && SSL_CTX_load_verify_dir(ctx, c->capath) != 1)
        return tls_setup_error(PROG, c->capath);
    return 0;
}

static int setup_hook(struct client *c)
{
    if (mtls_ssl_ctx_hook(c->ctx, c->config.words.text) != 1)
        return tls_setup_error(PROG, "Multipath TLS");
    c->hooked = mtls_ssl_ctx_is_hooked(c->ctx) == 1;
    /* Whoever names a memory wants its hosts verified, not plain TLS without a word. */
    if (!c->hooked && c->config.hosts != NULL && strstr(c->config.words.text, "policy=") == NULL)
        return usage_error(PROG, "--hosts needs --path2 or --policy");
    late.loop = c->loop;
    ev_async_init(&late.wake, on_late);
    late.wake.data = c;
    ev_async_start(c->loop, &late.wake);
    ev_unref(c->loop); /* it alone does not keep the loop running */
    if (c->hooked && mtls_ssl_ctx_set_outcome_callback(c->ctx, on_outcome, NULL) != 1)
        return tls_setup_error(PROG, "Multipath TLS");
    return 0;
}

static int setup_tls(struct client *c)
{
    const struct client_config *config = &c->config;

    c->ctx = SSL_CTX_new(TLS_client_method());
    if (c->ctx == NULL)
        return tls_setup_error(PROG, "SSL_CTX_new");
    SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    if (setup_trust(config, c->ctx) < 0 || tls_setup_keylog(c->ctx, PROG) < 0)
        return -1;
    if (config->cert != NULL && tls_setup_certificate(c->ctx, PROG, config->cert, config->key) < 0)
        return -1;
    if (config->sess_in != NULL && load_session(c) < 0)
        return -1;
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
    if (config->sess_out != NULL) {
        sess_out = config->sess_out;
        if (check_sess_out() < 0)
            return -1;
        SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(c->ctx, on_new_session);
    }
    return setup_hook(c);
}

/* Where path 1 goes. A failed look-up is the session's failure, and reported as such. */
static int find_server(struct client *c)
{
    const struct client_config *config = &c->config;
    char peer[300];
    const char *why;

    c->server.hp = config->server;
    c->server.family = config->family;
    c->server.looked_up_at = ev_now(c->loop);
    if (config->has_connect) {
        c->server.hp.family = config->connect.sa.ss_family; /* not to be looked up later either */
        c->server.list.at[0] = config->connect;
        addr_set_port(&c->server.list.at[0], config->server.port);
        c->server.list.count = 1;
        return 0;
    }
    if (addr_lookup(config->server.host, config->server.port, config->family,
                    (unsigned)config->timeout_s * 1000, &c->server.list, &why) == 0)
        return 0;
    if (!c->out.json) {
        complain(PROG, "%s: %s", config->server.host, why);
        return -1;
    }
    snprintf(peer, sizeof peer, "%s:%u", config->server.host, config->server.port);
    output_json(report_json(
        &(struct report){.event = "result", .peer = peer, .reason = "look-up", .message = why}));
    return -1;
}

static void on_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t len)
{
    struct client *c = arg;
    char text[ADDR_TEXT];

    addr_text(peer, len, text);
    if (client_session_start(c, fd, text) < 0)
        close(fd);
}

void client_session_gone(struct client *c)
{
    if (c->config.mode != CLIENT_FORWARD || (c->stopping && c->session_count == 0))
        ev_break(c->loop, EVBREAK_ALL);
}

static int start_forward(struct client *c)
{
    const char *why = "out of memory";
    struct json j;

    c->listeners = listeners_new(c->loop, on_accept, c);
    if (c->listeners == NULL || listeners_add(c->listeners, c->config.forward, &why) < 0) {
        complain(PROG, "--forward %s: %s", c->config.forward, why);
        return -1;
    }
    listeners_run(c->listeners, true);
    if (!c->out.json) {
        fprintf(stderr, "%s: listening on %s\n", PROG, listeners_get0_text(c->listeners, 0));
        return 0;
    }
    json_begin(&j);
    json_string(&j, "event", "listening");
    json_open(&j, "listen", '[');
    json_string(&j, NULL, listeners_get0_text(c->listeners, 0));
    json_close(&j, ']');
    output_json(json_end(&j));
    return 0;
}

/* --forward: no new connections, the open ones may end; asked twice: at once. */
static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
    struct client *c = w->data;

    if (c->stopping || c->session_count == 0)
        ev_break(loop, EVBREAK_ALL);
    c->stopping = true;
    listeners_free(c->listeners);
    c->listeners = NULL;
}

static int run(struct client *c)
{
    static ev_signal term, interrupt;

    if (c->config.mode == CLIENT_FORWARD) {
        ev_signal_init(&term, on_stop, SIGTERM);
        ev_signal_init(&interrupt, on_stop, SIGINT);
        term.data = interrupt.data = c;
        ev_signal_start(c->loop, &term);
        ev_signal_start(c->loop, &interrupt);
        if (start_forward(c) < 0)
            return EXIT_USAGE;
    } else if (client_session_start(c, -1, "") < 0) {
        complain(PROG, "out of memory");
        return EXIT_NETWORK;
    }
    ev_run(c->loop, 0);
    return c->exit_code;
}

static int forget(const struct client_config *config)
{
    if (mtls_forget_host(config->hosts, config->server.host, config->server.port) != 1) {
        tls_setup_error(PROG, config->hosts);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

int main(int argc, char **argv)
{
    static struct client client;
    struct client *c = &client;
    int rv = EXIT_USAGE;

    complain_mode(argc, argv);
    switch (client_config_parse(&c->config, argc, argv)) {
    case CLIENT_CONFIG_HELP:
        return EXIT_FINE;
    case CLIENT_CONFIG_BAD:
        return EXIT_USAGE;
    default:
        break;
    }
    if (c->config.mode == CLIENT_FORGET)
        return forget(&c->config);
    c->out = (struct output){.prog = PROG,
                             .json = c->config.json,
                             .picture = c->config.verbose || isatty(STDERR_FILENO)};
    signal(SIGPIPE, SIG_IGN);
    c->loop = ev_loop_new(EVFLAG_AUTO);
    if (c->loop != NULL && setup_tls(c) == 0)
        rv = find_server(c) < 0 ? EXIT_NETWORK : run(c);
    client_sessions_free(c);
    listeners_free(c->listeners);
    SSL_SESSION_free(c->resume);
    SSL_CTX_free(c->ctx);
    if (c->loop != NULL) {
        linger_end_all(c->loop);
        ev_loop_destroy(c->loop);
    }
    free(late.json);
    return rv;
}
