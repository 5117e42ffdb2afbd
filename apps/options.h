/* Command-line flags from one table: the parser, --help and the manual page's list agree because
 * they read the same rows. Long names are exact (no abbreviations), a flag that may stand once is
 * refused the second time. */
#ifndef APPS_OPTIONS_H
#define APPS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define OPT_MANY 1u /* may be repeated */

struct option_def {
    int id; /* > 0, below OPTIONS_MAX; 0 with a name: a heading in --help; 0 without: the end */
    char letter;      /* short form or 0; letters take no argument */
    const char *name; /* without the dashes */
    const char *arg;  /* what the argument is called; NULL: none */
    const char *help; /* lines separated by \n */
    unsigned flags;
};

#define OPTIONS_MAX        64
#define OPTIONS_POSITIONAL 4
#define OPTIONS_WORDS_MAX  256

struct options {
    const char *prog;
    const struct option_def *defs;
    size_t max_words;  /* 0: OPTIONS_POSITIONAL; at most OPTIONS_WORDS_MAX */
    bool stop_at_word; /* the first word ends the flags: it and the rest belong to somebody else */
    bool seen[OPTIONS_MAX];
    const char *words[OPTIONS_WORDS_MAX]; /* what is not a flag */
    size_t word_count;
    int rest; /* stop_at_word: the index of that word in argv; argc: there is none */
};

/* Called once per flag; value is NULL for a flag without argument. 0, or -1 after a message. */
typedef int option_handler(void *arg, int id, const char *value);

/* 0, or -1 after a message on stderr. */
int options_parse(struct options *o, int argc, char **argv, option_handler *handle, void *arg);
void options_help(const struct options *o, FILE *out, const char *usage);
/* "PROG: TEXT" and where help is, on stderr. Returns -1. */
int usage_error(const char *prog, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Decimal digits alone, min..max. 0 or -1 (nothing is printed). */
int number_parse(const char *text, unsigned long min, unsigned long max, unsigned long *out);

#endif
