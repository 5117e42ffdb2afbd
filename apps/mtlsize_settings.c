/* The configuration words that a command line gives. */
#include "mtlsize_settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/provider.h>

#include "../mtls/ossl/glue.h"
#include "../provider/provider.h"

#define WHITE " \t\r\n\v\f"

int settings_add(struct settings *s, const char *key, const char *value)
{
    int len;

    if (key != NULL && strpbrk(value, WHITE) != NULL)
        return -1;
    len = snprintf(s->text + s->len, sizeof s->text - s->len, "%s%s%s%s", s->len > 0 ? " " : "",
                   key != NULL ? key : "", key != NULL ? "=" : "", value);
    if (len < 0 || (size_t)len >= sizeof s->text - s->len) {
        s->text[s->len] = '\0';
        return -1;
    }
    s->len += (size_t)len;
    return 0;
}

/* Why a word of a file cannot be right by itself; false: it may be. */
static bool word_is_wrong(const char *word, char *msg, size_t msg_len)
{
    static struct mtls_config scratch;
    const char *equals = strchr(word, '=');

    if (equals == NULL || equals == word || equals[1] == '\0') {
        snprintf(msg, msg_len, "\"%s\" is not of the form word=value (no blanks around \"=\")",
                 word);
        return true;
    }
    mtls_config_init(&scratch);
    return mtls_config_apply(&scratch, word, msg, msg_len) != 0;
}

int settings_add_file(struct settings *s, const char *file, char *msg, size_t msg_len)
{
    char *line = NULL, *rest, why[256] = "";
    unsigned number = 0;
    size_t size = 0;
    bool failed;
    FILE *f = fopen(file, "re");

    if (f == NULL) {
        snprintf(msg, msg_len, "%s: %s (words have a \"=\")", file, strerror(errno));
        return -1;
    }
    for (; why[0] == '\0' && getline(&line, &size, f) > 0; number++) {
        line[strcspn(line, "#")] = '\0';
        for (char *w = strtok_r(line, WHITE, &rest); w != NULL && why[0] == '\0';
             w = strtok_r(NULL, WHITE, &rest))
            if (!word_is_wrong(w, why, sizeof why) && settings_add(s, NULL, w) < 0)
                snprintf(why, sizeof why, "too long");
    }
    if (why[0] != '\0')
        snprintf(msg, msg_len, "%s:%u: %s", file, number, why);
    else if (ferror(f))
        snprintf(msg, msg_len, "%s: %s (words have a \"=\")", file, strerror(errno));
    failed = why[0] != '\0' || ferror(f);
    free(line);
    fclose(f);
    return failed ? -1 : 0;
}

int settings_add_config(struct settings *s, const char *value, char *msg, size_t msg_len)
{
    if (strchr(value, '=') != NULL) {
        if (settings_add(s, NULL, value) == 0)
            return 0;
        snprintf(msg, msg_len, "too long");
        return -1;
    }
    return settings_add_file(s, value, msg, msg_len);
}

/* Whether one of the words in text has the key of this one. */
static bool has_key(const char *text, const char *word, size_t word_len)
{
    const char *equals = memchr(word, '=', word_len);
    size_t key = equals != NULL ? (size_t)(equals - word) + 1 : word_len;

    for (const char *at = text; *at != '\0';) {
        size_t len;

        at += strspn(at, WHITE);
        len = strcspn(at, WHITE);
        if (len >= key && strncmp(at, word, key) == 0)
            return true;
        at += len;
    }
    return false;
}

int settings_merge(struct settings *s, const char *under)
{
    struct settings merged = {.len = 0};

    for (const char *at = under != NULL ? under : ""; *at != '\0';) {
        char word[MTLS_CONFIG_TEXT_MAX + 1];
        size_t len;

        at += strspn(at, WHITE);
        len = strcspn(at, WHITE);
        if (len >= sizeof word)
            return -1;
        memcpy(word, at, len);
        word[len] = '\0';
        if (len > 0 && !has_key(s->text, at, len) && settings_add(&merged, NULL, word) < 0)
            return -1;
        at += len;
    }
    if (s->len > 0 && settings_add(&merged, NULL, s->text) < 0)
        return -1;
    *s = merged;
    return 0;
}

int settings_merge_cnf(struct settings *s, char *msg, size_t msg_len)
{
    OSSL_PROVIDER *provider = NULL;
    char *words = NULL;
    int err = mtls_provider_open(NULL, &provider, &words);

    if (err != 0)
        snprintf(msg, msg_len, "openssl.cnf: %s", mtls_error_string(err));
    else if ((err = settings_merge(s, words)) < 0)
        snprintf(msg, msg_len, "the configuration is too long");
    OPENSSL_free(words);
    OSSL_PROVIDER_unload(provider);
    return err == 0 ? 0 : -1;
}

int settings_share(struct settings *s, const char *unit)
{
    static const char suffix[] = ".service";
    size_t len = strlen(unit);
    char name[MTLS_SHARE_NAME_MAX + 1];
    uint32_t hash = 2166136261u; /* FNV-1a: names that are told apart by what is left out */
    bool same;

    if (has_key(s->text, "share=", 6))
        return 0;
    if (len > sizeof suffix - 1 && strcmp(unit + len - (sizeof suffix - 1), suffix) == 0)
        len -= sizeof suffix - 1;
    same = len < sizeof name;
    for (size_t i = 0; i < len; i++) {
        bool legal = isalnum((unsigned char)unit[i]) || unit[i] == '_' || unit[i] == '-';

        hash = (hash ^ (unsigned char)unit[i]) * 16777619u;
        same = same && legal;
        if (i < sizeof name - 1)
            name[i] = legal ? unit[i] : '_';
    }
    name[len < sizeof name - 1 ? len : sizeof name - 1] = '\0';
    if (!same)
        snprintf(name + (len < sizeof name - 10 ? len : sizeof name - 10), 10, "-%08x",
                 (unsigned)hash);
    return settings_add(s, "share", name);
}

int settings_check(const struct settings *s, bool for_unit, struct mtls_config *out, char *msg,
                   size_t msg_len)
{
    int err = mtls_settings_load(out, s->text, msg, msg_len);

    if (err != 0) {
        if (msg[0] == '\0')
            snprintf(msg, msg_len, "%s", mtls_error_string(err));
        return -1;
    }
    if (out->policy == MTLS_POLICY_OFF && has_key(s->text, "policy=", 7))
        snprintf(msg, msg_len,
                 "policy=off switches Multipath TLS off: for that the program needs no mtlsize");
    else if (out->policy == MTLS_POLICY_OFF)
        snprintf(msg, msg_len,
                 "nothing would be confirmed: give --path2 (a client; --path2 auto looks for one) "
                 "or --listen (a server), or configure them in %sopenssl.cnf",
                 for_unit ? "" : "MTLS_CONFIG or ");
    else if (out->single_port && out->ntls_ports == 0)
        snprintf(msg, msg_len,
                 "single-port=on needs tls-port=PORT (--tls-port): on which connections path 2 is "
                 "looked for");
    else if (out->npath2 == 0 && !mtls_config_serves(out))
        snprintf(msg, msg_len,
                 "there is neither a second path (--path2) nor a listener for one (--listen, or "
                 "single-port=on with tls-port=PORT)");
    else
        return 0;
    return -1;
}
