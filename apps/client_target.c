/* What both clients' command lines have in common: HOST:PORT, and second paths to it. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "options.h"

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
    bool forget = o->word_count == 2 && strcmp(o->words[0], "forget") == 0;

    if (forget && c->mode != CLIENT_PIPE)
        return usage_error(o->prog, "--get, --head, --forward and forget exclude each other");
    if (forget && c->hosts == NULL)
        return usage_error(o->prog, "forget needs --hosts FILE");
    if (forget)
        c->mode = CLIENT_FORGET;
    if (o->word_count == 0)
        return usage_error(o->prog, "HOST:PORT is missing");
    if (o->word_count > (forget ? 2 : 1))
        return usage_error(o->prog, "unexpected argument %s", o->words[forget ? 2 : 1]);
    if (host_port_parse(o->words[o->word_count - 1], 1, &c->server) < 0)
        return usage_error(o->prog, "%s is not HOST:PORT", o->words[o->word_count - 1]);
    return 0;
}
