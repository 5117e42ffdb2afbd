/* Concept: reads the JSON files of test/vectors for the unit tests. A file is a list of objects;
 * what is in them is kept as text under a dotted path: "th", "frames.0", "claims.1.path". Any
 * failure here fails the test. Include it after cmocka.h. */
#ifndef MTLS_TEST_VECTORS_H
#define MTLS_TEST_VECTORS_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_PATH_MAX = 96 };

struct vector_entry {
    size_t object;
    char path[VECTOR_PATH_MAX];
    char *value; /* text of a string, number, true or false; null is not kept */
};

struct vectors {
    char *text;
    const char *p; /* reading position */
    size_t nobjects, nentries;
    struct vector_entry *entries;
};

static inline void vectors_expect(struct vectors *v, bool ok)
{
    if (!ok)
        fail_msg("malformed JSON near: %.40s", v->p);
}

static inline char vectors_peek(struct vectors *v)
{
    while (isspace((unsigned char)*v->p))
        v->p++;
    return *v->p;
}

static inline bool vectors_skip(struct vectors *v, char c)
{
    if (vectors_peek(v) != c)
        return false;
    v->p++;
    return true;
}

/* A string without its quotes, or a bare word; the caller frees. Escapes other than \" \\ \/ are
 * refused. */
static inline char *vectors_scalar(struct vectors *v)
{
    bool quoted = vectors_skip(v, '"');
    char *out = calloc(strlen(v->p) + 1, 1);
    size_t n = 0;

    assert_non_null(out);
    while (quoted ? *v->p != '"' : (isalnum((unsigned char)*v->p) || strchr("+-.", *v->p))) {
        vectors_expect(v, *v->p != '\0');
        if (*v->p == '\\') {
            v->p++;
            vectors_expect(v, *v->p != '\0' && strchr("\"\\/", *v->p) != NULL);
        }
        out[n++] = *v->p++;
    }
    vectors_expect(v, quoted || n > 0);
    v->p += quoted;
    return realloc(out, n + 1);
}

static inline void vectors_keep(struct vectors *v, const char *path, char *value)
{
    struct vector_entry *e = realloc(v->entries, (v->nentries + 1) * sizeof *e);

    assert_non_null(e);
    v->entries = e;
    e += v->nentries++;
    e->object = v->nobjects;
    snprintf(e->path, sizeof e->path, "%s", path);
    e->value = value;
}

static inline void vectors_value(struct vectors *v, const char *path)
{
    char open = vectors_peek(v), sub[2 * VECTOR_PATH_MAX];
    bool quoted = open == '"';
    char *text;

    if (open != '{' && open != '[') {
        text = vectors_scalar(v);
        if (quoted || strcmp(text, "null") != 0)
            vectors_keep(v, path, text);
        else
            free(text);
        return;
    }
    v->p++;
    for (size_t i = 0; !vectors_skip(v, open == '{' ? '}' : ']'); i++) {
        vectors_expect(v, i == 0 || vectors_skip(v, ','));
        text = NULL;
        if (open == '{') {
            text = vectors_scalar(v);
            vectors_expect(v, vectors_skip(v, ':'));
            snprintf(sub, sizeof sub, "%s%s%.64s", path, *path != '\0' ? "." : "", text);
        } else {
            snprintf(sub, sizeof sub, "%s%s%zu", path, *path != '\0' ? "." : "", i);
        }
        free(text);
        assert_true(strlen(sub) < VECTOR_PATH_MAX);
        vectors_value(v, sub);
    }
}

static inline char *vectors_slurp(const char *file)
{
    FILE *f = fopen(file, "rb");
    char *text;
    long size;

    if (f == NULL)
        fail_msg("cannot open %s", file);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    size = ftell(f);
    assert_true(size > 0);
    rewind(f);
    text = calloc((size_t)size + 1, 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, f), size);
    fclose(f);
    return text;
}

/* name: "ext" for test/vectors/ext.json. Freed with vectors_free(). */
static inline struct vectors *vectors_load(const char *name)
{
    struct vectors *v = calloc(1, sizeof *v);
    char file[1024];

    assert_non_null(v);
    snprintf(file, sizeof file, "%s/%s.json", VECTORS, name);
    v->text = vectors_slurp(file);
    v->p = v->text;
    vectors_expect(v, vectors_skip(v, '['));
    while (!vectors_skip(v, ']')) {
        vectors_expect(v, v->nobjects == 0 || vectors_skip(v, ','));
        vectors_expect(v, vectors_peek(v) == '{');
        vectors_value(v, "");
        v->nobjects++;
    }
    vectors_expect(v, vectors_peek(v) == '\0');
    assert_true(v->nobjects > 0);
    return v;
}

static inline void vectors_free(struct vectors *v)
{
    for (size_t i = 0; i < v->nentries; i++)
        free(v->entries[i].value);
    free(v->entries);
    free(v->text);
    free(v);
}

/* The text at path of an object; NULL when it is not there. */
static inline const char *vectors_find(const struct vectors *v, size_t object, const char *path)
{
    for (size_t i = 0; i < v->nentries; i++)
        if (v->entries[i].object == object && strcmp(v->entries[i].path, path) == 0)
            return v->entries[i].value;
    return NULL;
}

static inline const char *vectors_str(const struct vectors *v, size_t object, const char *path)
{
    const char *s = vectors_find(v, object, path);

    if (s == NULL)
        fail_msg("vector %zu has no \"%s\"", object, path);
    return s;
}

static inline int64_t vectors_int(const struct vectors *v, size_t object, const char *path)
{
    const char *s = vectors_str(v, object, path);
    char *end;
    long long n;

    if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0)
        return s[0] == 't';
    n = strtoll(s, &end, 10);
    assert_true(*s != '\0' && *end == '\0');
    return n;
}

/* Length of an array of scalars. */
static inline size_t vectors_len(const struct vectors *v, size_t object, const char *path)
{
    char element[2 * VECTOR_PATH_MAX];
    size_t n = 0;

    do
        snprintf(element, sizeof element, "%s.%zu", path, n++);
    while (vectors_find(v, object, element) != NULL);
    return n - 1;
}

static inline int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *d = strchr(digits, tolower((unsigned char)c));

    if (c == '\0' || d == NULL)
        fail_msg("not a hexadecimal digit: %c", c);
    return (int)(d - digits);
}

/* Decodes into out; returns the length. */
static inline size_t hex_decode(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = strlen(hex) / 2;

    assert_true(strlen(hex) % 2 == 0 && n <= cap);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    return n;
}

static inline size_t vectors_hex(const struct vectors *v, size_t object, const char *path,
                                 uint8_t *out, size_t cap)
{
    return hex_decode(vectors_str(v, object, path), out, cap);
}

/* As vectors_hex(), of exactly this length. */
static inline void vectors_bytes(const struct vectors *v, size_t object, const char *path,
                                 uint8_t *out, size_t len)
{
    assert_int_equal(vectors_hex(v, object, path, out, len), len);
}

#endif
