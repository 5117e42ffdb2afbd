/* What both servers' command lines have in common: where they listen, and what they serve. */
#include <string.h>

#include "options.h"
#include "server.h"

void server_defaults(struct server_config *c)
{
    memset(c, 0, sizeof *c);
    c->deadline_ms = 10000;
    c->max_connections = 8192;
    c->idle_s = 300;
    c->drain_s = 10;
}

int server_add_listener(struct server_config *c, const char *prog, const char *value)
{
    if (c->listen_count == LISTENER_MAX)
        return usage_error(prog, "--listen: more than %d", LISTENER_MAX);
    c->listen[c->listen_count++] = value;
    return 0;
}

int server_set_service(struct server_config *c, const char *prog, enum service wanted)
{
    if (c->service != SERVICE_NONE)
        return usage_error(prog, "--www, --forward and --echo exclude each other");
    c->service = wanted;
    return 0;
}

int server_set_forward(struct server_config *c, const char *prog, const char *value)
{
    if (host_port_parse(value, 1, &c->forward) < 0)
        return usage_error(prog, "--forward: %s is not HOST:PORT", value);
    return server_set_service(c, prog, SERVICE_FORWARD);
}
