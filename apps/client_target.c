/* What both clients' command lines have in common: what to do, path 1, HOST:PORT, and second paths
 * to it. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "options.h"

void client_defaults(struct client_config *c)
{
    memset(c, 0, sizeof *c);
    c->deadline_ms = 10000;
    c->timeout_s = 15;
    c->family = AF_UNSPEC;
    c->jobs = 8;
}

static int set_mode(struct client_config *c, const char *prog, enum client_mode mode)
{
    if (c->mode != CLIENT_PIPE)
        return usage_error(prog, "--get, --head, --forward and forget exclude each other");
    c->mode = mode;
    return 0;
}

int client_set_forward(struct client_config *c, const char *prog, const char *value)
{
    c->forward = value;
    return set_mode(c, prog, CLIENT_FORWARD);
}

int client_set_request(struct client_config *c, const char *prog, enum client_mode mode,
                       const char *value)
{
    if (set_mode(c, prog, mode) < 0)
        return -1;
    c->get = value;
    for (const char *p = value; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
            return usage_error(prog, "--get: white space and # must be percent-encoded");
    return *value == '/' && strlen(value) < 4096 ? 0
                                                 : usage_error(prog, "--get: PATH begins with /");
}

int client_add_path(struct client_config *c, const char *prog, const char *value)
{
    if (c->path_count == CLIENT_PATHS)
        return usage_error(prog, "--path2: more than %d", CLIENT_PATHS);
    c->paths[c->path_count++] = value; /* a word once HOST is known */
    return 0;
}

int client_set_address(struct addr *addr, const char *prog, const char *name, const char *value)
{
    return addr_parse(value, 0, addr) == 0
               ? 0
               : usage_error(prog, "--%s: %s is not an address", name, value);
}

int client_set_device(struct client_config *c, const char *prog, const char *value)
{
    c->device = value;
    return strlen(value) < 16 ? 0 : usage_error(prog, "--path1-dev: %s is too long", value);
}

int client_set_family(struct client_config *c, const char *prog, int family)
{
    if (c->family != AF_UNSPEC)
        return usage_error(prog, "-4 and -6 exclude each other");
    c->family = family;
    return 0;
}

int client_check_addresses(const struct client_config *c, const char *prog)
{
    if (c->has_connect && c->server.family != AF_UNSPEC)
        return usage_error(prog, "--connect is for a HOST that is a name");
    if (c->family != AF_UNSPEC && c->server.family != AF_UNSPEC && c->family != c->server.family)
        return usage_error(prog, "HOST is an address of the other family");
    if (c->has_connect && c->family != AF_UNSPEC && c->connect.sa.ss_family != c->family)
        return usage_error(prog, "--connect: address of the other family");
    return 0;
}

/* An address that the user typed may be path 2's as well [provenance (a)]; a name's look-up is path
 * 2's own. */
int client_paths_add(struct client_config *c, const char *prog)
{
    char spec[1024];

    for (size_t i = 0; i < c->path_count; i++) {
        const char *p = c->paths[i];
        bool own = strcmp(p, "auto") == 0 || strncmp(p, "auto,", 5) == 0 ||
                   strncmp(p, "remote=", 7) == 0 || strstr(p, ",remote=") != NULL;
        const char *form = c->server.family == AF_INET6 ? "%s,remote=[%s]" : "%s,remote=%s";
        int len = own || c->server.family == AF_UNSPEC
                      ? snprintf(spec, sizeof spec, "%s", p)
                      : snprintf(spec, sizeof spec, form, p, c->server.host);

        if (len < 0 || (size_t)len >= sizeof spec)
            return usage_error(prog, "--path2: too long");
        if (words_add(&c->words, "path2", spec) < 0)
            return usage_error(prog, "--path2: white space or too long");
    }
    return 0;
}

int client_target_parse(struct client_config *c, const struct options *o)
{
    bool forget = o->word_count > 0 && strcmp(o->words[0], "forget") == 0;

    if (forget && c->mode != CLIENT_PIPE)
        return usage_error(o->prog, "--get, --head, --forward and forget exclude each other");
    if (forget && c->hosts == NULL)
        return usage_error(o->prog, "forget needs --hosts FILE");
    if (forget)
        c->mode = CLIENT_FORGET;
    if (o->word_count == (forget ? 1 : 0))
        return usage_error(o->prog, "HOST:PORT is missing");
    if (o->word_count > (forget ? 2 : 1))
        return usage_error(o->prog, "unexpected argument %s", o->words[forget ? 2 : 1]);
    if (host_port_parse(o->words[o->word_count - 1], 1, &c->server) < 0)
        return usage_error(o->prog, "%s is not HOST:PORT", o->words[o->word_count - 1]);
    return 0;
}
