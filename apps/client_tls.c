/* mtls-client's protocol: TLS by libssl, hooked. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <mtls/mtls.h>

#include "client.h"
#include "client_check.h"
#include "client_tls_confirm.h"
#include "complain.h"
#include "link_ssl.h"
#include "options.h"
#include "tls_setup.h"

#define PROG             "mtls-client"
#define SESSION_LINE_MAX 4096

const char client_prog[] = PROG;
const unsigned client_http_port = 443;

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
void client_tls_keep(SSL_SESSION *session)
{
    char temp[SESSION_LINE_MAX];
    int fd, len = sess_out != NULL ? snprintf(temp, sizeof temp, "%s.XXXXXX", sess_out) : 0;
    FILE *f;
    bool ok;

    if (sess_out == NULL)
        return;
    if (len < 0 || (size_t)len >= sizeof temp || (fd = mkostemp(temp, O_CLOEXEC)) < 0) {
        complain_warning(PROG, "--sess-out %s: %s", sess_out, strerror(errno));
        return;
    }
    if ((f = fdopen(fd, "w")) == NULL) {
        close(fd);
        unlink(temp);
        return;
    }
    ok = PEM_write_SSL_SESSION(f, session) == 1;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(temp, sess_out) < 0) {
        complain_warning(PROG, "--sess-out %s: %s", sess_out, strerror(errno));
        unlink(temp);
    }
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    client_tls_keep(session);
    return 0;
}

/* Before a verdict no ticket is kept; after it they carry its record. */
static int on_recorded_session(SSL *ssl, SSL_SESSION *session)
{
    void *data = NULL;
    size_t len = 0;

    if (SSL_SESSION_get0_ticket_appdata(session, &data, &len) == 1 && len > 0)
        client_tls_keep(session);
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
    struct words words = c->config.words;

    if (client_tls_confirm_setup(c, &words) < 0)
        return -1;
    if (c->confirm != MTLS_CONFIRM_RESUME && mtls_ssl_ctx_hook(c->ctx, words.text) != 1)
        return tls_setup_error(PROG, "Multipath TLS");
    c->hooked = c->confirm == MTLS_CONFIRM_RESUME || mtls_ssl_ctx_is_hooked(c->ctx) == 1;
    /* Whoever names a memory wants its hosts verified, not plain TLS without a word. */
    if (!c->hooked && c->config.hosts != NULL && strstr(c->config.words.text, "policy=") == NULL)
        return usage_error(PROG, "--hosts needs --path2 or --policy");
    late.loop = c->loop;
    ev_async_init(&late.wake, on_late);
    late.wake.data = c;
    ev_async_start(c->loop, &late.wake);
    ev_unref(c->loop); /* it alone does not keep the loop running */
    if (mtls_ssl_ctx_is_hooked(c->ctx) == 1 &&
        mtls_ssl_ctx_set_outcome_callback(c->ctx, on_outcome, NULL) != 1)
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
    }
    if (setup_hook(c) < 0)
        return -1;
    if (sess_out != NULL)
        SSL_CTX_sess_set_new_cb(c->ctx, c->confirm == MTLS_CONFIRM_EXPORTER ? on_new_session
                                                                            : on_recorded_session);
    return 0;
}

/* SNI and whom the certificate must name. */
static int set_names(const struct client *c, SSL *ssl)
{
    struct addr literal;

    if (addr_parse(client_host_name(c), 0, &literal) == 0)
        return c->config.no_verify ||
               X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), client_host_name(c)) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!c->config.no_verify &&
        X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), client_host_name(c), 0) != 1)
        return 0;
    return SSL_set_tlsext_host_name(ssl, client_host_name(c)) == 1;
}

/* A literal is never SNI: the library hears of it otherwise, for its records. */
static int tell_literal(const struct client *c, SSL *ssl)
{
    struct addr literal;

    return mtls_ssl_ctx_is_hooked(c->ctx) != 1 ||
           addr_parse(client_host_name(c), 0, &literal) != 0 ||
           mtls_set_name(ssl, client_host_name(c)) == 1;
}

SSL *client_tls_new(const struct client *c)
{
    SSL *ssl = SSL_new(c->ctx);

    if (ssl == NULL)
        return NULL;
    SSL_set_connect_state(ssl);
    if (!set_names(c, ssl) || !tell_literal(c, ssl) ||
        (c->resume != NULL && SSL_set_session(ssl, c->resume) != 1) ||
        (c->config.alpn_len > 0 &&
         SSL_set_alpn_protos(ssl, c->config.alpn, (unsigned)c->config.alpn_len) != 0)) {
        SSL_free(ssl);
        return NULL;
    }
    return ssl;
}

/* Where it is not permitted the library still judges. */
struct link *client_protocol_open(struct client *c, int fd)
{
    struct link *link;
    SSL *ssl;

    /* With --local the source may choose the route: only now. Its bound port is nobody else's. */
    if (c->hooked && c->config.device == NULL && c->config.has_local && mtls_pin_socket(fd) != 1)
        ERR_clear_error();
    ssl = client_tls_new(c);
    if (ssl == NULL) {
        ERR_clear_error();
        return NULL;
    }
    link = link_ssl_new(ssl, fd);
    if (link != NULL)
        client_tls_confirm_open(c, link);
    return link;
}

int client_protocol_reopen(struct client *c, struct link *link, int fd)
{
    return -1; /* TLS never asks for it */
}

void client_protocol_announce(struct client *c)
{
    if (c->confirm == MTLS_CONFIRM_RESUME)
        client_tls_confirm_announce(c);
    else if (c->hooked && mtls_announce(c->ctx, client_host_name(c), c->config.server.port) != 1)
        ERR_clear_error(); /* the handshake says what is wrong, if it matters to the policy */
}

/* Path 2's network must not pull path 1 over. Where it is not permitted the library still judges.
 * Before connect(): an unbound socket's overlooks our bound ones and takes their ports over. */
void client_protocol_pin(void *arg, int fd, const struct addr *to)
{
    if (mtls_pin_socket_to(fd, (const struct sockaddr *)&to->sa, to->len) != 1)
        ERR_clear_error();
}

int client_protocol_setup(struct client *c)
{
    return setup_tls(c);
}

void client_protocol_free(struct client *c)
{
    client_tls_confirm_free();
    SSL_SESSION_free(c->resume);
    SSL_CTX_free(c->ctx);
    free(late.json);
}

int client_protocol_check(struct client *c)
{
    return client_check(c);
}

int client_protocol_forget(const struct client_config *config)
{
    return mtls_forget_host(config->hosts, config->server.host, config->server.port) == 1
               ? 0
               : tls_setup_error(PROG, config->hosts);
}
