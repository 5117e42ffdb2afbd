/* Writing one JSON object into memory. */
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct json *j, const char *text, size_t len)
{
    if (j->failed)
        return;
    if (j->cap - j->len < len + 1) {
        size_t cap = (j->len + len + 1) * 2;
        char *grown = realloc(j->text, cap);

        if (grown == NULL) {
            j->failed = true;
            return;
        }
        j->text = grown;
        j->cap = cap;
    }
    memcpy(j->text + j->len, text, len);
    j->len += len;
    j->text[j->len] = '\0';
}

static void put_text(struct json *j, const char *text)
{
    put(j, text, strlen(text));
}

/* The length of the well-formed UTF-8 sequence at s, 0 if it is none. */
static size_t utf8_length(const unsigned char *s)
{
    size_t len = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;

    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

static void put_quoted(struct json *j, const char *value)
{
    const unsigned char *s = (const unsigned char *)value;
    char escape[8];

    put_text(j, "\"");
    while (*s != '\0') {
        size_t len = utf8_length(s);

        if (len == 0) {
            put_text(j, "\\ufffd");
            len = 1;
        } else if (*s == '"' || *s == '\\') {
            put(j, "\\", 1);
            put(j, (const char *)s, 1);
        } else if (*s < 0x20 || *s == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", *s);
            put_text(j, escape);
        } else {
            put(j, (const char *)s, len);
        }
        s += len;
    }
    put_text(j, "\"");
}

static void member(struct json *j, const char *key)
{
    if (j->comma)
        put_text(j, ", ");
    j->comma = true;
    if (key != NULL) {
        put_quoted(j, key);
        put_text(j, ": ");
    }
}

void json_begin(struct json *j)
{
    memset(j, 0, sizeof *j);
    put_text(j, "{");
}

char *json_end(struct json *j)
{
    put_text(j, "}");
    if (j->failed) {
        free(j->text);
        j->text = NULL;
    }
    return j->text;
}

void json_string(struct json *j, const char *key, const char *value)
{
    member(j, key);
    put_quoted(j, value != NULL ? value : "");
}

void json_number(struct json *j, const char *key, uint64_t value)
{
    char digits[24];

    member(j, key);
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    put_text(j, digits);
}

void json_bool(struct json *j, const char *key, bool value)
{
    member(j, key);
    put_text(j, value ? "true" : "false");
}

void json_open(struct json *j, const char *key, char bracket)
{
    member(j, key);
    put(j, &bracket, 1);
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    put(j, &bracket, 1);
    j->comma = true;
}

void json_splice(struct json *j, const char *object)
{
    size_t len = strlen(object);

    if (len <= 2)
        return;
    member(j, NULL);
    put(j, object + 1, len - 2);
}
