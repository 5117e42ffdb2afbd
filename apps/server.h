/* mtls-server's insides: the configuration of its command line, the server, its sessions. */
#ifndef APPS_SERVER_H
#define APPS_SERVER_H

#include <ev.h>

#include "addr.h"
#include "listener.h"
#include "report.h"
#include "tls_conn.h"
#include "tls_setup.h"

enum service { SERVICE_NONE, SERVICE_WWW, SERVICE_FORWARD, SERVICE_ECHO };

struct server_config {
    const char *listen[LISTENER_MAX];
    size_t listen_count;
    const char *cert, *key, *client_ca, *ticket_key, *www;
    struct host_port forward;
    enum service service;
    struct words words; /* for mtls_ssl_ctx_hook() */
    uint8_t alpn[ALPN_WIRE_MAX];
    int alpn_len;
    unsigned long deadline_ms, max_connections, idle_s, drain_s;
    bool json, verbose;
};

enum server_config_result {
    SERVER_CONFIG_RUN,
    SERVER_CONFIG_HELP, /* printed: exit 0 */
    SERVER_CONFIG_BAD   /* said why: exit 1 */
};

enum server_config_result server_config_parse(struct server_config *config, int argc, char **argv);

struct server_session;

struct server {
    struct server_config config;
    struct output out;
    struct ev_loop *loop;
    SSL_CTX *ctx;
    bool hooked;
    struct listeners *listeners;
    int www_root;
    struct addr_name backend;
    struct server_session *sessions; /* all of them */
    size_t session_count;
    bool draining;
};

/* listener_accept: arg is the server. */
void server_session_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t len);
/* No new work: each session ends when what it is doing is done. */
void server_sessions_drain(struct server *s);
void server_sessions_free(struct server *s);
/* Called after a session is gone. */
void server_session_gone(struct server *s);

#endif
