/* Reading an evidence bundle, see explain.h. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

const char *bundle_value(const struct bundle *b, const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < b->nlines; i++)
        if (strncmp(b->lines[i], key, len) == 0 && b->lines[i][len] == ' ')
            return b->lines[i] + len + 1;
    return "-";
}

bool bundle_is(const struct bundle *b, const char *key, const char *word)
{
    return strcmp(bundle_value(b, key), word) == 0;
}

static void split_lines(struct bundle *b)
{
    char *rest = b->text, *line;

    while (b->nlines < BUNDLE_LINES && (line = strsep(&rest, "\n")) != NULL) {
        for (char *p = line; *p != '\0'; p++) /* it may end up on a terminal */
            if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
                *p = '?';
        b->lines[b->nlines++] = line;
    }
}

/* "server 11 1234 5678 HASH HEX" */
static int take_message(struct bundle *b, const char *words)
{
    struct bundle_message *m = &b->msgs[b->nmsg];
    char side[8], hash[65], at[24];
    unsigned long len;
    int used = 0;
    long got = 0;

    if (b->nmsg == BUNDLE_MESSAGES ||
        sscanf(words, "%7s %u %lu %23s %64s %n", side, &m->type, &len, at, hash, &used) != 5 ||
        used == 0)
        return -1;
    m->from_server = strcmp(side, "server") == 0;
    if (strcmp(words + used, "-") != 0) {
        m->data = OPENSSL_hexstr2buf(words + used, &got);
        if (m->data == NULL || got < 4 || (unsigned long)got != len) {
            ERR_clear_error();
            OPENSSL_free(m->data);
            return -1;
        }
        m->len = (size_t)got;
    }
    b->nmsg++;
    return 0;
}

int bundle_parse(struct bundle *b, const char *name, char *text)
{
    b->name = name;
    b->text = text;
    split_lines(b);
    if (b->nlines == 0 || strcmp(b->lines[0], "mtls-evidence 1") != 0)
        return -1;
    for (size_t i = 0; i < b->nlines; i++)
        if (strncmp(b->lines[i], "message ", 8) == 0 && take_message(b, b->lines[i] + 8) < 0)
            return (int)i + 1;
    return 0;
}

void bundle_free(struct bundle *b)
{
    for (size_t i = 0; i < b->nmsg; i++)
        OPENSSL_free(b->msgs[i].data);
    free(b->text);
}
