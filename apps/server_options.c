/* mtls-server's command line. */
#include <stdio.h>
#include <string.h>

#include <mtls/mtls.h>

#include "options.h"
#include "server.h"

#define PROG "mtls-server"

enum {
    O_LISTEN = 1,
    O_MPTCP,
    O_CERT,
    O_KEY,
    O_CLIENT_CA,
    O_ALPN,
    O_TICKET_KEY,
    O_WWW,
    O_FORWARD,
    O_ECHO,
    O_PATH2_LISTEN,
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

/* clang-format off: a table */
static const struct option_def defs[] = {
    {0, 0, "TLS (path 1):", NULL, NULL, 0},
    {O_LISTEN, 0, "listen", "ADDR:PORT", "where to accept TLS; port 0: any free port; repeatable",
     OPT_MANY},
    {O_MPTCP, 0, "mptcp", NULL, "accept Multipath TCP too", 0},
    {O_CERT, 0, "cert", "FILE", "certificate chain in PEM, the server's own first", 0},
    {O_KEY, 0, "key", "FILE", "its private key in PEM", 0},
    {O_CLIENT_CA, 0, "client-ca", "FILE", "demand client certificates of these authorities", 0},
    {O_ALPN, 0, "alpn", "NAME,...", "application protocols, the preferred first", 0},
    {O_TICKET_KEY, 0, "ticket-key", "FILE",
     "80 secret bytes: tickets outlive a restart and are\nshared between machines", 0},
    {0, 0, "Service, exactly one:", NULL, NULL, 0},
    {O_WWW, 0, "www", "DIR", "serve the files beneath DIR (HTTP/1.1 GET and HEAD)", 0},
    {O_FORWARD, 0, "forward", "HOST:PORT", "pass the plain bytes to HOST:PORT", 0},
    {O_ECHO, 0, "echo", NULL, "send back what comes", 0},
    {0, 0, "Multipath TLS:", NULL, NULL, 0},
    {O_PATH2_LISTEN, 0, "path2-listen", "ADDR:PORT",
     "where to accept path 2; port 0: any free port;\nrepeatable", OPT_MANY},
    {O_POLICY, 0, "policy", "POLICY",
     "require: no verification, no connection (default with\n"
     "--path2-listen); prefer; off: plain TLS",
     0},
    {O_DEADLINE, 0, "deadline", "MS", "from the ClientHello to the decision (default 10000)", 0},
    {O_EVIDENCE, 0, "evidence", "DIR",
     "a session that fails leaves a bundle there, see\nmtls-client(1)", 0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words, see mtls.conf(5);\nrepeatable",
     OPT_MANY},
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
    "usage: mtls-server --listen ADDR:PORT --cert FILE --key FILE SERVICE [flags]\n"
    "TLS server whose handshakes are confirmed over a second network path (Multipath TLS).\n";

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

static int service(struct server_config *c, enum service wanted)
{
    if (c->service != SERVICE_NONE)
        return usage_error(PROG, "--www, --forward and --echo exclude each other");
    c->service = wanted;
    return 0;
}

static int handle_service(struct server_config *c, int id, const char *value)
{
    if (id == O_WWW)
        c->www = value;
    if (id == O_FORWARD && host_port_parse(value, 1, &c->forward) < 0)
        return usage_error(PROG, "--forward: %s is not HOST:PORT", value);
    return service(c, id == O_WWW ? SERVICE_WWW : id == O_FORWARD ? SERVICE_FORWARD : SERVICE_ECHO);
}

static int handle_policy(struct server_config *c, const char *value)
{
    if (strcmp(value, "require") != 0 && strcmp(value, "prefer") != 0 && strcmp(value, "off") != 0)
        return usage_error(PROG, "--policy: %s is not off, prefer or require", value);
    return word(c, "policy", "policy", value);
}

static int handle_mtls(struct server_config *c, int id, const char *value)
{
    switch (id) {
    case O_PATH2_LISTEN:
        return word(c, "path2-listen", "listen", value);
    case O_POLICY:
        return handle_policy(c, value);
    case O_DEADLINE:
        if (number("deadline", value, 100, 120000, &c->deadline_ms) < 0)
            return -1;
        return word(c, "deadline", "deadline", value);
    case O_EVIDENCE:
        return word(c, "evidence", "evidence", value);
    default:
        return word(c, "config", NULL, value);
    }
}

static int handle_limits(struct server_config *c, int id, const char *value)
{
    switch (id) {
    case O_MAX_CONNECTIONS:
        return number("max-connections", value, 1, 10000000, &c->max_connections);
    case O_IDLE_TIMEOUT:
        return number("idle-timeout", value, 1, 604800, &c->idle_s);
    default:
        return number("drain-timeout", value, 0, 86400, &c->drain_s);
    }
}

static int handle_tls(struct server_config *c, int id, const char *value)
{
    switch (id) {
    case O_LISTEN:
        if (c->listen_count == LISTENER_MAX)
            return usage_error(PROG, "--listen: more than %d", LISTENER_MAX);
        c->listen[c->listen_count++] = value;
        return 0;
    case O_MPTCP:
        c->mptcp = true;
        return 0;
    case O_CERT:
        c->cert = value;
        return 0;
    case O_KEY:
        c->key = value;
        return 0;
    case O_CLIENT_CA:
        c->client_ca = value;
        return 0;
    case O_TICKET_KEY:
        c->ticket_key = value;
        return 0;
    default:
        c->alpn_len = tls_setup_alpn_wire(value, c->alpn);
        return c->alpn_len > 0 ? 0 : usage_error(PROG, "--alpn: bad list %s", value);
    }
}

static int handle(void *arg, int id, const char *value)
{
    struct server_config *c = arg;

    if (id <= O_TICKET_KEY)
        return handle_tls(c, id, value);
    if (id <= O_ECHO)
        return handle_service(c, id, value);
    if (id <= O_CONFIG)
        return handle_mtls(c, id, value);
    if (id <= O_DRAIN_TIMEOUT)
        return handle_limits(c, id, value);
    if (id == O_JSON)
        c->json = true;
    else if (id == O_VERBOSE)
        c->verbose = true;
    return 0;
}

static int check(const struct server_config *c, const struct options *o)
{
    if (o->word_count > 0)
        return usage_error(PROG, "unexpected argument %s", o->words[0]);
    if (c->listen_count == 0)
        return usage_error(PROG, "--listen is missing");
    if (c->cert == NULL || c->key == NULL)
        return usage_error(PROG, "--cert and --key are both needed");
    if (c->service == SERVICE_NONE)
        return usage_error(PROG, "one of --www, --forward and --echo is needed");
    if (strstr(c->words.text, "policy=off") != NULL && o->seen[O_PATH2_LISTEN])
        return usage_error(PROG, "--policy off and --path2-listen contradict each other");
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
