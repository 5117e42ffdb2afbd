/* smkex-client's command line. */
#include <stdio.h>
#include <string.h>

#include <mtls/mtls.h>

#include "client.h"
#include "options.h"

#define PROG "smkex-client"

enum {
    O_GET = 1,
    O_HEAD,
    O_FORWARD,
    O_PATH2,
    O_NEED,
    O_SINGLE,
    O_POLICY,
    O_DEADLINE,
    O_HOSTS,
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

/* clang-format off: a table */
static const struct option_def defs[] = {
    {0, 0, "What to do (default: standard input and output are the connection):", NULL, NULL, 0},
    {O_GET, 0, "get", "PATH", "fetch PATH by HTTP; the body alone on standard output", 0},
    {O_HEAD, 0, "head", "PATH", "ask for PATH by HTTP HEAD; the exit code is the answer", 0},
    {O_FORWARD, 0, "forward", "ADDR:PORT",
     "accept plain connections here and pass each on to\n"
     "HOST:PORT by SMKEX; port 0: any free port",
     0},
    {0, 0, "SMKEX:", NULL, NULL, 0},
    {O_PATH2, 0, "path2", "SPEC",
     "a second path: auto, or of local=ADDR,dev=IFNAME,\n"
     "remote=HOST:PORT,port=N,resolver=ADDR,\nvia=socks5h://HOST:PORT,tunnel=yes,\n"
     "distinct=client|server|both; repeatable",
     OPT_MANY},
    {O_NEED, 0, "need", "K", "so many second paths must confirm (default 1)", 0},
    {O_SINGLE, 0, "single-path", NULL,
     "no path 2: unauthenticated, whoever is on the path\ncan read everything", 0},
    {O_POLICY, 0, "policy", "POLICY",
     "require: no SMKEX, no connection (default); prefer:\n"
     "plain TCP with a server that does not speak it; off",
     0},
    {O_DEADLINE, 0, "deadline", "MS", "from the connection to the decision (default 10000)", 0},
    {O_HOSTS, 0, "hosts", "FILE", "memory of servers' keys", 0},
    {O_KEY_CHANGE, 0, "key-change", "HOW",
     "another key than remembered: refuse (default), or\nvouch: two paths may confirm it", 0},
    {O_OVER, 0, "over", "HOW",
     "path 2 by connections of its own (connections, default),\n"
     "as the second subflow of one Multipath TCP connection\n"
     "(mptcp), or so where that can be had (mptcp,connections)",
     0},
    {O_HELPER, 0, "mptcp-helper", "PATH", "where mtls-mptcp-helper listens", 0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words; repeatable", OPT_MANY},
    {0, 0, "Path 1:", NULL, NULL, 0},
    {O_CONNECT, 0, "connect", "ADDR", "connect to this address; HOST is not looked up", 0},
    {O_PATH1_DEV, 0, "path1-dev", "IFNAME", "bind path 1 to this network device", 0},
    {O_PATH1_LOCAL, 0, "path1-local", "ADDR", "path 1's source address", 0},
    {O_MPTCP, 0, "mptcp", NULL, "path 1 by Multipath TCP", 0},
    {O_IPV4, '4', "ipv4", NULL, "IPv4 only", 0},
    {O_IPV6, '6', "ipv6", NULL, "IPv6 only", 0},
    {O_TIMEOUT, 0, "timeout", "S", "for look-up and connect, each (default 15)", 0},
    {O_IDLE_TIMEOUT, 0, "idle-timeout", "S",
     "an open connection without a byte (default 3600;\n"
     "with --get and --head 60)",
     0},
    {0, 0, "Other:", NULL, NULL, 0},
    {O_JSON, 0, "json", NULL, "standard error is JSON, one object a line", 0},
    {O_VERBOSE, 'v', "verbose", NULL, "show both paths although this is no terminal", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {O_VERSION, 'V', "version", NULL, "the version", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] =
    "usage: smkex-client [flags] HOST:PORT\n"
    "       smkex-client forget --hosts FILE HOST:PORT\n"
    "Encrypts without certificates; the key exchange is confirmed over a second network path.\n";

static int number(const char *name, const char *value, unsigned long min, unsigned long max,
                  unsigned long *out)
{
    if (number_parse(value, min, max, out) < 0)
        return usage_error(PROG, "--%s: %s is not a number from %lu to %lu", name, value, min, max);
    return 0;
}

static int word(struct client_config *c, const char *name, const char *key, const char *value)
{
    if (words_add(&c->words, key, value) < 0)
        return usage_error(PROG, "--%s: white space or too long", name);
    return 0;
}

static int add_path(struct client_config *c, const char *value)
{
    if (c->path_count == CLIENT_PATHS)
        return usage_error(PROG, "--path2: more than %d", CLIENT_PATHS);
    c->paths[c->path_count++] = value; /* a word once HOST is known */
    return 0;
}

static int handle_smkex(struct client_config *c, int id, const char *value)
{
    unsigned long need;

    switch (id) {
    case O_PATH2:
        return add_path(c, value);
    case O_NEED:
        return number("need", value, 1, CLIENT_PATHS, &need) < 0 ? -1
                                                                 : word(c, "need", "need", value);
    case O_SINGLE:
        return word(c, "single-path", "mode", "single");
    case O_POLICY:
        if (strcmp(value, "require") != 0 && strcmp(value, "prefer") != 0 &&
            strcmp(value, "off") != 0)
            return usage_error(PROG, "--policy: %s is not off, prefer or require", value);
        return word(c, "policy", "policy", value);
    case O_DEADLINE:
        if (number("deadline", value, 100, 120000, &c->deadline_ms) < 0)
            return -1;
        return word(c, "deadline", "deadline", value);
    case O_HOSTS:
        c->hosts = value;
        return word(c, "hosts", "hosts", value);
    case O_KEY_CHANGE:
        return word(c, "key-change", "key-change", value);
    case O_OVER:
        c->mptcp = c->mptcp || strncmp(value, "mptcp", 5) == 0;
        return word(c, "over", "over", value);
    case O_HELPER:
        return word(c, "mptcp-helper", "mptcp-helper", value);
    default:
        return word(c, "config", NULL, value);
    }
}

static int handle_path1(struct client_config *c, int id, const char *value)
{
    switch (id) {
    case O_CONNECT:
        c->has_connect = true;
        return addr_parse(value, 0, &c->connect) == 0
                   ? 0
                   : usage_error(PROG, "--connect: %s is not an address", value);
    case O_PATH1_DEV:
        c->device = value;
        return 0;
    case O_PATH1_LOCAL:
        c->has_local = true;
        return addr_parse(value, 0, &c->local) == 0
                   ? 0
                   : usage_error(PROG, "--path1-local: %s is not an address", value);
    case O_MPTCP:
        c->mptcp = true;
        return 0;
    case O_TIMEOUT:
        return number("timeout", value, 1, 600, &c->timeout_s);
    case O_IDLE_TIMEOUT:
        return number("idle-timeout", value, 1, 604800, &c->idle_s);
    default:
        if (c->family != AF_UNSPEC)
            return usage_error(PROG, "-4 and -6 exclude each other");
        c->family = id == O_IPV4 ? AF_INET : AF_INET6;
        return 0;
    }
}

static int set_mode(struct client_config *c, int id, const char *value)
{
    if (c->mode != CLIENT_PIPE)
        return usage_error(PROG, "--get, --head, --forward and forget exclude each other");
    c->mode = id == O_GET ? CLIENT_GET : id == O_HEAD ? CLIENT_HEAD : CLIENT_FORWARD;
    if (id == O_FORWARD) {
        c->forward = value;
        return 0;
    }
    c->get = value;
    for (const char *p = value; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
            return usage_error(PROG, "--get: white space and # must be percent-encoded");
    return *value == '/' && strlen(value) < 4096 ? 0
                                                 : usage_error(PROG, "--get: PATH begins with /");
}

static int handle(void *arg, int id, const char *value)
{
    struct client_config *c = arg;

    if (id <= O_FORWARD)
        return set_mode(c, id, value);
    if (id <= O_CONFIG)
        return handle_smkex(c, id, value);
    if (id <= O_IDLE_TIMEOUT)
        return handle_path1(c, id, value);
    if (id == O_JSON)
        c->json = true;
    else if (id == O_VERBOSE)
        c->verbose = true;
    return 0;
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
    if (c->has_connect && c->server.family != AF_UNSPEC)
        return usage_error(PROG, "--connect is for a HOST that is a name");
    if (c->family != AF_UNSPEC && c->server.family != AF_UNSPEC && c->family != c->server.family)
        return usage_error(PROG, "HOST is an address of the other family");
    if (c->has_connect && c->family != AF_UNSPEC && c->connect.sa.ss_family != c->family)
        return usage_error(PROG, "--connect: address of the other family");
    return 0;
}

enum client_config_result client_config_parse(struct client_config *c, int argc, char **argv)
{
    struct options o = {.prog = PROG, .defs = defs};

    memset(c, 0, sizeof *c);
    c->deadline_ms = 10000;
    c->timeout_s = 15;
    c->family = AF_UNSPEC;
    if (options_parse(&o, argc, argv, handle, c) < 0)
        return CLIENT_CONFIG_BAD;
    if (o.seen[O_HELP]) {
        options_help(&o, stdout, usage);
        return CLIENT_CONFIG_HELP;
    }
    if (o.seen[O_VERSION]) {
        printf("%s %s\n", PROG, mtls_version());
        return CLIENT_CONFIG_HELP;
    }
    if (client_target_parse(c, &o) < 0 || check(c, &o) < 0 || client_paths_add(c, PROG) < 0)
        return CLIENT_CONFIG_BAD;
    if (!o.seen[O_IDLE_TIMEOUT])
        c->idle_s = c->mode == CLIENT_GET || c->mode == CLIENT_HEAD ? 60 : 3600;
    return CLIENT_CONFIG_RUN;
}
