/* The servers' insides: the configuration of the command line, the server, its sessions, and what
 * the protocol brings. */
#ifndef APPS_SERVER_H
#define APPS_SERVER_H

#include <ev.h>

#include <openssl/ssl.h>

#include "addr.h"
#include "listener.h"
#include "report.h"
#include "tls_conn.h"
#include "tls_setup.h"

enum service { SERVICE_NONE, SERVICE_WWW, SERVICE_FORWARD, SERVICE_ECHO };

struct server_config {
    const char *listen[LISTENER_MAX];
    size_t listen_count;
    const char *peers; /* smkexize's file: who is behind a connection to the backend */
    const char *cert, *key, *client_ca, *ticket_key, *www;
    struct host_port forward;
    enum service service;
    struct words words; /* the library's configuration */
    uint8_t alpn[ALPN_WIRE_MAX];
    int alpn_len;
    unsigned long deadline_ms, max_connections, idle_s, drain_s;
    bool json, verbose, mptcp;
};

enum server_config_result {
    SERVER_CONFIG_RUN,
    SERVER_CONFIG_HELP, /* printed: exit 0 */
    SERVER_CONFIG_BAD   /* said why: exit 1 */
};

enum server_config_result server_config_parse(struct server_config *config, int argc, char **argv);

/* What both servers' flags do, server_flags.c: 0, or -1 after a message. */
void server_defaults(struct server_config *config);
int server_add_listener(struct server_config *config, const char *prog, const char *value);
int server_set_service(struct server_config *config, const char *prog, enum service wanted);
int server_set_forward(struct server_config *config, const char *prog, const char *value);

struct server_session;

struct server {
    struct server_config config;
    struct output out;
    struct ev_loop *loop;
    SSL_CTX *ctx;            /* mtls-server */
    struct smkex_ctx *smkex; /* smkex-server */
    bool hooked;             /* TLS: by the library; SMKEX: always */
    struct listeners *listeners;
    int www_root;
    struct smkexize_shared *peers; /* or NULL */
    struct addr_name backend;
    struct server_session *sessions; /* all of them */
    size_t session_count;
    struct server_waiting *waiting; /* server_waiting.c */
    size_t waiting_count;
    bool draining;
};

/* ---- The protocol: server_tls.c, server_smkex.c; options: server_options.c,
 * smkex_server_options.c */

extern const char server_prog[]; /* the program's name */
/* 0, or -1 after a message. */
int server_protocol_setup(struct server *s);
/* SIGHUP: certificates and keys anew; -1: the old ones stay. */
int server_protocol_reload(struct server *s);
void server_protocol_free(struct server *s);
/* Path 2's real listening addresses; NULL beyond the last. */
const char *server_protocol_listener(const struct server *s, size_t index);
/* Whether an accepted socket is path 2's: 1: it was, and is taken; 0: no; -1: nothing has come yet.
 */
int server_protocol_path2(struct server *s, int fd);
/* A link over an accepted socket, which stays the caller's; NULL: out of memory. */
struct link *server_protocol_accept(struct server *s, int fd);

/* listener_accept: arg is the server. */
void server_session_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t len);
void server_session_new(struct server *s, int fd, const struct sockaddr *peer, socklen_t len);
/* Keeps an accepted socket until its first byte shows what it is; false: no room. */
bool server_waiting_add(struct server *s, int fd, const struct sockaddr *peer, socklen_t len);
void server_waiting_free(struct server *s);
/* No new work: each session ends when what it is doing is done. */
void server_sessions_drain(struct server *s);
void server_sessions_free(struct server *s);
/* Called after a session is gone. */
void server_session_gone(struct server *s);

#endif
