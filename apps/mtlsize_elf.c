/* Reading ELF files that nobody vouches for. */
#include "mtlsize_elf.h"

#include <elf.h>
#include <string.h>

/* Little or big endian, as the file says. The caller has checked the range. */
static uint64_t number(const struct elf_file *e, uint64_t at, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)e->data[at + (e->big_endian ? size - 1 - i : i)] << (8 * i);
    return value;
}

static bool in_file(const struct elf_file *e, uint64_t at, uint64_t size)
{
    return at <= e->len && size <= e->len - at;
}

static uint16_t half(const struct elf_file *e, uint64_t at)
{
    return (uint16_t)number(e, at, 2);
}

static uint32_t word(const struct elf_file *e, uint64_t at)
{
    return (uint32_t)number(e, at, 4);
}

/* An address, offset or size: 8 bytes in a 64-bit file, 4 in a 32-bit one. */
static uint64_t wide(const struct elf_file *e, uint64_t at)
{
    return number(e, at, e->is64 ? 8 : 4);
}

struct segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, size; /* what of it is in the file */
};

/* False: there is no such segment, or it lies outside of the file. */
static bool segment_get(const struct elf_file *e, uint16_t index, struct segment *out)
{
    uint64_t at = e->program_headers + (uint64_t)index * (e->is64 ? 56 : 32);

    if (index >= e->program_header_count)
        return false;
    out->type = word(e, at);
    out->flags = word(e, at + (e->is64 ? 4 : 24));
    out->offset = wide(e, at + (e->is64 ? 8 : 4));
    out->vaddr = wide(e, at + (e->is64 ? 16 : 8));
    out->size = wide(e, at + (e->is64 ? 32 : 16));
    return in_file(e, out->offset, out->size);
}

struct section {
    uint32_t name, type, link;
    uint64_t offset, size;
};

static bool section_get(const struct elf_file *e, uint32_t index, struct section *out)
{
    uint64_t at = e->section_headers + (uint64_t)index * (e->is64 ? 64 : 40);

    if (index >= e->section_header_count)
        return false;
    out->name = word(e, at);
    out->type = word(e, at + 4);
    out->offset = wide(e, at + (e->is64 ? 24 : 16));
    out->size = wide(e, at + (e->is64 ? 32 : 20));
    out->link = word(e, at + (e->is64 ? 40 : 24));
    return out->type == SHT_NOBITS || in_file(e, out->offset, out->size);
}

/* A string that begins at `at` and ends within [at, end). */
static const char *string_at(const struct elf_file *e, uint64_t at, uint64_t end)
{
    if (at >= end || !in_file(e, at, end - at))
        return NULL;
    return memchr(e->data + at, '\0', (size_t)(end - at)) != NULL ? (const char *)e->data + at
                                                                  : NULL;
}

/* Where the byte of an address is in the file; *end: where its segment ends there. */
static bool address_to_offset(const struct elf_file *e, uint64_t address, uint64_t *at,
                              uint64_t *end)
{
    struct segment s;

    for (uint16_t i = 0; i < e->program_header_count; i++)
        if (segment_get(e, i, &s) && s.type == PT_LOAD && address >= s.vaddr &&
            address - s.vaddr < s.size) {
            *at = s.offset + (address - s.vaddr);
            *end = s.offset + s.size;
            return true;
        }
    return false;
}

static enum elf_result read_header(struct elf_file *e)
{
    uint64_t entry;

    if (e->len < EI_NIDENT || memcmp(e->data, ELFMAG, SELFMAG) != 0)
        return ELF_NOT_ELF;
    e->is64 = e->data[EI_CLASS] == ELFCLASS64;
    e->big_endian = e->data[EI_DATA] == ELFDATA2MSB;
    if ((!e->is64 && e->data[EI_CLASS] != ELFCLASS32) ||
        (!e->big_endian && e->data[EI_DATA] != ELFDATA2LSB) || e->len < (e->is64 ? 64u : 52u))
        return ELF_BROKEN;
    e->type = half(e, 16);
    e->machine = half(e, 18);
    e->program_headers = wide(e, e->is64 ? 32 : 28);
    e->section_headers = wide(e, e->is64 ? 40 : 32);
    entry = e->is64 ? 54 : 42;
    e->program_header_count = half(e, entry + 2);
    e->section_header_count = half(e, entry + 6);
    e->section_names = half(e, entry + 8);
    if (e->program_header_count > ELF_SEGMENTS_MAX)
        return ELF_BROKEN;
    if (e->program_header_count > 0 &&
        (half(e, entry) != (e->is64 ? 56 : 32) ||
         !in_file(e, e->program_headers, (uint64_t)e->program_header_count * half(e, entry))))
        return ELF_BROKEN;
    if (e->section_header_count > 0 && /* not needed to run: taken for absent where wrong */
        (e->section_header_count > ELF_SECTIONS_MAX || half(e, entry + 4) != (e->is64 ? 64 : 40) ||
         !in_file(e, e->section_headers, (uint64_t)e->section_header_count * half(e, entry + 4))))
        e->section_header_count = 0;
    return ELF_FINE;
}

/* The dynamic entry at index of the segment; false: the end. */
static bool dynamic_get(const struct elf_file *e, const struct segment *s, uint64_t index,
                        uint64_t *tag, uint64_t *value)
{
    uint64_t size = e->is64 ? 16 : 8, at = s->offset + index * size;

    if (index >= ELF_DYNAMIC_MAX || index >= s->size / size)
        return false;
    *tag = wide(e, at);
    *value = wide(e, at + size / 2);
    return *tag != DT_NULL;
}

static enum elf_result dynamic_string(struct elf_file *e, uint64_t tag, const char *text)
{
    if (tag == DT_SONAME)
        e->soname = text;
    if (tag == DT_RPATH)
        e->rpath = text;
    if (tag == DT_RUNPATH)
        e->runpath = text;
    if (tag != DT_NEEDED)
        return ELF_FINE;
    if (e->needed_count == ELF_NEEDED_MAX)
        return ELF_BROKEN;
    e->needed[e->needed_count++] = text;
    return ELF_FINE;
}

static enum elf_result read_dynamic(struct elf_file *e, const struct segment *s)
{
    uint64_t tag, value, table = 0, end = 0, size = 0, strings = 0;
    enum elf_result rv = ELF_FINE;
    bool found = false;

    e->dynamic = true;
    for (uint64_t i = 0; dynamic_get(e, s, i, &tag, &value); i++) {
        if (tag == DT_STRTAB)
            found = address_to_offset(e, value, &strings, &end);
        if (tag == DT_STRSZ)
            size = value;
    }
    table = strings;
    if (found && size < end - table)
        end = table + size;
    for (uint64_t i = 0; rv == ELF_FINE && dynamic_get(e, s, i, &tag, &value); i++) {
        const char *text;

        if (tag != DT_NEEDED && tag != DT_SONAME && tag != DT_RPATH && tag != DT_RUNPATH)
            continue;
        text = found && value < end - table ? string_at(e, table + value, end) : NULL;
        rv = text != NULL ? dynamic_string(e, tag, text) : ELF_BROKEN;
    }
    return rv;
}

#define NOTE_ALIGNED(n) (((uint64_t)(n) + 3) & ~(uint64_t)3)

/* Go's linker leaves its build identifier in a note of this name. */
static bool has_go_note(const struct elf_file *e, const struct segment *s)
{
    uint64_t at = s->offset, end = s->offset + s->size;

    while (end - at >= 12) {
        uint64_t name = word(e, at), desc = word(e, at + 4);
        uint64_t size = 12 + NOTE_ALIGNED(name) + NOTE_ALIGNED(desc);

        if (size > end - at)
            return false;
        if (name == 4 && memcmp(e->data + at + 12, "Go", 3) == 0)
            return true;
        at += size;
    }
    return false;
}

/* Where the sections were stripped: the build information's magic, aligned, in what is written to.
 */
static bool has_go_magic(const struct elf_file *e, const struct segment *s)
{
    static const char magic[] = "\xff Go buildinf:";
    const uint8_t *at = e->data + s->offset, *end = at + s->size;

    while ((at = memmem(at, (size_t)(end - at), magic, sizeof magic - 1)) != NULL) {
        if ((at - (e->data + s->offset)) % 16 == 0)
            return true;
        at++;
    }
    return false;
}

static bool has_go_section(const struct elf_file *e)
{
    struct section names, s;

    if (!section_get(e, e->section_names, &names) || names.type != SHT_STRTAB)
        return false;
    for (uint32_t i = 0; i < e->section_header_count; i++) {
        const char *name;

        if (!section_get(e, i, &s) || s.name >= names.size)
            continue;
        name = string_at(e, names.offset + s.name, names.offset + names.size);
        if (name != NULL && strcmp(name, ".go.buildinfo") == 0)
            return true;
    }
    return false;
}

static enum elf_result read_segment(struct elf_file *e, const struct segment *s)
{
    switch (s->type) {
    case PT_INTERP:
        e->interp = string_at(e, s->offset, s->offset + s->size);
        return e->interp != NULL ? ELF_FINE : ELF_BROKEN;
    case PT_DYNAMIC:
        return e->dynamic ? ELF_BROKEN : read_dynamic(e, s);
    case PT_NOTE:
        e->is_go = e->is_go || has_go_note(e, s);
        return ELF_FINE;
    case PT_LOAD:
        if ((s->flags & PF_W) != 0 && e->section_header_count == 0)
            e->is_go = e->is_go || has_go_magic(e, s);
        return ELF_FINE;
    default:
        return ELF_FINE;
    }
}

enum elf_result elf_read(const uint8_t *data, size_t len, struct elf_file *out)
{
    enum elf_result rv;
    struct segment s;

    memset(out, 0, sizeof *out);
    out->data = data;
    out->len = len;
    rv = read_header(out);
    for (uint16_t i = 0; rv == ELF_FINE && i < out->program_header_count; i++)
        rv = segment_get(out, i, &s) ? read_segment(out, &s) : ELF_BROKEN;
    if (rv == ELF_FINE)
        out->is_go = out->is_go || has_go_section(out);
    return rv;
}

static bool table_defines(const struct elf_file *e, const struct section *table,
                          const struct section *strings, const char *symbol)
{
    uint64_t size = e->is64 ? 24 : 16;

    for (uint64_t i = 0; i < table->size / size; i++) {
        uint64_t at = table->offset + i * size;
        uint32_t name = word(e, at);

        if (half(e, at + (e->is64 ? 6 : 14)) != SHN_UNDEF && name < strings->size &&
            strcmp((const char *)e->data + strings->offset + name, symbol) == 0)
            return true;
    }
    return false;
}

bool elf_defines(const struct elf_file *elf, const char *symbol)
{
    struct section table, strings;
    unsigned tables = 0; /* a linker makes one of each kind; more would only cost time */

    for (uint32_t i = 0; i < elf->section_header_count && tables < 2; i++) {
        if (!section_get(elf, i, &table) || (table.type != SHT_DYNSYM && table.type != SHT_SYMTAB))
            continue;
        tables++;
        if (section_get(elf, table.link, &strings) && strings.type == SHT_STRTAB &&
            strings.size > 0 && elf->data[strings.offset + strings.size - 1] == '\0' &&
            table_defines(elf, &table, &strings, symbol))
            return true;
    }
    return false;
}

bool elf_has_text(const struct elf_file *elf, const char *text)
{
    return memmem(elf->data, elf->len, text, strlen(text)) != NULL;
}
