/* mtls-server and smkex-server: accept connections that are confirmed over a second network path,
 * and serve files, pass the bytes on, or echo them. One thread, one event loop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "complain.h"
#include "server.h"
#include "linger.h"
#include "smkex/preload/rules.h"
#include "www.h"

#define LOOKUP_MS 10000

static int setup_service(struct server *s)
{
    struct server_config *c = &s->config;
    const char *why;

    if (c->service == SERVICE_WWW && (s->www_root = www_open_root(c->www)) < 0) {
        complain(server_prog, "%s: %s", c->www,
                 errno == ENOSYS ? "this kernel cannot confine paths (openat2)" : strerror(errno));
        return -1;
    }
    if (c->service != SERVICE_FORWARD)
        return 0;
    s->backend.hp = c->forward;
    s->backend.looked_up_at = ev_now(s->loop);
    if (addr_lookup(c->forward.host, c->forward.port, AF_UNSPEC, LOOKUP_MS, &s->backend.list,
                    &why) < 0) {
        complain(server_prog, "--forward %s: %s", c->forward.host, why);
        return -1;
    }
    return 0;
}

/* A descriptor of a file that cannot be used is worse than none: addresses would be wrong. */
static int setup_peers(struct server *s)
{
    size_t size = sizeof(struct smkexize_shared);
    int fd;

    if (s->config.peers == NULL)
        return 0;
    fd = open(s->config.peers, O_RDWR | O_CLOEXEC);
    s->peers = fd >= 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (s->peers != MAP_FAILED)
        return 0;
    complain(server_prog, "--peers %s: %s", s->config.peers, strerror(errno));
    return -1;
}

static int setup_listeners(struct server *s)
{
    const char *why;

    s->listeners = listeners_new(s->loop, server_session_accept, s);
    if (s->listeners == NULL)
        return -1;
    if (s->config.mptcp)
        listeners_set_mptcp(s->listeners);
    for (size_t i = 0; i < s->config.listen_count; i++)
        if (listeners_add(s->listeners, s->config.listen[i], &why) < 0) {
            complain(server_prog, "--listen %s: %s", s->config.listen[i], why);
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
            fprintf(stderr, "%s: listening on %s\n", server_prog,
                    listeners_get0_text(s->listeners, i));
        for (size_t i = 0; (text = server_protocol_listener(s, i)) != NULL; i++)
            fprintf(stderr, "%s: path 2 on %s\n", server_prog, text);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", "listening");
    json_open(&j, "listen", '[');
    for (size_t i = 0; i < listeners_count(s->listeners); i++)
        json_string(&j, NULL, listeners_get0_text(s->listeners, i));
    json_close(&j, ']');
    json_open(&j, "path2", '[');
    for (size_t i = 0; (text = server_protocol_listener(s, i)) != NULL; i++)
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

    if (server_protocol_reload(s) == 0)
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
    s->out = (struct output){.prog = server_prog, .json = s->config.json};
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    s->loop = ev_loop_new(EVFLAG_AUTO);
    if (s->loop != NULL && setup_service(s) == 0 && setup_peers(s) == 0 &&
        server_protocol_setup(s) == 0 && setup_listeners(s) == 0) {
        run(s);
        rv = EXIT_FINE;
    }
    server_waiting_free(s);
    server_sessions_free(s);
    listeners_free(s->listeners);
    server_protocol_free(s);
    if (s->www_root >= 0)
        close(s->www_root);
    if (s->loop != NULL) {
        linger_end_all(s->loop);
        ev_loop_destroy(s->loop);
    }
    return rv;
}
