/* mtlsize status: what is configured on this machine, and whether its parts are there. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <mtls/mtls.h>

#include "../mtls/net/hostfile.h"
#include "../mtls/ossl/glue.h"
#include "../provider/provider.h"
#include "mtlsize.h"
#include "mtlsize_file.h"
#include "mtlsize_machine.h"
#include "mtlsize_settings.h"
#include "mtlsize_unit.h"
#include "options.h"

enum { O_ROOT = 1, O_JSON, O_HELP };

static const struct option_def defs[] = {
    {O_ROOT, 0, "root", "DIR", "unit files are beneath DIR", 0},
    {O_JSON, 0, "json", NULL, "standard output is one JSON object", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {0, 0, NULL, NULL, NULL, 0},
};

static const char usage[] =
    "usage: mtlsize status [flags]\n"
    "Says what this machine's configuration of Multipath TLS is. Exit code 1: something of it is\n"
    "wrong or missing.\n\n";

/* Members of the object, or lines. */
struct status {
    const char *root;
    bool json, help, wrong;
    struct json j;
};

static int handle(void *arg, int id, const char *value)
{
    struct status *s = arg;

    if (id == O_ROOT)
        s->root = value;
    s->json = s->json || id == O_JSON;
    s->help = s->help || id == O_HELP;
    return 0;
}

static void row(struct status *s, const char *key, const char *label, const char *value)
{
    if (s->json)
        json_string(&s->j, key, value);
    else
        printf("%-18s%s\n", label, value[0] != '\0' ? value : "-");
}

static void number(struct status *s, const char *key, const char *label, unsigned value)
{
    if (s->json)
        json_number(&s->j, key, value);
    else
        printf("%-18s%u\n", label, value);
}

static void problem(struct status *s, const char *key, const char *text)
{
    s->wrong = true;
    if (s->json)
        json_string(&s->j, key, text);
    else
        printf("%-18s! %s\n", "", text);
}

static void show_openssl_cnf(struct status *s)
{
    const char *env = secure_getenv("OPENSSL_CONF");
    char *file = env != NULL ? OPENSSL_strdup(env) : CONF_get1_default_config_file(), *words = NULL;
    OSSL_PROVIDER *provider = NULL;
    int err = mtls_provider_open(NULL, &provider, &words);

    row(s, "openssl_cnf", "openssl.cnf", file != NULL ? file : "");
    row(s, "openssl_cnf_words", "  its words", words != NULL ? words : "");
    if (err != 0)
        problem(s, "openssl_cnf_error", mtls_error_string(err));
    OSSL_PROVIDER_unload(provider);
    OPENSSL_free(words);
    OPENSSL_free(file);
}

static void show_memory_file(struct status *s, const struct mtls_config *config)
{
    struct mtls_host_record record;
    int err;

    row(s, "hosts", "Memory of hosts", config->hosts);
    if (config->hosts[0] == '\0')
        return;
    err = mtls_hostfile_get(config->hosts, "status.invalid", 443, 0, &record);
    if (err < 0)
        problem(s, "hosts_error", mtls_error_string(err));
}

static const char *policy_name(enum mtls_policy policy)
{
    return policy == MTLS_POLICY_REQUIRE  ? "require"
           : policy == MTLS_POLICY_PREFER ? "prefer"
                                          : "off";
}

/* Not wrong: a modem may come later. */
static void show_lacks(struct status *s, const struct mtls_config *config)
{
    char text[256];

    if (s->json)
        json_open(&s->j, "lacks", '[');
    for (unsigned i = 0; machine_lacks(config, i, text, sizeof text); i++)
        if (text[0] != '\0' && s->json)
            json_string(&s->j, NULL, text);
        else if (text[0] != '\0')
            printf("%-18s(%s)\n", "", text);
    if (s->json)
        json_close(&s->j, ']');
}

static void show_configuration(struct status *s)
{
    static struct mtls_config config;
    static const struct settings none;
    const char *env = secure_getenv("MTLS_CONFIG");
    char why[512] = "";
    int err = mtls_settings_load(&config, none.text, why, sizeof why);

    row(s, "mtls_config", "MTLS_CONFIG", env != NULL ? env : "");
    if (err != 0) {
        problem(s, "config_error", why[0] != '\0' ? why : mtls_error_string(err));
        return;
    }
    row(s, "policy", "Policy", policy_name(config.policy));
    number(s, "paths", "Second paths", config.npath2);
    number(s, "listeners", "Listeners", config.nlisten);
    show_lacks(s, &config);
    show_memory_file(s, &config);
}

/* Loads the module in a library context of its own and asks it. */
static void show_module(struct status *s)
{
    const char *folder = secure_getenv("OPENSSL_MODULES"), *version = "";
    char path[PATH_MAX], text[PATH_MAX + 64];
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, &version, 0),
        OSSL_PARAM_END,
    };
    OSSL_LIB_CTX *libctx = NULL;
    OSSL_PROVIDER *provider = NULL;

    if (folder == NULL)
        folder = OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
    snprintf(path, sizeof path, "%s/mtls.so", folder != NULL ? folder : "");
    if (access(path, R_OK) == 0 && (libctx = OSSL_LIB_CTX_new()) != NULL)
        provider = OSSL_PROVIDER_load(libctx, "mtls");
    if (provider != NULL)
        OSSL_PROVIDER_get_params(provider, params);
    snprintf(text, sizeof text, "%s%s%s", access(path, R_OK) == 0 ? path : "",
             version[0] != '\0' ? ", version " : "", version);
    row(s, "module", "Provider module", text);
    if (access(path, R_OK) == 0 && provider == NULL)
        problem(s, "module_error", "the provider module cannot be loaded");
    OSSL_PROVIDER_unload(provider);
    OSSL_LIB_CTX_free(libctx);
}

static void show_preload(struct status *s)
{
    char path[PATH_MAX], why[PATH_MAX + 64], version[40], text[PATH_MAX + 64];

    if (preload_find(path, why, sizeof why) < 0) {
        row(s, "preload", "Preload library", "");
        problem(s, "preload_error", why);
        return;
    }
    preload_version(path, version, sizeof version);
    snprintf(text, sizeof text, "%s%s%s", path, version[0] != '\0' ? ", version " : "", version);
    row(s, "preload", "Preload library", text);
    if (strcmp(version, MTLS_VERSION_STRING) != 0)
        problem(s, "preload_error", "the preload library is of another version than mtlsize");
}

/* UNIT of ".../UNIT.d/50-mtls.conf". */
static void unit_of(const char *path, char out[256])
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof folder, "%.*s", (int)(base_name(path) - path - 1), path);
    snprintf(out, 256, "%.*s", (int)strlen(base_name(folder)) - 2, base_name(folder));
}

static void wrong_unit(struct status *s, const struct unit *u, const char *why)
{
    char text[2 * PATH_MAX + 1024];

    s->wrong = true;
    snprintf(text, sizeof text, "%s: %s", u->asked, why);
    if (s->json)
        json_string(&s->j, NULL, text);
    else
        printf("%-18s! %s\n", "", text);
}

struct judged {
    struct status *s;
    const struct unit *unit;
};

static void report(void *arg, enum unit_finding finding, const char *text)
{
    const struct judged *j = arg;

    if (finding == UNIT_UNDONE || (finding == UNIT_UNPROTECTED && !j->unit->our_allow))
        wrong_unit(j->s, j->unit, text);
}

/* The library that the drop-in names is there, and stands behind what the unit itself preloads. */
static void judge_library(struct status *s, const struct unit *u, const char *library)
{
    char text[2 * PATH_MAX + 256], escaped[2 * PATH_MAX], *now;

    if (!preload_is_public(library)) {
        snprintf(text, sizeof text, "the drop-in preloads %s, which is not there%s", library,
                 access(library, F_OK) == 0 ? " for every user" : ": it does not start");
        wrong_unit(s, u, text);
    }
    now =
        unit_escape(library, escaped, sizeof escaped) ? preload_append(u->preload, escaped) : NULL;
    if (now != NULL && strcmp(now, u->our_preload) != 0)
        wrong_unit(s, u, "its own LD_PRELOAD has changed since: run mtlsize enable for it again");
    free(now);
}

static void judge_unit(struct status *s, struct unit *u)
{
    struct judged j = {s, u};
    char why[PATH_MAX + 256] = "", library[2 * PATH_MAX] = "";
    const char *last;

    if (unit_read(u, NULL, why, sizeof why) < 0) {
        wrong_unit(s, u, why);
        return;
    }
    if (strcmp(u->asked, u->name) != 0) {
        snprintf(why, sizeof why, "it is another name of %s now: disable it, and enable that",
                 u->name);
        wrong_unit(s, u, why);
        return;
    }
    last = strrchr(u->our_preload, ':');
    if (u->ours >= 0 &&
        unit_expand(u, last != NULL ? last + 1 : u->our_preload, library, sizeof library))
        judge_library(s, u, library);
    unit_judge(u, library, report, &j);
}

/* Its name, the words of its drop-in, and what they come to. */
static void show_unit(struct status *s, struct unit *u, const char *name)
{
    static struct mtls_config config;
    char why[PATH_MAX + 256] = "", words[UNIT_COMMAND_MAX];
    const char *policy = "unknown";
    size_t n = 0;

    (void)unit_read(u, NULL, why, sizeof why); /* judge_unit() says why not */
    for (const char *at = u->our_config; *at != '\0'; at += at[0] == '%' && at[1] == '%' ? 2 : 1)
        words[n++] = *at;
    words[n] = '\0';
    mtls_config_init(&config);
    if (mtls_config_apply(&config, words, NULL, 0) == 0 &&
        mtls_config_finish(&config, NULL, 0) == 0)
        policy = policy_name(config.policy);
    if (s->json)
        json_open(&s->j, NULL, '{');
    row(s, "unit", "Enabled unit", name);
    row(s, "policy", "  its policy", policy);
    row(s, "words", "  its words", words);
    show_lacks(s, &config);
    if (s->json)
        json_close(&s->j, '}');
}

static void each_unit(struct status *s, const glob_t *found, bool judge)
{
    static struct unit u;
    char name[256], why[256];

    for (size_t i = 0; i < found->gl_pathc; i++) {
        unit_of(found->gl_pathv[i], name);
        if (unit_drop_in_is_ours(found->gl_pathv[i]) <= 0 ||
            unit_name(&u, s->root, name, why, sizeof why) < 0)
            continue;
        if (!judge)
            show_unit(s, &u, name);
        else
            judge_unit(s, &u);
    }
}

static void show_units(struct status *s)
{
    static const char *const lists[] = {"units", "units_wrong"};
    char pattern[PATH_MAX];
    glob_t found = {.gl_pathc = 0};
    int rv = snprintf(pattern, sizeof pattern, "%s/etc/systemd/system/*.d/" UNIT_DROP_IN, s->root);

    if (rv < (int)sizeof pattern)
        rv = glob(pattern, 0, NULL, &found);
    for (int i = 0; i < 2; i++) {
        if (s->json)
            json_open(&s->j, lists[i], '[');
        if (rv == 0)
            each_unit(s, &found, i == 1);
        if (s->json)
            json_close(&s->j, ']');
    }
    if (!s->json && (rv != 0 || found.gl_pathc == 0))
        row(s, "", "Enabled units", "");
    if (rv == 0)
        globfree(&found);
}

int mtlsize_status(int argc, char **argv)
{
    static struct status s = {.root = ""};
    struct options o = {.prog = PROG " status", .defs = defs, .max_words = 1};
    char *line;

    if (options_parse(&o, argc, argv, handle, &s) < 0)
        return EXIT_USAGE;
    if (s.help) {
        options_help(&o, stdout, usage);
        return EXIT_FINE;
    }
    if (o.word_count > 0) {
        usage_error(o.prog, "unexpected argument %s", o.words[0]);
        return EXIT_USAGE;
    }
    if (s.json) {
        json_begin(&s.j);
        json_string(&s.j, "event", "status");
    }
    row(&s, "version", "Version", MTLS_VERSION_STRING);
    if (!s.json)
        puts("Programs started by hand:");
    show_openssl_cnf(&s);
    show_configuration(&s);
    if (!s.json)
        puts("On this machine:");
    show_module(&s);
    show_preload(&s);
    show_units(&s);
    if (s.json) {
        line = json_end(&s.j);
        puts(line != NULL ? line : "{}");
        free(line);
    }
    return s.wrong ? EXIT_USAGE : EXIT_FINE;
}
