/* What most flags of the clients and servers do to a configuration. */
#include "option_settings.h"

#include <stdint.h>
#include <string.h>

#include <mtls/mtls.h>

static const char *name_of(const struct option_def *defs, int id)
{
    while (defs->id != id)
        defs++;
    return defs->name;
}

/* "off, prefer or require": one of the words but "or". */
static bool is_choice(const char *choices, const char *value)
{
    for (size_t len; *choices != '\0'; choices += len) {
        choices += strspn(choices, ", ");
        if (strncmp(choices, "or ", 3) == 0)
            choices += 3;
        len = strcspn(choices, ", ");
        if (strlen(value) == len && strncmp(choices, value, len) == 0)
            return true;
    }
    return false;
}

int option_set(const struct option_target *t, int id, const char *value)
{
    const struct option_setting *s = t->settings;
    const char *name = name_of(t->defs, id);
    unsigned long number;
    void *field;

    while (s->id != 0 && s->id != id)
        s++;
    if (s->id == 0)
        return 1;
    if (s->max > 0 && number_parse(value, s->min, s->max, &number) < 0)
        return usage_error(t->prog, "--%s: %s is not a number from %lu to %lu", name, value, s->min,
                           s->max);
    if (s->choices != NULL && !is_choice(s->choices, value))
        return usage_error(t->prog, "--%s: %s is not %s", name, value, s->choices);
    field = (uint8_t *)t->config + s->field;
    if (s->kind == OPTION_TEXT)
        memcpy(field, &value, sizeof value);
    if (s->kind == OPTION_ON)
        *(bool *)field = true;
    if (s->kind == OPTION_NUMBER)
        memcpy(field, &number, sizeof number);
    if ((s->kind == OPTION_WORD || s->key != NULL) && words_add(t->words, s->key, value) < 0)
        return usage_error(t->prog, "--%s: white space or too long", name);
    return 0;
}

int options_start(struct options *o, int argc, char **argv, option_handler *handle, void *arg,
                  const char *usage, int help, int version)
{
    if (options_parse(o, argc, argv, handle, arg) < 0)
        return -1;
    if (o->seen[help])
        options_help(o, stdout, usage);
    else if (o->seen[version])
        printf("%s %s\n", o->prog, mtls_version());
    else
        return 1;
    return 0;
}
