/* The clients' insides: the configuration of the command line, the client, its connections, and
 * what the protocol brings. */
#ifndef APPS_CLIENT_H
#define APPS_CLIENT_H

#include <ev.h>

#include <openssl/ssl.h>

#include "addr.h"
#include "listener.h"
#include "report.h"
#include "tls_conn.h"
#include "tls_setup.h"

#define CLIENT_PATHS    8
#define CLIENT_JOBS_MAX 64
#define CLIENT_TARGETS  256 /* of check, on the command line */

enum client_mode {
    CLIENT_PIPE,
    CLIENT_GET,
    CLIENT_HEAD,
    CLIENT_FORWARD,
    CLIENT_FORGET,
    CLIENT_CHECK
};

struct client_config {
    enum client_mode mode;
    struct host_port server;
    const char *servername; /* for SNI and the certificate; NULL: the server's address is checked */
    const char *get;        /* path of --get or --head */
    const char *forward;    /* where to listen */
    const char *peers;      /* smkexize's file: what became of the connections of --forward */
    const char *cafile, *capath, *cert, *key, *sess_in, *sess_out, *hosts;
    const char *device;
    struct addr local, connect;
    bool mptcp, has_local, has_connect, no_verify;
    bool expose_request; /* confirm=resume: --get leaves before the verdict */
    const char *paths[CLIENT_PATHS];
    size_t path_count;
    struct words words; /* the library's configuration */
    uint8_t alpn[ALPN_WIRE_MAX];
    int alpn_len;
    int family;
    unsigned long deadline_ms, timeout_s, idle_s;
    bool json, verbose;
    const char *targets[CLIENT_TARGETS], *check_file; /* check */
    size_t target_count;
    unsigned long jobs;
};

/* What a handshake may take beyond the deadline of the verification. */
enum { CLIENT_HANDSHAKE_EXTRA_MS = 5000 };

enum client_config_result { CLIENT_CONFIG_RUN, CLIENT_CONFIG_HELP, CLIENT_CONFIG_BAD };

enum client_config_result client_config_parse(struct client_config *config, int argc, char **argv);
struct options;
/* What both clients' flags do, client_target.c: 0, or -1 after a message. */
void client_defaults(struct client_config *config);
int client_set_request(struct client_config *config, const char *prog, enum client_mode mode,
                       const char *value);
int client_set_forward(struct client_config *config, const char *prog, const char *value);
int client_add_path(struct client_config *config, const char *prog, const char *value);
int client_set_address(struct addr *addr, const char *prog, const char *name, const char *value);
int client_set_device(struct client_config *config, const char *prog, const char *value);
int client_set_family(struct client_config *config, const char *prog, int family);
int client_check_addresses(const struct client_config *config, const char *prog);
/* HOST:PORT, or forget HOST:PORT. 0, or -1 after a message; so too the next. */
int client_target_parse(struct client_config *config, const struct options *o);
/* The --path2 words; once HOST is known. */
int client_paths_add(struct client_config *config, const char *prog);

struct client_session;

struct client {
    struct client_config config;
    struct output out;
    struct ev_loop *loop;
    SSL_CTX *ctx;            /* mtls-client */
    SSL_SESSION *resume;     /* offered by every connection, or NULL */
    struct smkex_ctx *smkex; /* smkex-client */
    bool hooked;             /* TLS: by the library, or confirmed by it; SMKEX: always */
    int confirm;             /* TLS: enum mtls_confirm_mode */
    struct addr_name server;
    struct listeners *listeners;   /* --forward */
    struct smkexize_shared *peers; /* or NULL */
    struct client_session *sessions;
    size_t session_count;
    char *late_json; /* a downgrade that was found out after the fact, or NULL */
    int exit_code;
    bool stopping;
};

/* ---- The protocol: client_tls.c, client_smkex.c; options: client_options.c,
 * smkex_client_options.c */

extern const char client_prog[];        /* the program's name */
extern const unsigned client_http_port; /* that the Host field leaves out */
/* A command of the protocol's own that connects to nobody: true and *rv, the exit code. */
bool client_protocol_command(int argc, char **argv, int *rv);
/* 0, or -1 after a message. */
int client_protocol_setup(struct client *c);
void client_protocol_free(struct client *c);
int client_protocol_forget(const struct client_config *config);
/* CLIENT_CHECK: the exit code. */
int client_protocol_check(struct client *c);
/* A connection is about to be made. */
void client_protocol_announce(struct client *c);
/* Before connect(): path 2's network must not pull path 1 over. */
void client_protocol_pin(void *arg, int fd, const struct addr *to);
/* NULL: out of memory, or nothing can come of it. fd stays the caller's. */
struct link *client_protocol_open(struct client *c, int fd);
/* After the handshake, before any data: 0 go on; 1: leave the link alone until done is called from
 * the loop (why NULL: go on); -1: it is not to be used, *why says. */
typedef void client_confirmed(void *arg, const struct tls_failure *why);
int client_protocol_confirm(struct client *c, struct link *link, client_confirmed *done, void *arg,
                            struct tls_failure *why);
/* After TLS_FAILURE_RECONNECT: 0 or -1. */
int client_protocol_reopen(struct client *c, struct link *link, int fd);

/* The server's name, for the protocol. */
const char *client_host_name(const struct client *c);
/* Begins a connection to the server. plain_fd: the local side of --forward, taken; -1 otherwise. */
int client_session_start(struct client *c, int plain_fd, const char *peer);
void client_sessions_free(struct client *c);
/* Called after a session is gone. */
void client_session_gone(struct client *c);
/* Tells that a plain session turned out to be a downgrade: every connection ends. */
void client_sessions_abort(struct client *c, const char *why);

#endif
