/* smkex-client's command line. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "option_settings.h"

#define PROG "smkex-client"

enum {
    O_GET = 1,
    O_HEAD,
    O_FORWARD,
    O_PEERS,
    O_PATH2,
    O_NEED,
    O_SINGLE,
    O_POLICY,
    O_DEADLINE,
    O_HOSTS,
    O_EVIDENCE,
    O_KEY_CHANGE,
    O_OVER,
    O_HELPER,
    O_CONFIG,
    O_CONNECT,
    O_PATH1_DEV,
    O_PATH1_LOCAL,
    O_MPTCP,
    O_IPV4,
    O_IPV6,
    O_TIMEOUT,
    O_IDLE_TIMEOUT,
    O_JSON,
    O_VERBOSE,
    O_HELP,
    O_VERSION
};

/* clang-format off */
static const struct option_def defs[] = {
    CLIENT_WHAT_ROWS("SMKEX"),
    {O_PEERS, 0, "peers", "FILE", "smkexize's: tell the program what became of --forward", 0},
    {0, 0, "SMKEX:", NULL, NULL, 0},
    CLIENT_PATH2_ROWS,
    {O_SINGLE, 0, "single-path", NULL,
     "no path 2: unauthenticated, whoever is on the path\ncan read everything", 0},
    {O_POLICY, 0, "policy", "POLICY",
     "require: no SMKEX, no connection (default); prefer:\n"
     "plain TCP with a server that does not speak it; off",
     0},
    {O_DEADLINE, 0, "deadline", "MS", "from the connection to the decision (default 10000)", 0},
    {O_HOSTS, 0, "hosts", "FILE", "memory of servers' keys", 0},
    {O_EVIDENCE, 0, "evidence", "DIR", "a session that fails leaves a bundle there, see\nmtls-client(1)", 0},
    {O_KEY_CHANGE, 0, "key-change", "HOW",
     "another key than remembered: refuse (default), or\nvouch: two paths may confirm it", 0},
    {O_OVER, 0, "over", "HOW",
     "path 2 by connections of its own (connections, default),\n"
     "as the second subflow of one Multipath TCP connection\n"
     "(mptcp), or so where that can be had (mptcp,connections)",
     0},
    {O_HELPER, 0, "mptcp-helper", "PATH", "where mtls-mptcp-helper listens", 0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words; repeatable", OPT_MANY},
    CLIENT_PATH1_ROWS,
    OTHER_ROWS("show both paths although this is no terminal"),
};
/* clang-format on */

static const char usage[] =
    "usage: smkex-client [flags] HOST:PORT\n"
    "       smkex-client forget --hosts FILE HOST:PORT\n"
    "Encrypts without certificates; the key exchange is confirmed over a second network path.\n";

/* clang-format off */
static const struct option_setting settings[] = {
    {O_KEY_CHANGE, OPTION_WORD, 0, 0, 0, "key-change", NULL},
    {O_OVER, OPTION_WORD, 0, 0, 0, "over", NULL},
    {O_EVIDENCE, OPTION_WORD, 0, 0, 0, "evidence", NULL},
    {O_HELPER, OPTION_WORD, 0, 0, 0, "mptcp-helper", NULL},
    CLIENT_SETTINGS
};
/* clang-format on */

static int handle(void *arg, int id, const char *value)
{
    struct client_config *c = arg;
    const struct option_target target = {PROG, defs, settings, c, &c->words};

    if (id == O_OVER && strncmp(value, "mptcp", 5) == 0)
        c->mptcp = true;
    switch (id) {
    case O_GET:
        return client_set_request(c, PROG, CLIENT_GET, value);
    case O_HEAD:
        return client_set_request(c, PROG, CLIENT_HEAD, value);
    case O_FORWARD:
        return client_set_forward(c, PROG, value);
    case O_PEERS:
        c->peers = value;
        return 0;
    case O_PATH2:
        return client_add_path(c, PROG, value);
    case O_SINGLE:
        return words_add(&c->words, "mode", "single") < 0
                   ? usage_error(PROG, "--single-path: too long")
                   : 0;
    case O_CONNECT:
        c->has_connect = true;
        return client_set_address(&c->connect, PROG, "connect", value);
    case O_PATH1_LOCAL:
        c->has_local = true;
        return client_set_address(&c->local, PROG, "path1-local", value);
    case O_PATH1_DEV:
        return client_set_device(c, PROG, value);
    case O_IPV4:
        return client_set_family(c, PROG, AF_INET);
    case O_IPV6:
        return client_set_family(c, PROG, AF_INET6);
    default:
        return option_set(&target, id, value) < 0 ? -1 : 0;
    }
}

static int check(const struct client_config *c, const struct options *o)
{
    bool off = strstr(c->words.text, "policy=off") != NULL;
    bool paths = c->path_count > 0 || strstr(c->words.text, "path2=") != NULL;

    if (c->mode != CLIENT_FORGET && !off && !paths && !o->seen[O_SINGLE])
        return usage_error(PROG, "--path2 is missing (or --single-path, which trusts the path)");
    if (o->seen[O_SINGLE] && (paths || o->seen[O_NEED]))
        return usage_error(PROG, "--single-path contradicts --path2 and --need");
    if (off && (paths || o->seen[O_SINGLE]))
        return usage_error(PROG, "--policy off contradicts --path2 and --single-path");
    if (o->seen[O_SINGLE] && o->seen[O_OVER])
        return usage_error(PROG, "--single-path contradicts --over");
    if (o->seen[O_KEY_CHANGE] && c->hosts == NULL)
        return usage_error(PROG, "--key-change needs --hosts");
    return client_check_addresses(c, PROG);
}

enum client_config_result client_config_parse(struct client_config *c, int argc, char **argv)
{
    struct options o = {.prog = PROG, .defs = defs};
    int rv;

    client_defaults(c);
    rv = options_start(&o, argc, argv, handle, c, usage, O_HELP, O_VERSION);
    if (rv <= 0)
        return rv < 0 ? CLIENT_CONFIG_BAD : CLIENT_CONFIG_HELP;
    if (client_target_parse(c, &o) < 0 || check(c, &o) < 0 || client_paths_add(c, PROG) < 0)
        return CLIENT_CONFIG_BAD;
    if (!o.seen[O_IDLE_TIMEOUT])
        c->idle_s = c->mode == CLIENT_GET || c->mode == CLIENT_HEAD ? 60 : 3600;
    return CLIENT_CONFIG_RUN;
}
