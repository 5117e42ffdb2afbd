/* mtls-client's command line. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "option_settings.h"

#define PROG "mtls-client"

enum {
    O_GET = 1,
    O_HEAD,
    O_FORWARD,
    O_PATH2,
    O_NEED,
    O_POLICY,
    O_CONFIRM,
    O_EXPOSE_REQUEST,
    O_DEADLINE,
    O_HOSTS,
    O_EVIDENCE,
    O_CONFIG,
    O_FILE,
    O_JOBS,
    O_CONNECT,
    O_PATH1_DEV,
    O_PATH1_LOCAL,
    O_MPTCP,
    O_IPV4,
    O_IPV6,
    O_TIMEOUT,
    O_IDLE_TIMEOUT,
    O_CAFILE,
    O_CAPATH,
    O_SERVERNAME,
    O_CERT,
    O_KEY,
    O_ALPN,
    O_SESS_IN,
    O_SESS_OUT,
    O_NO_VERIFY,
    O_JSON,
    O_VERBOSE,
    O_HELP,
    O_VERSION
};

/* clang-format off */
static const struct option_def defs[] = {
    CLIENT_WHAT_ROWS("Multipath TLS"),
    {0, 0, "Multipath TLS:", NULL, NULL, 0},
    CLIENT_PATH2_ROWS,
    {O_POLICY, 0, "policy", "POLICY",
     "require: no verification, no connection (default with\n"
     "--path2); prefer; off: plain TLS",
     0},
    {O_CONFIRM, 0, "confirm", "WAY",
     "exporter (default): the server's own proof; resume: any\n"
     "TLS 1.3 server with tickets, weaker; auto: either",
     0},
    {O_EXPOSE_REQUEST, 0, "expose-request", NULL,
     "with --confirm resume: send --get's request before the\n"
     "verdict, to whoever is on path 1; the answer waits for it",
     0},
    {O_DEADLINE, 0, "deadline", "MS", "from the ClientHello to the decision (default 10000)", 0},
    {O_HOSTS, 0, "hosts", "FILE", "memory of verified hosts", 0},
    {O_EVIDENCE, 0, "evidence", "DIR", "a session that fails leaves a bundle there, for explain",
     0},
    {O_CONFIG, 0, "config", "WORDS", "further configuration words, see mtls.conf(5);\nrepeatable",
     OPT_MANY},
    {0, 0, "With check:", NULL, NULL, 0},
    {O_FILE, 0, "file", "FILE", "servers, one a line; - is standard input", 0},
    {O_JOBS, 0, "jobs", "N", "so many at a time (default 8, at most 64)", 0},
    CLIENT_PATH1_ROWS,
    {0, 0, "TLS:", NULL, NULL, 0},
    {O_CAFILE, 0, "cafile", "FILE", "certificate authorities in PEM (default: the system's)", 0},
    {O_CAPATH, 0, "capath", "DIR", "directory of certificate authorities", 0},
    {O_SERVERNAME, 0, "servername", "NAME", "name in SNI and in the certificate (default: HOST)",
     0},
    {O_CERT, 0, "cert", "FILE", "client certificate chain in PEM", 0},
    {O_KEY, 0, "key", "FILE", "its private key in PEM", 0},
    {O_ALPN, 0, "alpn", "NAME,...", "application protocols to offer", 0},
    {O_SESS_OUT, 0, "sess-out", "FILE", "write the session for resumption (mode 0600)", 0},
    {O_SESS_IN, 0, "sess-in", "FILE", "offer this session for resumption", 0},
    {O_NO_VERIFY, 0, "unsafe-no-verify", NULL, "do not check the server's certificate", 0},
    OTHER_ROWS("show both paths although this is no terminal"),
};
/* clang-format on */

static const char usage[] =
    "usage: mtls-client [flags] HOST:PORT\n"
    "       mtls-client check [flags] [HOST[:PORT] ...]\n"
    "       mtls-client forget --hosts FILE HOST:PORT\n"
    "       mtls-client explain BUNDLE [OTHER]\n"
    "       mtls-client --list-paths [flags] HOST[:PORT]\n"
    "TLS client whose handshakes are confirmed over a second network path (Multipath TLS).\n";

/* clang-format off */
#define FIELD(name) offsetof(struct client_config, name)
static const struct option_setting settings[] = {
    {O_CONFIRM, OPTION_WORD, 0, 0, 0, "confirm", "exporter, resume or auto"},
    {O_EXPOSE_REQUEST, OPTION_ON, FIELD(expose_request), 0, 0, NULL, NULL},
    {O_EVIDENCE, OPTION_WORD, 0, 0, 0, "evidence", NULL},
    {O_FILE, OPTION_TEXT, FIELD(check_file), 0, 0, NULL, NULL},
    {O_JOBS, OPTION_NUMBER, FIELD(jobs), 1, CLIENT_JOBS_MAX, NULL, NULL},
    {O_CAFILE, OPTION_TEXT, FIELD(cafile), 0, 0, NULL, NULL},
    {O_CAPATH, OPTION_TEXT, FIELD(capath), 0, 0, NULL, NULL},
    {O_SERVERNAME, OPTION_TEXT, FIELD(servername), 0, 0, NULL, NULL},
    {O_CERT, OPTION_TEXT, FIELD(cert), 0, 0, NULL, NULL},
    {O_KEY, OPTION_TEXT, FIELD(key), 0, 0, NULL, NULL},
    {O_SESS_IN, OPTION_TEXT, FIELD(sess_in), 0, 0, NULL, NULL},
    {O_SESS_OUT, OPTION_TEXT, FIELD(sess_out), 0, 0, NULL, NULL},
    {O_NO_VERIFY, OPTION_ON, FIELD(no_verify), 0, 0, NULL, NULL},
    CLIENT_SETTINGS
};
/* clang-format on */

static int handle(void *arg, int id, const char *value)
{
    struct client_config *c = arg;
    const struct option_target target = {PROG, defs, settings, c, &c->words};

    switch (id) {
    case O_GET:
        return client_set_request(c, PROG, CLIENT_GET, value);
    case O_HEAD:
        return client_set_request(c, PROG, CLIENT_HEAD, value);
    case O_FORWARD:
        return client_set_forward(c, PROG, value);
    case O_PATH2:
        return client_add_path(c, PROG, value);
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
    case O_ALPN:
        c->alpn_len = tls_setup_alpn_wire(value, c->alpn);
        return c->alpn_len > 0 ? 0 : usage_error(PROG, "--alpn: bad list %s", value);
    default:
        return option_set(&target, id, value) < 0 ? -1 : 0;
    }
}

static bool holds_word(const struct client_config *c, const char *word)
{
    return strstr(c->words.text, word) != NULL;
}

static int check(const struct client_config *c, const struct options *o)
{
    if ((c->cert == NULL) != (c->key == NULL))
        return usage_error(PROG, "--cert and --key belong together");
    if (c->no_verify && (c->cafile != NULL || c->capath != NULL))
        return usage_error(PROG, "--unsafe-no-verify contradicts --cafile and --capath");
    if (holds_word(c, "policy=off") && (c->path_count > 0 || o->seen[O_NEED]))
        return usage_error(PROG, "--policy off contradicts --path2 and --need");
    if (holds_word(c, "policy=off") && o->seen[O_CONFIRM])
        return usage_error(PROG, "--policy off contradicts --confirm");
    if (c->expose_request &&
        (!holds_word(c, "confirm=resume") || (c->mode != CLIENT_GET && c->mode != CLIENT_HEAD)))
        return usage_error(PROG, "--expose-request is for --confirm resume with --get or --head");
    return client_check_addresses(c, PROG);
}

/* check confirms by resumption, whoever it asks; each server's paths are added with its name. */
static int check_words(struct client_config *c, const struct options *o)
{
    if (c->mode != CLIENT_PIPE)
        return usage_error(PROG, "--get, --head, --forward and check exclude each other");
    c->mode = CLIENT_CHECK;
    for (size_t i = 1; i < o->word_count && c->target_count < CLIENT_TARGETS; i++)
        c->targets[c->target_count++] = o->words[i];
    if (o->seen[O_CONFIRM] && !holds_word(c, "confirm=resume"))
        return usage_error(PROG, "check confirms by resumption alone");
    if (c->path_count == 0 && !holds_word(c, "path2="))
        return usage_error(PROG, "check needs --path2");
    if (!o->seen[O_CONFIRM] && words_add(&c->words, "confirm", "resume") < 0)
        return usage_error(PROG, "--config: too long");
    return 0;
}

enum client_config_result client_config_parse(struct client_config *c, int argc, char **argv)
{
    struct options o = {.prog = PROG, .defs = defs, .max_words = OPTIONS_WORDS_MAX};
    int rv;

    client_defaults(c);
    rv = options_start(&o, argc, argv, handle, c, usage, O_HELP, O_VERSION);
    if (rv <= 0)
        return rv < 0 ? CLIENT_CONFIG_BAD : CLIENT_CONFIG_HELP;
    if (o.word_count > 0 && strcmp(o.words[0], "check") == 0)
        return check(c, &o) < 0 || check_words(c, &o) < 0 ? CLIENT_CONFIG_BAD : CLIENT_CONFIG_RUN;
    if (client_target_parse(c, &o) < 0 || check(c, &o) < 0)
        return CLIENT_CONFIG_BAD;
    if (o.seen[O_FILE] || o.seen[O_JOBS]) {
        usage_error(PROG, "--file and --jobs are for check");
        return CLIENT_CONFIG_BAD;
    }
    if (client_paths_add(c, PROG) < 0)
        return CLIENT_CONFIG_BAD;
    if (!o.seen[O_IDLE_TIMEOUT])
        c->idle_s = c->mode == CLIENT_GET || c->mode == CLIENT_HEAD ? 60 : 3600;
    return CLIENT_CONFIG_RUN;
}
