/* smkex-server's command line. */
#include <stdio.h>
#include <string.h>

#include <mtls/mtls.h>

#include "options.h"
#include "server.h"

#define PROG "smkex-server"

enum {
    O_LISTEN = 1,
    O_KEY,
    O_MPTCP,
    O_WWW,
    O_FORWARD,
    O_ECHO,
    O_PEERS,
    O_PATH2_LISTEN,
    O_SINGLE,
    O_OVER,
    O_POLICY,
    O_DEADLINE,
    O_CONFIG,
    O_MAX_CONNECTIONS,
    O_IDLE_TIMEOUT,
    O_DRAIN_TIMEOUT,
    O_JSON,
    O_VERBOSE,
    O_HELP,
    O_VERSION
};

/* clang-format off: a table */
static const struct option_def defs[] = {
    {0, 0, "Path 1:", NULL, NULL, 0},
    {O_LISTEN, 0, "listen", "ADDR:PORT", "where to accept; port 0: any free port; repeatable",
     OPT_MANY},
    {O_MPTCP, 0, "mptcp", NULL, "accept Multipath TCP too", 0},
    {O_KEY, 0, "key", "FILE", "long-term Ed25519 private key in PEM, which clients remember", 0},
    {0, 0, "Service, exactly one:", NULL, NULL, 0},
    {O_WWW, 0, "www", "DIR", "serve the files beneath DIR (HTTP/1.1 GET and HEAD)", 0},
    {O_FORWARD, 0, "forward", "HOST:PORT", "pass the plain bytes to HOST:PORT", 0},
    {O_ECHO, 0, "echo", NULL, "send back what comes", 0},
    {O_PEERS, 0, "peers", "FILE", "smkexize's: tell the backend's side who is behind --forward", 0},
    {0, 0, "SMKEX:", NULL, NULL, 0},
    {O_PATH2_LISTEN, 0, "path2-listen", "ADDR:PORT",
     "where to accept path 2; port 0: any free port;\nrepeatable", OPT_MANY},
    {O_SINGLE, 0, "single-path", NULL,
     "no path 2: unauthenticated, whoever is on the path\ncan read everything", 0},
    {O_OVER, 0, "over", "HOW",
     "path 2 by connections of its own (connections, default),\n"
     "as the second subflow of one Multipath TCP connection\n"
     "(mptcp), or either (mptcp,connections)",
     0},
    {O_POLICY, 0, "policy", "POLICY",
     "require: no SMKEX, no connection (default); prefer:\n"
     "plain TCP too; off: plain TCP",
     0},
    {O_DEADLINE, 0, "deadline", "MS", "from the connection to the decision (default 10000)", 0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words; repeatable", OPT_MANY},
    {0, 0, "Limits:", NULL, NULL, 0},
    {O_MAX_CONNECTIONS, 0, "max-connections", "N", "at the same time; more wait (default 8192)", 0},
    {O_IDLE_TIMEOUT, 0, "idle-timeout", "S", "an open connection without a byte (default 300)", 0},
    {O_DRAIN_TIMEOUT, 0, "drain-timeout", "S", "for open connections after SIGTERM (default 10)",
     0},
    {0, 0, "Other:", NULL, NULL, 0},
    {O_JSON, 0, "json", NULL, "standard error is JSON, one object a line", 0},
    {O_VERBOSE, 'v', "verbose", NULL, "report every session", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {O_VERSION, 'V', "version", NULL, "the version", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] =
    "usage: smkex-server --listen ADDR:PORT --path2-listen ADDR:PORT SERVICE [flags]\n"
    "Encrypts without certificates; the key exchange is confirmed over a second network path.\n";

static int number(const char *name, const char *value, unsigned long min, unsigned long max,
                  unsigned long *out)
{
    if (number_parse(value, min, max, out) < 0)
        return usage_error(PROG, "--%s: %s is not a number from %lu to %lu", name, value, min, max);
    return 0;
}

static int word(struct server_config *c, const char *name, const char *key, const char *value)
{
    if (words_add(&c->words, key, value) < 0)
        return usage_error(PROG, "--%s: white space or too long", name);
    return 0;
}

static int handle_service(struct server_config *c, int id, const char *value)
{
    if (c->service != SERVICE_NONE)
        return usage_error(PROG, "--www, --forward and --echo exclude each other");
    c->service = id == O_WWW ? SERVICE_WWW : id == O_FORWARD ? SERVICE_FORWARD : SERVICE_ECHO;
    if (id == O_WWW)
        c->www = value;
    if (id == O_FORWARD && host_port_parse(value, 1, &c->forward) < 0)
        return usage_error(PROG, "--forward: %s is not HOST:PORT", value);
    return 0;
}

static int handle_smkex(struct server_config *c, int id, const char *value)
{
    switch (id) {
    case O_KEY:
        return word(c, "key", "key", value);
    case O_PATH2_LISTEN:
        return word(c, "path2-listen", "listen", value);
    case O_SINGLE:
        return word(c, "single-path", "mode", "single");
    case O_OVER:
        c->mptcp = c->mptcp || strncmp(value, "mptcp", 5) == 0;
        return word(c, "over", "over", value);
    case O_POLICY:
        if (strcmp(value, "require") != 0 && strcmp(value, "prefer") != 0 &&
            strcmp(value, "off") != 0)
            return usage_error(PROG, "--policy: %s is not off, prefer or require", value);
        return word(c, "policy", "policy", value);
    case O_DEADLINE:
        if (number("deadline", value, 100, 120000, &c->deadline_ms) < 0)
            return -1;
        return word(c, "deadline", "deadline", value);
    default:
        return word(c, "config", NULL, value);
    }
}

static int handle(void *arg, int id, const char *value)
{
    struct server_config *c = arg;

    switch (id) {
    case O_LISTEN:
        if (c->listen_count == LISTENER_MAX)
            return usage_error(PROG, "--listen: more than %d", LISTENER_MAX);
        c->listen[c->listen_count++] = value;
        return 0;
    case O_WWW:
    case O_FORWARD:
    case O_ECHO:
        return handle_service(c, id, value);
    case O_MPTCP:
        c->mptcp = true;
        return 0;
    case O_PEERS:
        c->peers = value;
        return 0;
    case O_MAX_CONNECTIONS:
        return number("max-connections", value, 1, 10000000, &c->max_connections);
    case O_IDLE_TIMEOUT:
        return number("idle-timeout", value, 1, 604800, &c->idle_s);
    case O_DRAIN_TIMEOUT:
        return number("drain-timeout", value, 0, 86400, &c->drain_s);
    case O_JSON:
        c->json = true;
        return 0;
    case O_VERBOSE:
        c->verbose = true;
        return 0;
    case O_HELP:
    case O_VERSION:
        return 0;
    default:
        return handle_smkex(c, id, value);
    }
}

/* Then path 2 comes in no connection of its own. */
static bool over_mptcp_alone(const struct server_config *c)
{
    const char *over = strstr(c->words.text, "over=mptcp");

    return over != NULL && over[strlen("over=mptcp")] != ',';
}

static int check(const struct server_config *c, const struct options *o)
{
    bool off = strstr(c->words.text, "policy=off") != NULL;

    if (o->word_count > 0)
        return usage_error(PROG, "unexpected argument %s", o->words[0]);
    if (c->listen_count == 0)
        return usage_error(PROG, "--listen is missing");
    if (c->service == SERVICE_NONE)
        return usage_error(PROG, "one of --www, --forward and --echo is needed");
    if (o->seen[O_SINGLE] && o->seen[O_PATH2_LISTEN])
        return usage_error(PROG, "--single-path and --path2-listen contradict each other");
    if (off && (o->seen[O_SINGLE] || o->seen[O_PATH2_LISTEN]))
        return usage_error(PROG, "--policy off contradicts --single-path and --path2-listen");
    if (o->seen[O_SINGLE] && o->seen[O_OVER])
        return usage_error(PROG, "--single-path contradicts --over");
    if (!off && !o->seen[O_SINGLE] && !over_mptcp_alone(c) &&
        strstr(c->words.text, "listen=") == NULL)
        return usage_error(PROG, "--path2-listen is missing: no client could confirm");
    return 0;
}

enum server_config_result server_config_parse(struct server_config *c, int argc, char **argv)
{
    struct options o = {.prog = PROG, .defs = defs};

    memset(c, 0, sizeof *c);
    c->deadline_ms = 10000;
    c->max_connections = 8192;
    c->idle_s = 300;
    c->drain_s = 10;
    if (options_parse(&o, argc, argv, handle, c) < 0)
        return SERVER_CONFIG_BAD;
    if (o.seen[O_HELP]) {
        options_help(&o, stdout, usage);
        return SERVER_CONFIG_HELP;
    }
    if (o.seen[O_VERSION]) {
        printf("%s %s\n", PROG, mtls_version());
        return SERVER_CONFIG_HELP;
    }
    return check(c, &o) < 0 ? SERVER_CONFIG_BAD : SERVER_CONFIG_RUN;
}
