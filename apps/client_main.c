/* mtls-client and smkex-client: a client whose connections are confirmed over a second network
 * path. Pipes standard input and output, fetches a file, or carries a local port's connections. One
 * thread, one event loop. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "client_outcome.h"
#include "complain.h"
#include "linger.h"
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
        complain(client_prog, "%s: %s", config->server.host, why);
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
        complain(client_prog, "--forward %s: %s", c->config.forward, why);
        return -1;
    }
    listeners_run(c->listeners, true);
    if (!c->out.json) {
        fprintf(stderr, "%s: listening on %s\n", client_prog, listeners_get0_text(c->listeners, 0));
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
        complain(client_prog, "out of memory");
        return EXIT_NETWORK;
    }
    ev_run(c->loop, 0);
    return c->exit_code;
}

int main(int argc, char **argv)
{
    static struct client client;
    struct client *c = &client;
    int rv = EXIT_USAGE;

    if (client_protocol_command(argc, argv, &rv))
        return rv;
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
        return client_protocol_forget(&c->config) == 0 ? EXIT_FINE : EXIT_USAGE;
    c->out = (struct output){.prog = client_prog,
                             .json = c->config.json,
                             .picture = c->config.verbose || isatty(STDERR_FILENO)};
    signal(SIGPIPE, SIG_IGN);
    c->loop = ev_loop_new(EVFLAG_AUTO);
    if (c->loop != NULL && client_outcome_setup(c) == 0 && client_protocol_setup(c) == 0) {
        if (c->config.mode == CLIENT_CHECK)
            rv = client_protocol_check(c);
        else
            rv = find_server(c) < 0 ? EXIT_NETWORK : run(c);
    }
    client_sessions_free(c);
    client_outcome_free(c);
    listeners_free(c->listeners);
    client_protocol_free(c);
    if (c->loop != NULL) {
        linger_end_all(c->loop);
        ev_loop_destroy(c->loop);
    }
    return rv;
}
