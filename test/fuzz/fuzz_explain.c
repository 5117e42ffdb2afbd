/* Fuzz target: evidence bundles of strangers. Whatever is in one, explaining it ends, stays in its
 * memory, and puts nothing on the terminal that is no text. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "apps/explain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bundle b = {0};
    char *text, *words = NULL;
    size_t len = 0;
    FILE *out;
    int rc;

    if (size > BUNDLE_BYTES || memchr(data, '\0', size) != NULL ||
        (text = malloc(size + 1)) == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    rc = bundle_parse(&b, "fuzz", text);
    if (b.nlines > BUNDLE_LINES || b.nmsg > BUNDLE_MESSAGES || rc > BUNDLE_LINES)
        abort();
    out = rc == 0 ? open_memstream(&words, &len) : NULL;
    if (out != NULL) {
        bundle_explain(out, &b);
        bundle_compare(out, &b, &b);
        fclose(out);
        for (size_t i = 0; i < len; i++)
            if (words[i] != '\n' && !isprint((unsigned char)words[i]))
                abort();
    }
    free(words);
    bundle_free(&b);
    return 0;
}
