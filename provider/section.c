/* Concept: a section of openssl.cnf as configuration words. Knows the keys (doc/architecture.md,
 * "Configuration words") but not their meaning; a value must be one word, or it could smuggle in
 * another key. */
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>

#include "provider/internal.h"

/* A key can stand only once in a section: the further values of a list are numbered. */
static const struct {
    const char *name;
    int numbered;
} keys[] = {
    {"policy", 0},      {"path2", 8},       {"need", 0},        {"name", 0},
    {"deadline", 0},    {"grace", 0},       {"early", 0},       {"tfo", 0},
    {"reuse", 0},       {"hosts", 0},       {"resume", 0},      {"reactor", 0},
    {"listen", 8},      {"advertise", 0},   {"address", 8},     {"tls-port", 16},
    {"memory", 0},      {"max-pending", 0}, {"per-source", 0},  {"share", 0},
    {"single-port", 0}, {"confirm", 0},     {"accept", 0},      {"expose-certificate", 0},
    {"alternate", 8},   {"evidence", 0},    {"evidence-of", 0},
};

struct text {
    char *data;
    size_t len;
};

static enum prov_section text_append(struct text *text, const char *name, const char *value)
{
    size_t n = text->len + 1 + strlen(name) + 1 + strlen(value) + 1;
    char *grown;

    if (value[0] == '\0' || strpbrk(value, " \t\r\n\v\f") != NULL)
        return PROV_SECTION_VALUE;
    grown = OPENSSL_realloc(text->data, n);
    if (grown == NULL)
        return PROV_SECTION_NOMEM;
    text->data = grown;
    text->len += (size_t)BIO_snprintf(grown + text->len, n - text->len, "%s%s=%s",
                                      text->len > 0 ? " " : "", name, value);
    return PROV_SECTION_OK;
}

static enum prov_section key_append(struct text *text, prov_section_get *get, const void *arg,
                                    const char *name, int number)
{
    const char *value;
    char key[32];

    if (number == 0)
        BIO_snprintf(key, sizeof(key), "%s", name);
    else
        BIO_snprintf(key, sizeof(key), "%s.%d", name, number);
    value = get(arg, key);
    return value != NULL ? text_append(text, name, value) : PROV_SECTION_OK;
}

enum prov_section prov_section_words(prov_section_get *get, const void *arg, char **out)
{
    struct text text = {OPENSSL_strdup(""), 0};
    enum prov_section rc = text.data != NULL ? PROV_SECTION_OK : PROV_SECTION_NOMEM;

    for (size_t i = 0; rc == PROV_SECTION_OK && i < sizeof(keys) / sizeof(keys[0]); i++)
        for (int n = 0; rc == PROV_SECTION_OK && n <= keys[i].numbered; n++)
            rc = key_append(&text, get, arg, keys[i].name, n);
    if (rc != PROV_SECTION_OK) {
        OPENSSL_free(text.data);
        return rc;
    }
    *out = text.data;
    return PROV_SECTION_OK;
}
