/* mtls-client's command line. */
#include <stdio.h>
#include <string.h>

#include <mtls/mtls.h>

#include "client.h"
#include "options.h"

#define PROG "mtls-client"

enum {
    O_GET = 1,
    O_HEAD,
    O_FORWARD,
    O_PATH2,
    O_NEED,
    O_POLICY,
    O_CONFIRM,
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

/* clang-format off: a table */
static const struct option_def defs[] = {
    {0, 0, "What to do (default: standard input and output are the connection):", NULL, NULL, 0},
    {O_GET, 0, "get", "PATH", "fetch PATH by HTTP; the body alone on standard output", 0},
    {O_HEAD, 0, "head", "PATH", "ask for PATH by HTTP HEAD; the exit code is the answer", 0},
    {O_FORWARD, 0, "forward", "ADDR:PORT",
     "accept plain connections here and pass each on to\n"
     "HOST:PORT by Multipath TLS; port 0: any free port",
     0},
    {0, 0, "Multipath TLS:", NULL, NULL, 0},
    {O_PATH2, 0, "path2", "SPEC",
     "a second path: auto, or of local=ADDR,dev=IFNAME,\n"
     "remote=HOST:PORT,port=N,resolver=ADDR,\nvia=socks5h://HOST:PORT,tunnel=yes,\n"
     "distinct=client|server|both; repeatable",
     OPT_MANY},
    {O_NEED, 0, "need", "K", "so many second paths must confirm (default 1)", 0},
    {O_POLICY, 0, "policy", "POLICY",
     "require: no verification, no connection (default with\n"
     "--path2); prefer; off: plain TLS",
     0},
    {O_CONFIRM, 0, "confirm", "WAY",
     "exporter (default): the server's own proof; resume: any\n"
     "TLS 1.3 server with tickets, weaker; auto: either",
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
    {0, 0, "Other:", NULL, NULL, 0},
    {O_JSON, 0, "json", NULL, "standard error is JSON, one object a line", 0},
    {O_VERBOSE, 'v', "verbose", NULL, "show both paths although this is no terminal", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {O_VERSION, 'V', "version", NULL, "the version", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] =
    "usage: mtls-client [flags] HOST:PORT\n"
    "       mtls-client check [flags] [HOST[:PORT] ...]\n"
    "       mtls-client forget --hosts FILE HOST:PORT\n"
    "       mtls-client explain BUNDLE [OTHER]\n"
    "TLS client whose handshakes are confirmed over a second network path (Multipath TLS).\n";

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

static int handle_mtls(struct client_config *c, int id, const char *value)
{
    unsigned long need;

    switch (id) {
    case O_PATH2:
        if (c->path_count == CLIENT_PATHS)
            return usage_error(PROG, "--path2: more than %d", CLIENT_PATHS);
        c->paths[c->path_count++] = value; /* a word once HOST is known */
        return 0;
    case O_NEED:
        if (number("need", value, 1, CLIENT_PATHS, &need) < 0)
            return -1;
        return word(c, "need", "need", value);
    case O_POLICY:
        if (strcmp(value, "require") != 0 && strcmp(value, "prefer") != 0 &&
            strcmp(value, "off") != 0)
            return usage_error(PROG, "--policy: %s is not off, prefer or require", value);
        return word(c, "policy", "policy", value);
    case O_CONFIRM:
        if (strcmp(value, "exporter") != 0 && strcmp(value, "resume") != 0 &&
            strcmp(value, "auto") != 0)
            return usage_error(PROG, "--confirm: %s is not exporter, resume or auto", value);
        return word(c, "confirm", "confirm", value);
    case O_DEADLINE:
        if (number("deadline", value, 100, 120000, &c->deadline_ms) < 0)
            return -1;
        return word(c, "deadline", "deadline", value);
    case O_HOSTS:
        c->hosts = value;
        return word(c, "hosts", "hosts", value);
    case O_EVIDENCE:
        return word(c, "evidence", "evidence", value);
    default:
        return word(c, "config", NULL, value);
    }
}

static int handle_path1(struct client_config *c, int id, const char *value)
{
    switch (id) {
    case O_FILE:
        c->check_file = value;
        return 0;
    case O_JOBS:
        return number("jobs", value, 1, CLIENT_JOBS_MAX, &c->jobs);
    case O_CONNECT:
        c->has_connect = true;
        return addr_parse(value, 0, &c->connect) == 0
                   ? 0
                   : usage_error(PROG, "--connect: %s is not an address", value);
    case O_PATH1_DEV:
        c->device = value;
        return strlen(value) < 16 ? 0 : usage_error(PROG, "--path1-dev: %s is too long", value);
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

static int handle_tls(struct client_config *c, int id, const char *value)
{
    switch (id) {
    case O_CAFILE:
        c->cafile = value;
        return 0;
    case O_CAPATH:
        c->capath = value;
        return 0;
    case O_SERVERNAME:
        c->servername = value;
        return 0;
    case O_CERT:
        c->cert = value;
        return 0;
    case O_KEY:
        c->key = value;
        return 0;
    case O_SESS_IN:
        c->sess_in = value;
        return 0;
    case O_SESS_OUT:
        c->sess_out = value;
        return 0;
    case O_ALPN:
        c->alpn_len = tls_setup_alpn_wire(value, c->alpn);
        return c->alpn_len > 0 ? 0 : usage_error(PROG, "--alpn: bad list %s", value);
    default:
        c->no_verify = true;
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
        return handle_mtls(c, id, value);
    if (id <= O_IDLE_TIMEOUT)
        return handle_path1(c, id, value);
    if (id <= O_NO_VERIFY)
        return handle_tls(c, id, value);
    if (id == O_JSON)
        c->json = true;
    else if (id == O_VERBOSE)
        c->verbose = true;
    return 0;
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
    if (c->has_connect && c->server.family != AF_UNSPEC)
        return usage_error(PROG, "--connect is for a HOST that is a name");
    if (c->family != AF_UNSPEC && c->server.family != AF_UNSPEC && c->family != c->server.family)
        return usage_error(PROG, "HOST is an address of the other family");
    if (c->has_connect && c->family != AF_UNSPEC && c->connect.sa.ss_family != c->family)
        return usage_error(PROG, "--connect: address of the other family");
    return 0;
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
    return o->seen[O_CONFIRM] ? 0 : word(c, "confirm", "confirm", "resume");
}

enum client_config_result client_config_parse(struct client_config *c, int argc, char **argv)
{
    struct options o = {.prog = PROG, .defs = defs, .max_words = OPTIONS_WORDS_MAX};

    memset(c, 0, sizeof *c);
    c->deadline_ms = 10000;
    c->timeout_s = 15;
    c->family = AF_UNSPEC;
    c->jobs = 8;
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
