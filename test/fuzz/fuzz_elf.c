/* Fuzz target: ELF files of strangers. Whatever is read, every text that comes out ends inside the
 * file, and the look-ups stay in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "apps/mtlsize_elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const uint8_t *data, size_t size, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;

    if (text != NULL &&
        (at < data || at >= data + size || memchr(at, '\0', (size_t)(data + size - at)) == NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_file elf;

    if (elf_read(data, size, &elf) != ELF_FINE)
        return 0;
    if (elf.needed_count > ELF_NEEDED_MAX)
        abort();
    for (size_t i = 0; i < elf.needed_count; i++)
        inside(data, size, elf.needed[i]);
    inside(data, size, elf.interp);
    inside(data, size, elf.soname);
    inside(data, size, elf.rpath);
    inside(data, size, elf.runpath);
    (void)elf_defines(&elf, "SSL_CTX_new");
    (void)elf_has_text(&elf, "libssl.so");
    return 0;
}
