/* Command-line flags from one table. */
#include "options.h"

#include "complain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int usage_error(const char *prog, const char *fmt, ...)
{
    char text[900];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    complain(prog, "%s\n%s --help lists the flags", text, prog);
    return -1;
}

int number_parse(const char *text, unsigned long min, unsigned long max, unsigned long *out)
{
    char *end;

    if (*text < '0' || *text > '9')
        return -1;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return errno == 0 && *end == '\0' && *out >= min && *out <= max ? 0 : -1;
}

static const struct option_def *find_long(const struct options *o, const char *name, size_t len)
{
    for (const struct option_def *d = o->defs; d->name != NULL; d++)
        if (d->id != 0 && strlen(d->name) == len && memcmp(d->name, name, len) == 0)
            return d;
    return NULL;
}

static const struct option_def *find_letter(const struct options *o, char letter)
{
    for (const struct option_def *d = o->defs; d->name != NULL; d++)
        if (d->id != 0 && d->letter == letter)
            return d;
    return NULL;
}

static int apply(struct options *o, const struct option_def *d, const char *value,
                 option_handler *handle, void *arg)
{
    if (o->seen[d->id] && (d->flags & OPT_MANY) == 0)
        return usage_error(o->prog, "--%s is given twice", d->name);
    o->seen[d->id] = true;
    return handle(arg, d->id, value);
}

/* One "--name", "--name=value" or "--name value"; *used counts a value taken from next. */
static int parse_long(struct options *o, const char *text, const char *next, int *used,
                      option_handler *handle, void *arg)
{
    const char *equals = strchr(text, '=');
    size_t len = equals != NULL ? (size_t)(equals - text) : strlen(text);
    const struct option_def *d = find_long(o, text, len);
    const char *value = equals != NULL ? equals + 1 : NULL;

    if (d == NULL)
        return usage_error(o->prog, "unknown flag --%.*s", (int)len, text);
    if (d->arg == NULL && value != NULL)
        return usage_error(o->prog, "--%s takes no argument", d->name);
    if (d->arg != NULL && value == NULL) {
        if (next == NULL)
            return usage_error(o->prog, "--%s needs %s", d->name, d->arg);
        value = next;
        *used = 1;
    }
    if (value != NULL && *value == '\0')
        return usage_error(o->prog, "--%s: empty %s", d->name, d->arg);
    return apply(o, d, value, handle, arg);
}

static int parse_letters(struct options *o, const char *text, option_handler *handle, void *arg)
{
    for (; *text != '\0'; text++) {
        const struct option_def *d = find_letter(o, *text);

        if (d == NULL)
            return usage_error(o->prog, "unknown flag -%c", *text);
        if (apply(o, d, NULL, handle, arg) < 0)
            return -1;
    }
    return 0;
}

static int add_word(struct options *o, const char *word)
{
    if (o->word_count == (o->max_words != 0 ? o->max_words : OPTIONS_POSITIONAL))
        return usage_error(o->prog, "too many arguments: %s", word);
    o->words[o->word_count++] = word;
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, option_handler *handle, void *arg)
{
    bool flags = true;
    int rv = 0;

    o->rest = argc;
    for (int i = 1; i < argc && rv == 0; i++) {
        const char *text = argv[i];
        int used = 0;

        if (o->stop_at_word && (!flags || text[0] != '-' || text[1] == '\0')) {
            o->rest = i;
            break;
        }
        if (!flags || text[0] != '-' || text[1] == '\0')
            rv = add_word(o, text);
        else if (strcmp(text, "--") == 0)
            flags = false;
        else if (text[1] == '-')
            rv = parse_long(o, text + 2, i + 1 < argc ? argv[i + 1] : NULL, &used, handle, arg);
        else
            rv = parse_letters(o, text + 1, handle, arg);
        i += used;
    }
    return rv;
}

static void help_row(FILE *out, const struct option_def *d)
{
    char left[64];
    const char *line = d->help;
    int width;

    width = snprintf(left, sizeof left, "  %c%c%s--%s%s%s", d->letter != 0 ? '-' : ' ',
                     d->letter != 0 ? d->letter : ' ', d->letter != 0 ? ", " : "  ", d->name,
                     d->arg != NULL ? " " : "", d->arg != NULL ? d->arg : "");
    if (width < 30)
        fprintf(out, "%s%*s", left, 30 - width, "");
    else
        fprintf(out, "%s\n%30s", left, "");
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        fprintf(out, "%.*s\n%30s", (int)(end - line), line, "");
    fprintf(out, "%s\n", line);
}

void options_help(const struct options *o, FILE *out, const char *usage)
{
    fputs(usage, out);
    for (const struct option_def *d = o->defs; d->name != NULL; d++) {
        if (d->id == 0)
            fprintf(out, "\n%s\n", d->name);
        else
            help_row(out, d);
    }
}
