/* smkex-server's command line. */
#include <stdio.h>
#include <string.h>

#include "option_settings.h"
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
    O_EVIDENCE,
    O_CONFIG,
    O_MAX_CONNECTIONS,
    O_IDLE_TIMEOUT,
    O_DRAIN_TIMEOUT,
    O_JSON,
    O_VERBOSE,
    O_HELP,
    O_VERSION
};

/* clang-format off */
static const struct option_def defs[] = {
    {0, 0, "Path 1:", NULL, NULL, 0},
    {O_LISTEN, 0, "listen", "ADDR:PORT", "where to accept; port 0: any free port; repeatable",
     OPT_MANY},
    {O_MPTCP, 0, "mptcp", NULL, "accept Multipath TCP too", 0},
    {O_KEY, 0, "key", "FILE", "long-term Ed25519 private key in PEM, which clients remember", 0},
    SERVER_SERVICE_ROWS,
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
    {O_EVIDENCE, 0, "evidence", "DIR", "a session that fails leaves a bundle there, see\nmtls-client(1)", 0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words; repeatable", OPT_MANY},
    SERVER_LIMIT_ROWS,
    OTHER_ROWS("report every session"),
};
/* clang-format on */

static const char usage[] =
    "usage: smkex-server --listen ADDR:PORT --path2-listen ADDR:PORT SERVICE [flags]\n"
    "Encrypts without certificates; the key exchange is confirmed over a second network path.\n";

/* clang-format off */
static const struct option_setting settings[] = {
    {O_KEY, OPTION_WORD, 0, 0, 0, "key", NULL},
    {O_OVER, OPTION_WORD, 0, 0, 0, "over", NULL},
    {O_EVIDENCE, OPTION_WORD, 0, 0, 0, "evidence", NULL},
    {O_PEERS, OPTION_TEXT, offsetof(struct server_config, peers), 0, 0, NULL, NULL},
    SERVER_SETTINGS
};
/* clang-format on */

static int handle(void *arg, int id, const char *value)
{
    struct server_config *c = arg;
    const struct option_target target = {PROG, defs, settings, c, &c->words};

    if (id == O_OVER && strncmp(value, "mptcp", 5) == 0)
        c->mptcp = true;
    switch (id) {
    case O_LISTEN:
        return server_add_listener(c, PROG, value);
    case O_WWW:
        c->www = value;
        return server_set_service(c, PROG, SERVICE_WWW);
    case O_FORWARD:
        return server_set_forward(c, PROG, value);
    case O_ECHO:
        return server_set_service(c, PROG, SERVICE_ECHO);
    case O_SINGLE:
        return words_add(&c->words, "mode", "single") < 0
                   ? usage_error(PROG, "--single-path: too long")
                   : 0;
    default:
        return option_set(&target, id, value) < 0 ? -1 : 0;
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
    int rv;

    server_defaults(c);
    rv = options_start(&o, argc, argv, handle, c, usage, O_HELP, O_VERSION);
    if (rv <= 0)
        return rv < 0 ? SERVER_CONFIG_BAD : SERVER_CONFIG_HELP;
    return check(c, &o) < 0 ? SERVER_CONFIG_BAD : SERVER_CONFIG_RUN;
}
