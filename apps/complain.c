/* Errors and warnings before a tool serves or connects (see complain.h). */
#include "complain.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

static bool as_json;

void complain_mode(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        as_json = as_json || strcmp(argv[i], "--json") == 0;
}

static void put(const char *prog, bool error, const char *fmt, va_list ap)
{
    char text[1024], *line;
    struct json j;

    vsnprintf(text, sizeof text, fmt, ap);
    if (!as_json) {
        fprintf(stderr, "%s: %s%s\n", prog, error ? "" : "warning: ", text);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", error ? "error" : "warning");
    if (error) {
        json_string(&j, "outcome", "failed");
        json_string(&j, "reason", "local");
    }
    json_string(&j, "message", text);
    line = json_end(&j);
    if (line != NULL)
        fprintf(stderr, "%s\n", line);
    free(line);
}

void complain(const char *prog, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    put(prog, true, fmt, ap);
    va_end(ap);
}

void complain_warning(const char *prog, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    put(prog, false, fmt, ap);
    va_end(ap);
}
