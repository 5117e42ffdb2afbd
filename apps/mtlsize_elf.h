/* Reading ELF files that nobody vouches for: bounded, every offset checked, nothing executed. Looks
 * only at what decides whether a preloaded library can work. Pure: bytes in, answers out; what it
 * returns points into those bytes. */
#ifndef APPS_MTLSIZE_ELF_H
#define APPS_MTLSIZE_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_NEEDED_MAX   256
#define ELF_SEGMENTS_MAX 256
#define ELF_SECTIONS_MAX 4096 /* more are taken for none */
#define ELF_DYNAMIC_MAX  4096 /* what follows is not looked at */

enum elf_result {
    ELF_FINE = 0,
    ELF_NOT_ELF = -1, /* no ELF magic */
    ELF_BROKEN = -2   /* ELF, but cut off, contradictory or beyond the bounds */
};

struct elf_file {
    const uint8_t *data;
    size_t len;
    bool is64, big_endian;
    uint16_t type, machine;
    const char *interp; /* the dynamic loader; NULL: none */
    bool dynamic;       /* there is a dynamic section */
    bool is_go;         /* linked by Go's tool chain */
    const char *needed[ELF_NEEDED_MAX];
    size_t needed_count;
    const char *soname, *rpath, *runpath; /* NULL: none */
    /* Where the tables are, for the functions below. */
    uint64_t program_headers, section_headers;
    uint16_t program_header_count, section_header_count, section_names;
};

/* Fills *out; data must live as long as it is used. */
enum elf_result elf_read(const uint8_t *data, size_t len, struct elf_file *out);

/* Whether a symbol of this name is defined (not only used) in the file's symbol tables. */
bool elf_defines(const struct elf_file *elf, const char *symbol);

/* Whether the bytes of text are anywhere in the file. */
bool elf_has_text(const struct elf_file *elf, const char *text);

#endif
