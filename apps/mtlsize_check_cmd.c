/* mtlsize check: the command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtlsize.h"
#include "options.h"

enum { O_JSON = 1, O_HELP };

static const struct option_def defs[] = {
    {O_JSON, 0, "json", NULL, "standard output is JSON, one object a program", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {0, 0, NULL, NULL, NULL, 0},
};

static const char usage[] =
    "usage: mtlsize check [--json] PROGRAM...\n"
    "Says for each program whether Multipath TLS will work without changing it, and if not why.\n"
    "Nothing is executed. Exit code 2: for one of them it will not work.\n\n";

struct wish {
    bool json, help;
};

static int handle(void *arg, int id, const char *value)
{
    struct wish *w = arg;

    w->json = w->json || id == O_JSON;
    w->help = w->help || id == O_HELP;
    return 0;
}

static void print_row(const char *name, const struct check *c, int width)
{
    printf("%-*s  %-8s  %s\n", width, name, verdict_name(c->verdict), c->message);
    for (unsigned i = 0; i < c->note_count; i++)
        printf("%*s  %8s  - %s\n", width, "", "", c->notes[i]);
}

static void print_object(const char *name, const struct check *c)
{
    struct json j;
    char *line;

    json_begin(&j);
    json_string(&j, "event", "check");
    check_json(c, name, &j);
    line = json_end(&j);
    puts(line != NULL ? line : "{}");
    free(line);
}

int mtlsize_check(int argc, char **argv)
{
    struct options o = {.prog = PROG " check", .defs = defs, .max_words = OPTIONS_WORDS_MAX};
    struct wish w = {0};
    int rv = EXIT_FINE, width = 7;

    if (options_parse(&o, argc, argv, handle, &w) < 0)
        return EXIT_USAGE;
    if (w.help) {
        options_help(&o, stdout, usage);
        return EXIT_FINE;
    }
    if (o.word_count == 0) {
        usage_error(o.prog, "no program is named");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < o.word_count; i++)
        if ((int)strlen(o.words[i]) > width && strlen(o.words[i]) <= 40)
            width = (int)strlen(o.words[i]);
    if (!w.json)
        printf("%-*s  %-8s  %s\n", width, "PROGRAM", "VERDICT", "WHY");
    for (size_t i = 0; i < o.word_count; i++) {
        struct check c;
        int failed = check_program(&c, o.words[i]);

        if (w.json)
            print_object(o.words[i], &c);
        else
            print_row(o.words[i], &c, width);
        if (failed < 0)
            rv = EXIT_USAGE;
        else if (c.verdict == VERDICT_NO && rv == EXIT_FINE)
            rv = EXIT_VERIFY;
    }
    return rv;
}
