/* mtls-client's insides: the configuration of its command line, the client, its connections. */
#ifndef APPS_CLIENT_H
#define APPS_CLIENT_H

#include <ev.h>

#include "addr.h"
#include "listener.h"
#include "report.h"
#include "tls_conn.h"
#include "tls_setup.h"

#define CLIENT_PATHS 8

enum client_mode { CLIENT_PIPE, CLIENT_GET, CLIENT_HEAD, CLIENT_FORWARD, CLIENT_FORGET };

struct client_config {
    enum client_mode mode;
    struct host_port server;
    const char *servername; /* for SNI and the certificate; NULL: the server's address is checked */
    const char *get;        /* path of --get or --head */
    const char *forward;    /* where to listen */
    const char *cafile, *capath, *cert, *key, *sess_in, *sess_out, *hosts;
    const char *device;
    struct addr local, connect;
    bool has_local, has_connect, no_verify;
    const char *paths[CLIENT_PATHS];
    size_t path_count;
    struct words words; /* for mtls_ssl_ctx_hook() */
    uint8_t alpn[ALPN_WIRE_MAX];
    int alpn_len;
    int family;
    unsigned long deadline_ms, timeout_s, idle_s;
    bool json, verbose;
};

enum client_config_result { CLIENT_CONFIG_RUN, CLIENT_CONFIG_HELP, CLIENT_CONFIG_BAD };

enum client_config_result client_config_parse(struct client_config *config, int argc, char **argv);

struct client_session;

struct client {
    struct client_config config;
    struct output out;
    struct ev_loop *loop;
    SSL_CTX *ctx;
    SSL_SESSION *resume; /* offered by every connection, or NULL */
    bool hooked;
    struct addr_name server;
    struct listeners *listeners; /* --forward */
    struct client_session *sessions;
    size_t session_count;
    char *late_json; /* a downgrade that was found out after the fact, or NULL */
    int exit_code;
    bool stopping;
};

/* Begins a connection to the server. plain_fd: the local side of --forward, taken; -1 otherwise. */
int client_session_start(struct client *c, int plain_fd, const char *peer);
void client_sessions_free(struct client *c);
/* Called after a session is gone. */
void client_session_gone(struct client *c);
/* Tells that a plain session turned out to be a downgrade: every connection ends. */
void client_sessions_abort(struct client *c, const char *why);

#endif
