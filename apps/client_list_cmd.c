/* mtls-client --list-paths: the command line, the table and the JSON lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "client_list.h"
#include "complain.h"
#include "json.h"
#include "options.h"
#include "tls_setup.h"

#define PROG "mtls-client"

enum { O_LIST = 1, O_PATH2, O_NEED, O_DEV, O_TIMEOUT, O_JSON, O_HELP, PORT_HTTPS = 443 };

/* clang-format off: a table */
static const struct option_def defs[] = {
    {O_LIST, 0, "list-paths", NULL, "list the second paths to HOST", 0},
    {O_PATH2, 0, "path2", "SPEC", "a configured path, which is listed too; repeatable", OPT_MANY},
    {O_NEED, 0, "need", "K", "so many second paths would be needed (default 1)", 0},
    {O_DEV, 0, "path1-dev", "IFNAME", "path 1's network device", 0},
    {O_TIMEOUT, 0, "timeout", "S", "for look-up and connects, each (default 3)", 0},
    {O_JSON, 0, "json", NULL, "JSON, one object a line", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] =
    "usage: mtls-client --list-paths [flags] HOST[:PORT]\n"
    "Lists the second paths that this machine has to HOST. It connects, and asks for nothing.\n";

struct words_of {
    struct words words;
    const char *dev;
    unsigned long timeout_s;
    bool json;
};

static int handle(void *arg, int id, const char *value)
{
    struct words_of *w = arg;

    switch (id) {
    case O_PATH2:
        return words_add(&w->words, "path2", value) < 0
                   ? usage_error(PROG, "--path2: white space or too long")
                   : 0;
    case O_NEED:
        return words_add(&w->words, "need", value);
    case O_DEV:
        w->dev = value;
        return 0;
    case O_TIMEOUT:
        return number_parse(value, 1, 60, &w->timeout_s) < 0
                   ? usage_error(PROG, "--timeout: %s is not a number from 1 to 60", value)
                   : 0;
    case O_JSON:
        w->json = true;
        return 0;
    default:
        return 0;
    }
}

/* ---- Output ---- */

static const char *kind_word(const struct list_row *r)
{
    static const char *const words[] = {"path1", "device", "configured", "subflow"};

    return r->kind == LIST_CONFIGURED && r->spec.proxy.name[0] != '\0' ? "proxy" : words[r->kind];
}

static const char *scope_word(unsigned scope)
{
    static const char *const words[] = {"", "client", "server", "both"};

    return words[scope & 3u];
}

static void address(const struct mtls_addr *a, bool port, char out[64])
{
    struct mtls_addr b = *a;

    if (!port)
        b.port = 0;
    *out = '\0';
    if (b.family != 0)
        mtls_addr_format(&b, out, 64);
}

static void show_json(const struct list *l, const struct list_row *r)
{
    char local[64], remote[64], shares[128] = "";
    struct json j;
    char *line;

    address(&r->facts.local, false, local);
    address(&r->target, true, remote);
    if (r->kind != LIST_PATH1 && r->facts.known)
        mtls_shared_words(mtls_paths_shared(&l->path1, &r->facts), shares, sizeof shares);
    json_begin(&j);
    json_string(&j, "event", "path");
    json_string(&j, "kind", kind_word(r));
    json_string(&j, "device", r->facts.dev);
    json_string(&j, "local", local);
    json_string(&j, "remote", remote);
    json_number(&j, "family", r->target.family);
    json_string(&j, "spec", r->spec.text);
    json_string(&j, "shares", shares);
    json_string(&j, "scope", r->kind == LIST_PATH1 ? "" : scope_word(r->scope));
    json_bool(&j, "counts", r->counts);
    json_bool(&j, "auto", r->chosen);
    json_string(&j, "why", r->why);
    json_number(&j, "rtt_us", r->rtt_us);
    json_string(&j, "error", r->error != NULL ? r->error : "");
    line = json_end(&j);
    if (line != NULL)
        puts(line);
    free(line);
}

static void show_row(const struct list *l, const struct list_row *r)
{
    char local[64], remote[64], shares[128] = "", rtt[32] = "-";

    address(&r->facts.local, false, local);
    address(&r->target, true, remote);
    if (r->kind != LIST_PATH1 && r->facts.known)
        mtls_shared_words(mtls_paths_shared(&l->path1, &r->facts), shares, sizeof shares);
    if (r->rtt_us > 0)
        snprintf(rtt, sizeof rtt, "%.1f ms", (double)r->rtt_us / 1000.);
    printf("%-10s  %-8s  %-15s  %-21s  %9s  %-6s  %-4s  %s%s%s%s%s%s\n", kind_word(r), r->facts.dev,
           local, remote, rtt,
           r->kind == LIST_PATH1 ? "-"
           : r->counts           ? scope_word(r->scope)
                                 : "no",
           r->chosen ? "auto" : "", r->error != NULL ? r->error : "",
           r->error != NULL && (r->why[0] != '\0' || shares[0] != '\0') ? "; " : "", r->why,
           r->why[0] != '\0' && shares[0] != '\0' ? "; " : "", shares[0] != '\0' ? "shares " : "",
           shares);
}

/* Whether a path counts and answers. */
static int show(const struct list *l, bool as_json)
{
    int rv = EXIT_NETWORK;
    struct json j;
    char *line;

    if (!as_json)
        printf("%-10s  %-8s  %-15s  %-21s  %9s  %-6s  %-4s  %s\n", "PATH", "DEVICE", "FROM", "TO",
               "RTT", "COUNTS", "", "REMARKS");
    for (int i = 0; i < l->count; i++) {
        const struct list_row *r = &l->rows[i];

        if (as_json)
            show_json(l, r);
        else
            show_row(l, r);
        if (r->counts && r->error == NULL)
            rv = EXIT_FINE;
    }
    if (!as_json) {
        printf("Multipath TCP: %s\n", l->mptcp);
        return rv;
    }
    json_begin(&j);
    json_string(&j, "event", "mptcp");
    json_string(&j, "mptcp", l->mptcp);
    line = json_end(&j);
    if (line != NULL)
        puts(line);
    free(line);
    return rv;
}

/* ---- The command ---- */

static int parse_target(const char *text, struct host_port *to)
{
    struct addr literal;

    if (addr_parse(text, PORT_HTTPS, &literal) == 0 || strchr(text, ':') == NULL) {
        if (strlen(text) >= sizeof to->host)
            return -1;
        memcpy(to->host, text, strlen(text) + 1);
        to->port = PORT_HTTPS;
        to->family = AF_UNSPEC;
        return 0;
    }
    return host_port_parse(text, 1, to);
}

static int configure(struct list *l, const struct words_of *w)
{
    char msg[256];

    mtls_config_init(&l->config);
    if (mtls_config_apply(&l->config, w->words.text, msg, sizeof msg) == 0)
        return 0;
    complain(PROG, "%s", msg);
    return -1;
}

int client_list(int argc, char **argv)
{
    static struct list l;
    struct words_of w = {.timeout_s = 3};
    struct options o = {.prog = PROG, .defs = defs};
    struct host_port to;
    const char *why;

    if (options_parse(&o, argc, argv, handle, &w) < 0)
        return EXIT_USAGE;
    if (o.seen[O_HELP]) {
        options_help(&o, stdout, usage);
        return EXIT_FINE;
    }
    if (o.word_count != 1 || parse_target(o.words[0], &to) < 0) {
        usage_error(PROG, "--list-paths takes one HOST or HOST:PORT");
        return EXIT_USAGE;
    }
    if (configure(&l, &w) < 0)
        return EXIT_USAGE;
    if (addr_lookup(to.host, to.port, AF_UNSPEC, (unsigned)w.timeout_s * 1000u, &l.servers, &why) <
        0) {
        complain(PROG, "%s: %s", to.host, why);
        return EXIT_NETWORK;
    }
    if (list_plan(&l, w.dev) < 0) {
        complain(PROG, "%s: no way there", to.host);
        return EXIT_NETWORK;
    }
    list_measure(&l, (unsigned)w.timeout_s * 1000u);
    return show(&l, w.json);
}
