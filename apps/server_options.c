/* mtls-server's command line. */
#include <stdio.h>
#include <string.h>

#include "option_settings.h"
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

/* clang-format off */
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
    SERVER_SERVICE_ROWS,
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
    SERVER_LIMIT_ROWS,
    OTHER_ROWS("report every session"),
};
/* clang-format on */

static const char usage[] =
    "usage: mtls-server --listen ADDR:PORT --cert FILE --key FILE SERVICE [flags]\n"
    "TLS server whose handshakes are confirmed over a second network path (Multipath TLS).\n";

/* clang-format off */
#define FIELD(name) offsetof(struct server_config, name)
static const struct option_setting settings[] = {
    {O_CERT, OPTION_TEXT, FIELD(cert), 0, 0, NULL, NULL},
    {O_KEY, OPTION_TEXT, FIELD(key), 0, 0, NULL, NULL},
    {O_CLIENT_CA, OPTION_TEXT, FIELD(client_ca), 0, 0, NULL, NULL},
    {O_TICKET_KEY, OPTION_TEXT, FIELD(ticket_key), 0, 0, NULL, NULL},
    {O_EVIDENCE, OPTION_WORD, 0, 0, 0, "evidence", NULL},
    SERVER_SETTINGS
};
/* clang-format on */

static int handle(void *arg, int id, const char *value)
{
    struct server_config *c = arg;
    const struct option_target target = {PROG, defs, settings, c, &c->words};

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
    case O_ALPN:
        c->alpn_len = tls_setup_alpn_wire(value, c->alpn);
        return c->alpn_len > 0 ? 0 : usage_error(PROG, "--alpn: bad list %s", value);
    default:
        return option_set(&target, id, value) < 0 ? -1 : 0;
    }
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
    int rv;

    server_defaults(c);
    rv = options_start(&o, argc, argv, handle, c, usage, O_HELP, O_VERSION);
    if (rv <= 0)
        return rv < 0 ? SERVER_CONFIG_BAD : SERVER_CONFIG_HELP;
    return check(c, &o) < 0 ? SERVER_CONFIG_BAD : SERVER_CONFIG_RUN;
}
