/* mtls-client explain BUNDLE [OTHER]: says in words what an evidence bundle shows. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "client_list.h"
#include "complain.h"
#include "explain.h"

/* The whole file, or NULL: it cannot be read, is too long, or has a zero in it. */
static char *read_text(const char *name)
{
    FILE *f = fopen(name, "re");
    char *text = calloc(1, BUNDLE_BYTES + 2);
    size_t len = 0;

    if (f != NULL && text != NULL)
        len = fread(text, 1, BUNDLE_BYTES + 1, f);
    if (f == NULL || text == NULL || len > BUNDLE_BYTES || strlen(text) != len) {
        free(text);
        text = NULL;
    }
    if (f != NULL)
        fclose(f);
    return text;
}

static int bundle_read(struct bundle *b, const char *name)
{
    char *text = read_text(name);
    int rc;

    if (text == NULL) {
        complain(client_prog, "%s cannot be read, or is no evidence bundle", name);
        return -1;
    }
    rc = bundle_parse(b, name, text);
    if (rc < 0)
        complain(client_prog, "%s is no evidence bundle of this version", name);
    else if (rc > 0)
        complain(client_prog, "%s: line %d is damaged", name, rc);
    return rc == 0 ? 0 : -1;
}

static int run(int argc, char **argv)
{
    static struct bundle bundles[2];
    int rv = EXIT_FINE;

    if (argc < 2 || argc > 3) {
        complain(client_prog, "usage: mtls-client explain BUNDLE [OTHER-END'S-BUNDLE]");
        return EXIT_USAGE;
    }
    for (int i = 1; i < argc && rv == EXIT_FINE; i++)
        rv = bundle_read(&bundles[i - 1], argv[i]) == 0 ? EXIT_FINE : EXIT_USAGE;
    if (rv == EXIT_FINE)
        bundle_explain(stdout, &bundles[0]);
    if (rv == EXIT_FINE && argc == 3)
        bundle_compare(stdout, &bundles[0], &bundles[1]);
    bundle_free(&bundles[0]);
    bundle_free(&bundles[1]);
    return rv;
}

bool client_protocol_command(int argc, char **argv, int *rv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--list-paths") == 0) {
            *rv = client_list(argc, argv);
            return true;
        }
    if (argc < 2 || strcmp(argv[1], "explain") != 0)
        return false;
    *rv = run(argc - 1, argv + 1);
    return true;
}
