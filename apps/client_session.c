/* One connection of a client: connect, handshake, report, then what the mode is for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "client_outcome.h"
#include "connector.h"
#include "http_get.h"
#include "relay.h"

struct client_session {
    struct client *client;
    struct client_session *prev, *next;
    char peer[ADDR_TEXT]; /* --forward: who connected to us */
    int plain_fd;
    uint64_t start_us;
    struct connector *connector;
    struct tls_conn *conn;
    struct relay *relay;
    struct http_get *get;
    bool ready, shown;
    struct link *plain; /* waits for its second connection */
};

const char *client_host_name(const struct client *c)
{
    return c->config.servername != NULL ? c->config.servername : c->config.server.host;
}

static void session_free(struct client_session *cs, bool clean)
{
    struct client *c = cs->client;

    connector_cancel(cs->connector);
    http_get_free(cs->get);
    relay_free(cs->relay, clean);
    if (cs->plain_fd >= 0)
        close(cs->plain_fd);
    tls_conn_free(cs->conn);
    link_free(cs->plain);
    if (cs->prev != NULL)
        cs->prev->next = cs->next;
    else
        c->sessions = cs->next;
    if (cs->next != NULL)
        cs->next->prev = cs->prev;
    free(cs);
    c->session_count--;
}

/* reason NULL: nothing went wrong. */
static struct report make_report(const struct client_session *cs, const char *peer,
                                 const char *event)
{
    return (struct report){
        .event = event,
        .peer = peer,
        .link = cs->conn != NULL ? tls_conn_get0_link(cs->conn) : NULL,
        .hooked = cs->client->hooked,
        .ready = cs->ready,
    };
}

static void server_text(const struct client *c, char *out, size_t size)
{
    const struct host_port *hp = &c->config.server;

    snprintf(out, size, strchr(hp->host, ':') != NULL ? "[%s]:%u" : "%s:%u", hp->host, hp->port);
}

static void show(struct client_session *cs, struct report *r)
{
    const struct output *o = &cs->client->out;
    char server[300];

    server_text(cs->client, server, sizeof server);
    r->peer = cs->client->config.mode == CLIENT_FORWARD ? cs->peer : server;
    if (o->json) {
        output_json(report_json(r));
    } else if (!cs->shown || r->reason != NULL) {
        bool first = !cs->shown;

        if (o->picture && first)
            report_picture(r, cs->start_us);
        else if (r->reason != NULL)
            report_line(o, r);
        else
            report_plain(o, r);
        if (first && cs->client->config.hosts != NULL)
            report_memory(o, r, cs->client->config.hosts);
    }
    cs->shown = true;
}

static void end_session(struct client_session *cs, const char *reason, const char *message,
                        int code)
{
    struct client *c = cs->client;
    struct report r = make_report(cs, "", c->config.mode == CLIENT_FORWARD ? "session" : "result");
    enum exit_code rv;

    r.reason = reason;
    r.message = message;
    r.code = code;
    r.late_json = c->late_json;
    rv = report_exit(&r);
    if (c->config.mode != CLIENT_FORWARD || !cs->ready)
        show(cs, &r);
    if (c->config.mode != CLIENT_FORWARD || rv == EXIT_VERIFY)
        c->exit_code = c->exit_code == EXIT_FINE ? (int)rv : c->exit_code;
    if (!cs->ready)
        client_outcome_note(c, cs->plain_fd, reason != NULL ? reason : "closed", message);
    session_free(cs, reason == NULL);
    client_session_gone(c);
}

static int start_connect(struct client_session *cs);

/* The server does not speak it and the policy lets it pass: once more, in clear. */
static void connect_again(struct client_session *cs)
{
    cs->plain = tls_conn_take_link(cs->conn);
    tls_conn_free(cs->conn);
    cs->conn = NULL;
    if (start_connect(cs) < 0)
        end_session(cs, "local", "out of memory", 0);
}

static void on_closed(void *arg, const struct tls_failure *why)
{
    struct client_session *cs = arg;
    bool clean = why == NULL || (cs->ready && why->kind == TLS_FAILURE_NET);
    int status;
    char text[64];

    if (why != NULL && why->kind == TLS_FAILURE_RECONNECT) {
        connect_again(cs);
        return;
    }
    if (cs->get == NULL || !clean) {
        end_session(cs, why != NULL ? report_reason(why) : NULL, why != NULL ? why->text : NULL,
                    why != NULL ? why->code : 0);
        return;
    }
    status = http_get_end(cs->get, why == NULL);
    if (status == 0) {
        end_session(cs, "http", why != NULL ? why->text : "incomplete or malformed HTTP answer", 0);
    } else if (status / 100 != 2) {
        snprintf(text, sizeof text, "HTTP status %d", status);
        end_session(cs, "http", text, 0);
    } else {
        end_session(cs, NULL, NULL, 0);
    }
}

static void on_progress(void *arg)
{
    struct client_session *cs = arg;

    if (cs->get != NULL)
        http_get_progress(cs->get);
    else if (cs->relay != NULL)
        relay_progress(cs->relay);
}

/* The Host field: the port only where it is not HTTP's, or HTTPS's, own. */
static void host_field(const struct client *c, char *out, size_t size)
{
    const char *host = client_host_name(c);
    bool v6 = strchr(host, ':') != NULL;

    if (c->config.server.port == client_http_port)
        snprintf(out, size, v6 ? "[%s]" : "%s", host);
    else
        snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", host, c->config.server.port);
}

static bool start_mode(struct client_session *cs)
{
    const struct client_config *config = &cs->client->config;
    char host[300];

    switch (config->mode) {
    case CLIENT_GET:
    case CLIENT_HEAD:
        host_field(cs->client, host, sizeof host);
        cs->get =
            http_get_new(cs->conn, config->mode == CLIENT_HEAD, host, config->get, STDOUT_FILENO);
        return cs->get != NULL;
    case CLIENT_FORWARD:
        cs->relay = relay_new(cs->conn, cs->plain_fd, cs->plain_fd);
        if (cs->relay != NULL)
            cs->plain_fd = -1;
        return cs->relay != NULL;
    default:
        cs->relay = relay_new(cs->conn, STDIN_FILENO, STDOUT_FILENO);
        return cs->relay != NULL;
    }
}

static void go_on(struct client_session *cs)
{
    struct report r;

    cs->ready = true;
    r = make_report(cs, "", "session");
    show(cs, &r);
    client_outcome_note(cs->client, cs->plain_fd, NULL, NULL);
    if (cs->get == NULL && !start_mode(cs))
        tls_conn_abort(cs->conn, "out of memory");
}

static void on_confirmed(void *arg, const struct tls_failure *why)
{
    struct client_session *cs = arg;

    if (why != NULL) {
        end_session(cs, report_reason(why), why->text, why->code);
        return;
    }
    tls_conn_release(cs->conn);
    go_on(cs);
}

/* --expose-request: GET and HEAD change nothing at the server, but are read by whoever is there.
 * What does not fit leaves after the verdict. */
static bool send_early(struct client_session *cs, struct tls_failure *why)
{
    struct buf *out = tls_conn_out(cs->conn);
    enum link_result rv = LINK_OK;
    size_t put = 0;

    why->kind = TLS_FAILURE_LOCAL;
    if (!start_mode(cs))
        return false;
    while (rv == LINK_OK && buf_len(out) > 0) {
        rv = link_write(tls_conn_get0_link(cs->conn), buf_head(out), buf_len(out), &put, why);
        if (rv == LINK_OK)
            buf_consume(out, put);
    }
    return rv == LINK_OK || rv == LINK_WANT_WRITE;
}

static void on_ready(void *arg)
{
    struct client_session *cs = arg;
    struct tls_failure why = {0};
    int rv = cs->client->config.expose_request && !send_early(cs, &why) ? -1 : 0;

    if (rv == 0)
        rv = client_protocol_confirm(cs->client, tls_conn_get0_link(cs->conn), on_confirmed, cs,
                                     &why);
    if (rv == 0)
        go_on(cs);
    else if (rv > 0)
        tls_conn_hold(cs->conn);
    else
        end_session(cs, report_reason(&why), why.text, why.code);
}

static const struct tls_conn_ops ops = {on_ready, on_progress, on_closed};

/* The link over a new socket: a new one, or the one that goes on as plain TCP. */
static struct link *take_link(struct client_session *cs, int fd)
{
    struct link *link = cs->plain;

    if (link == NULL)
        return client_protocol_open(cs->client, fd);
    cs->plain = NULL;
    if (client_protocol_reopen(cs->client, link, fd) == 0)
        return link;
    link_free(link);
    return NULL;
}

static void on_connected(void *arg, int fd, const char *error)
{
    struct client_session *cs = arg;
    struct client *c = cs->client;
    struct tls_conn_limits limits = {
        .handshake_s = (double)(c->config.deadline_ms + CLIENT_HANDSHAKE_EXTRA_MS) / 1000.,
        .idle_s = (double)c->config.idle_s,
    };
    struct link *link;

    cs->connector = NULL;
    if (fd < 0) {
        end_session(cs, "connect", error, 0);
        return;
    }
    link = take_link(cs, fd);
    if (link == NULL)
        close(fd);
    else
        cs->conn = tls_conn_new(c->loop, link, fd, &limits, &ops, cs);
    if (cs->conn == NULL)
        end_session(cs, "local", "cannot begin the exchange", 0);
}

static int start_connect(struct client_session *cs)
{
    struct client *c = cs->client;
    const struct client_config *config = &c->config;
    struct connector_params params = {
        .device = config->device,
        .mptcp = config->mptcp,
        .local = config->has_local ? &config->local : NULL,
        .timeout_s = (double)config->timeout_s,
        .prepare =
            c->hooked && config->device == NULL && !config->has_local ? client_protocol_pin : NULL,
    };

    addr_name_refresh(&c->server, ev_now(c->loop));
    cs->connector = connector_start(c->loop, &c->server.list, &params, on_connected, cs);
    return cs->connector != NULL ? 0 : -1;
}

int client_session_start(struct client *c, int plain_fd, const char *peer)
{
    struct client_session *cs = calloc(1, sizeof *cs);

    if (cs == NULL)
        return -1;
    cs->client = c;
    cs->start_us = clock_us();
    client_protocol_announce(c);
    if (start_connect(cs) < 0) {
        free(cs);
        return -1;
    }
    cs->plain_fd = plain_fd;
    snprintf(cs->peer, sizeof cs->peer, "%s", peer);
    cs->next = c->sessions;
    if (cs->next != NULL)
        cs->next->prev = cs;
    c->sessions = cs;
    c->session_count++;
    return 0;
}

void client_sessions_abort(struct client *c, const char *why)
{
    struct client_session *next;

    for (struct client_session *cs = c->sessions; cs != NULL; cs = next) {
        next = cs->next;
        if (cs->conn != NULL)
            tls_conn_abort(cs->conn, why);
    }
}

void client_sessions_free(struct client *c)
{
    while (c->sessions != NULL)
        session_free(c->sessions, false);
}
