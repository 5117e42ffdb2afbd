/* The evidence bundle as `mtls-client explain` reads it. Nothing in it is trusted: every number of
 * it is bounded, and what is not printable is replaced. No input or output but the stream that is
 * named. */
#ifndef APPS_EXPLAIN_H
#define APPS_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { BUNDLE_BYTES = 1 << 18, BUNDLE_LINES = 256, BUNDLE_MESSAGES = 32 };

struct bundle_message {
    bool from_server;
    unsigned type;
    uint8_t *data; /* NULL: only its hash was kept */
    size_t len;
};

struct bundle {
    const char *name;
    char *text;
    char *lines[BUNDLE_LINES];
    size_t nlines, nmsg;
    struct bundle_message msgs[BUNDLE_MESSAGES];
};

/* Takes the text (malloc()ed, ended by a zero) over, whatever comes of it. b is zeroed before. 0;
 * -1: no bundle of this version; a number over 0: the line that is damaged. bundle_free() in each
 * case. */
int bundle_parse(struct bundle *b, const char *name, char *text);
void bundle_free(struct bundle *b);
/* The rest of the first line "KEY ..."; "-" without one. */
const char *bundle_value(const struct bundle *b, const char *key);
bool bundle_is(const struct bundle *b, const char *key, const char *word);

/* In words: what happened, who could have done it, and what it does not prove. */
void bundle_explain(FILE *out, const struct bundle *b);
/* explain_resume.c: of a confirmation by resumption. */
void bundle_explain_resume(FILE *out, const struct bundle *b);
/* explain_smkex.c */
void bundle_explain_smkex(FILE *out, const struct bundle *b);
/* Beside the other end's bundle of the same attempt. */
void bundle_compare(FILE *out, const struct bundle *a, const struct bundle *b);

#endif
