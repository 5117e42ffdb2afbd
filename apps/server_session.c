/* One accepted connection: handshake, report, then the service. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connector.h"
#include "relay.h"
#include "server.h"
#include "smkex/preload/rules.h"
#include "www.h"

#define BACKEND_CONNECT_SECONDS 10.0
#define HANDSHAKE_EXTRA_MS      5000 /* beyond the deadline of the verification */

struct server_session {
    struct server *server;
    struct server_session *prev, *next;
    struct tls_conn *conn;
    char peer[ADDR_TEXT];
    struct addr from;
    bool ready;
    struct www *www;
    struct connector *connector; /* to the backend */
    struct relay *relay;
};

static void session_free(struct server_session *ss, bool clean)
{
    struct server *s = ss->server;

    www_free(ss->www);
    connector_cancel(ss->connector);
    relay_free(ss->relay, clean);
    tls_conn_free(ss->conn);
    if (ss->prev != NULL)
        ss->prev->next = ss->next;
    else
        s->sessions = ss->next;
    if (ss->next != NULL)
        ss->next->prev = ss->prev;
    free(ss);
    s->session_count--;
}

static void report(struct server_session *ss, const struct tls_failure *why)
{
    const struct output *o = &ss->server->out;
    struct report r = {.event = "session",
                       .peer = ss->peer,
                       .link = tls_conn_get0_link(ss->conn),
                       .hooked = ss->server->hooked,
                       .ready = ss->ready};
    bool refused;

    if (why != NULL) {
        r.reason = report_reason(why);
        r.message = why->text;
        r.code = why->code;
    }
    refused = ss->ready || report_exit(&r) == EXIT_VERIFY;
    if (!refused)
        r.event =
            "error"; /* not a session: a scanner, a client that trusts another authority, ... */
    if (o->json)
        output_json(report_json(&r));
    else if (ss->ready ? ss->server->config.verbose : true)
        report_line(o, &r);
}

static void on_backend(void *arg, int fd, const char *error)
{
    struct server_session *ss = arg;

    ss->connector = NULL;
    if (fd < 0) {
        output_message(&ss->server->out, "error", "backend %s", error);
        tls_conn_abort(ss->conn, "backend cannot be reached");
        return;
    }
    ss->relay = relay_new(ss->conn, fd, fd);
    if (ss->relay == NULL) {
        close(fd);
        tls_conn_abort(ss->conn, "out of memory");
        return;
    }
    relay_progress(ss->relay);
}

/* Behind which port the backend finds whom, before it can see the connection. */
static void note_peer(void *arg, int fd, const struct addr *to)
{
    struct server_session *ss = arg;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct smkexize_peer *p;
    socklen_t len = sizeof own;

    if (to->sa.ss_family != AF_INET || bind(fd, (struct sockaddr *)&own, sizeof own) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return;
    p = &ss->server->peers->peer[ntohs(own.sin_port)];
    p->family = ss->from.sa.ss_family;
    if (p->family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&ss->from.sa;

        p->port = in->sin_port;
        memcpy(p->addr, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in = (const void *)&ss->from.sa;

        p->port = in->sin6_port;
        memcpy(p->addr, &in->sin6_addr, 16);
    }
}

static bool start_service(struct server_session *ss)
{
    struct server *s = ss->server;
    struct connector_params params = {.timeout_s = BACKEND_CONNECT_SECONDS,
                                      .prepare = s->peers != NULL ? note_peer : NULL,
                                      .prepare_arg = ss};

    switch (s->config.service) {
    case SERVICE_WWW:
        return (ss->www = www_new(ss->conn, s->www_root)) != NULL;
    case SERVICE_FORWARD:
        addr_name_refresh(&s->backend, ev_now(s->loop));
        ss->connector = connector_start(s->loop, &s->backend.list, &params, on_backend, ss);
        return ss->connector != NULL;
    default:
        return true;
    }
}

static void on_ready(void *arg)
{
    struct server_session *ss = arg;

    ss->ready = true;
    report(ss, NULL);
    if (!start_service(ss))
        tls_conn_abort(ss->conn, "out of memory");
}

static void echo_progress(struct tls_conn *c)
{
    struct buf *in = tls_conn_in(c), *out = tls_conn_out(c);
    size_t len = buf_len(in) < buf_space(out) ? buf_len(in) : buf_space(out);

    if (len > 0 && buf_put(out, buf_head(in), len) == 0) {
        buf_consume(in, len);
        tls_conn_kick(c);
    }
    if (buf_len(in) == 0 && tls_conn_eof(c))
        tls_conn_shutdown_write(c);
}

static void on_progress(void *arg)
{
    struct server_session *ss = arg;

    if (ss->www != NULL)
        www_progress(ss->www);
    else if (ss->relay != NULL)
        relay_progress(ss->relay);
    else if (ss->server->config.service == SERVICE_ECHO)
        echo_progress(ss->conn);
}

static void on_closed(void *arg, const struct tls_failure *why)
{
    struct server_session *ss = arg;
    struct server *s = ss->server;

    if (!ss->ready)
        report(ss, why);
    else if (why != NULL && s->config.verbose)
        output_message(&s->out, "closed", "%s: %s", ss->peer, why->text);
    session_free(ss, why == NULL);
    server_session_gone(s);
}

static const struct tls_conn_ops ops = {on_ready, on_progress, on_closed};

void server_session_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t len)
{
    struct server *s = arg;
    int is = server_protocol_path2(s, fd);

    if (is == 0 || (is < 0 && !server_waiting_add(s, fd, peer, len)))
        server_session_new(s, fd, peer, len);
}

void server_session_new(struct server *s, int fd, const struct sockaddr *peer, socklen_t len)
{
    struct server_session *ss = calloc(1, sizeof *ss);
    struct link *link = server_protocol_accept(s, fd);
    struct tls_conn_limits limits = {
        .handshake_s = (double)(s->config.deadline_ms + HANDSHAKE_EXTRA_MS) / 1000.,
        .idle_s = (double)s->config.idle_s,
    };

    if (ss == NULL || link == NULL) {
        free(ss);
        link_free(link);
        close(fd);
        return;
    }
    ss->server = s;
    addr_text(peer, len, ss->peer);
    memcpy(&ss->from.sa, peer, len < sizeof ss->from.sa ? len : sizeof ss->from.sa);
    ss->from.len = len;
    ss->conn = tls_conn_new(s->loop, link, fd, &limits, &ops, ss);
    if (ss->conn == NULL) {
        free(ss);
        return;
    }
    ss->next = s->sessions;
    if (ss->next != NULL)
        ss->next->prev = ss;
    s->sessions = ss;
    if (++s->session_count >= s->config.max_connections)
        listeners_run(s->listeners, false);
}

void server_sessions_drain(struct server *s)
{
    struct server_session *next;

    for (struct server_session *ss = s->sessions; ss != NULL; ss = next) {
        next = ss->next; /* www_drain() may end ss, and no other */
        if (ss->www != NULL)
            www_drain(ss->www);
    }
}

void server_sessions_free(struct server *s)
{
    while (s->sessions != NULL)
        session_free(s->sessions, false);
}
