/* Concept: SMKEX's configuration words (words.h). */
#include "words.h"

#include <stdio.h>
#include <string.h>

#include "mtls/core/config_internal.h"

static bool has(const char *value, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(value, word, len) == 0;
}

/* A comma-separated list of known names, none twice, into the numbers 1, 2, ... */
static bool parse_list(const char *value, const char *const names[2], uint8_t *n, uint8_t *out)
{
    *n = 0;
    for (;;) {
        size_t len = strcspn(value, ",");
        uint8_t number = has(value, len, names[0]) ? 1 : has(value, len, names[1]) ? 2 : 0;

        if (number == 0 || (*n > 0 && out[0] == number))
            return false;
        out[(*n)++] = number;
        if (value[len] == '\0')
            return true;
        value += len + 1;
    }
}

static bool parse_mode(struct smkex_words *w, const char *value)
{
    w->mode = strcmp(value, "single") == 0 ? SMKEX_MODE_SINGLE : SMKEX_MODE_MULTIPATH;
    return w->mode == SMKEX_MODE_SINGLE || strcmp(value, "multipath") == 0;
}

static bool parse_groups(struct smkex_words *w, const char *value)
{
    static const char *const names[2] = {"x25519", "p256"};

    return parse_list(value, names, &w->ngroups, w->groups);
}

static bool parse_suites(struct smkex_words *w, const char *value)
{
    static const char *const names[2] = {"aes128", "chacha20"};

    return parse_list(value, names, &w->nsuites, w->suites);
}

static bool parse_over(struct smkex_words *w, const char *value)
{
    w->over_mptcp = strcmp(value, "mptcp") == 0 || strcmp(value, "mptcp,connections") == 0;
    w->over_connections = strcmp(value, "mptcp") != 0;
    return w->over_mptcp || strcmp(value, "connections") == 0;
}

static bool parse_pad(struct smkex_words *w, const char *value)
{
    return config_number(value, 0, 16384, &w->pad);
}

static bool parse_file(char out[MTLS_FILE_MAX + 1], const char *value)
{
    size_t len = strlen(value);

    if (len == 0 || len > MTLS_FILE_MAX)
        return false;
    memcpy(out, value, len + 1);
    return true;
}

static bool parse_key(struct smkex_words *w, const char *value)
{
    return parse_file(w->key, value);
}

static bool parse_helper(struct smkex_words *w, const char *value)
{
    return parse_file(w->helper, value);
}

static bool parse_change(struct smkex_words *w, const char *value)
{
    w->vouch = strcmp(value, "vouch") == 0;
    return w->vouch || strcmp(value, "refuse") == 0;
}

static const struct {
    const char *name;
    bool (*parse)(struct smkex_words *w, const char *value);
    const char *hint;
} own[] = {
    {"mode", parse_mode, "not multipath or single"},
    {"groups", parse_groups, "not a list of x25519 and p256"},
    {"suites", parse_suites, "not a list of aes128 and chacha20"},
    {"pad", parse_pad, "not a number from 0 to 16384"},
    {"key", parse_key, "not a file name"},
    {"key-change", parse_change, "not refuse or vouch"},
    {"over", parse_over, "not connections, mptcp or mptcp,connections"},
    {"mptcp-helper", parse_helper, "not a file name"},
};
enum { OWN = sizeof(own) / sizeof(own[0]) };

static const char blanks[] = " \t\r\n\v\f";

/* The index in own[] of the word's key, -1 if it is none of ours. */
static int which(const char *word, size_t len)
{
    const char *equals = memchr(word, '=', len);

    for (int i = 0; equals != NULL && i < OWN; i++)
        if (has(word, (size_t)(equals - word), own[i].name))
            return i;
    return -1;
}

static int take(struct smkex_words *w, int i, const char *word, size_t len,
                const struct config_say *say)
{
    char value[MTLS_FILE_MAX + 1];
    size_t skip = strlen(own[i].name) + 1;

    if (len - skip > MTLS_FILE_MAX)
        return config_fail(say, MTLS_ERR_CONFIG_VALUE, own[i].name, NULL, "too long");
    memcpy(value, word + skip, len - skip);
    value[len - skip] = '\0';
    if (!own[i].parse(w, value))
        return config_fail(say, MTLS_ERR_CONFIG_VALUE, own[i].name, value, "%s", own[i].hint);
    return 0;
}

int smkex_words_parse(struct smkex_words *w, const char *text, char *rest, char *msg,
                      size_t msg_len)
{
    struct config_say say = {.out = msg, .cap = msg_len};
    bool seen[OWN] = {false};
    int rc = 0;

    *w = (struct smkex_words){.over_connections = true,
                              .ngroups = 2,
                              .groups = {SMKEX_GROUP_X25519, SMKEX_GROUP_P256},
                              .nsuites = 2,
                              .suites = {SMKEX_SUITE_AES128, SMKEX_SUITE_CHACHA20}};
    *rest = '\0';
    for (text += strspn(text, blanks); rc == 0 && *text != '\0'; text += strspn(text, blanks)) {
        size_t len = strcspn(text, blanks);
        int i = which(text, len);

        if (i < 0) {
            if (*rest != '\0')
                strcat(rest, " ");
            strncat(rest, text, len);
        } else if (seen[i]) {
            rc = config_fail(&say, MTLS_ERR_CONFIG_CONFLICT, own[i].name, NULL, "given twice");
        } else {
            seen[i] = true;
            rc = take(w, i, text, len, &say);
        }
        text += len;
    }
    return rc;
}
