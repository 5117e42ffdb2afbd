/* mtlsize: Multipath TLS for programs that know nothing of it. */
#include "mtlsize.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mtls/mtls.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", mtlsize_run, "run a program with Multipath TLS"},
    {"check", mtlsize_check, "say whether it will work for a program, and if not why"},
    {"enable", mtlsize_enable, "switch it on for a systemd unit"},
    {"disable", mtlsize_disable, "switch it off for a systemd unit"},
    {"status", mtlsize_status, "say what is configured on this machine"},
};

static void print_help(FILE *out)
{
    fputs(
        "usage: mtlsize COMMAND [flags] ...\n"
        "Multipath TLS for programs that know nothing of it: confirms their TLS handshakes over a\n"
        "second network path.\n\nCommands:\n",
        out);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].help);
    fputs("\nFor example:\n"
          "  mtlsize check curl\n"
          "  mtlsize run --path2 dev=wwan0,resolver=192.0.2.53 curl https://www.example/\n"
          "  sudo mtlsize enable nginx --policy prefer --listen 192.0.2.1:914 --tls-port 443\n"
          "\nmtlsize COMMAND --help lists a command's flags, mtlsize --version says the version.\n",
          out);
}

void message(bool json, const char *kind, const char *fmt, ...)
{
    char text[2048];
    struct json j;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!json) {
        fprintf(stderr, PROG ": %s\n", text);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", kind);
    json_string(&j, "message", text);
    print_json(json_end(&j));
}

void print_json(char *line)
{
    fprintf(stderr, "%s\n",
            line != NULL ? line : "{\"event\": \"error\", \"message\": \"memory\"}");
    free(line);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                      strcmp(argv[1], "help") == 0)) {
        print_help(stdout);
        return EXIT_FINE;
    }
    if (argc >= 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("%s %s\n", PROG, MTLS_VERSION_STRING);
        return EXIT_FINE;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argc < 2)
        print_help(stderr);
    else
        fprintf(stderr, PROG ": unknown command %s\n" PROG " --help lists the commands\n", argv[1]);
    return EXIT_USAGE;
}
