/* mtlsize's ELF reader, over files that test/fuzz/make_corpus.py made: what each says, and that no
 * cut or changed byte of one leads outside of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apps/mtlsize_elf.h"
#include "apps/mtlsize_file.h"

static uint8_t *seed(const char *name, size_t *len)
{
    char path[512];
    uint8_t *data;

    snprintf(path, sizeof path, ELF_SEEDS "/%s", name);
    assert_int_equal(file_load(path, &data, len), 0);
    return data;
}

static void test_what_files_say(void **state)
{
    static const struct {
        const char *name;
        bool is64, big, go, defines;
        const char *interp;
        size_t needed;
        uint16_t machine;
    } files[] = {
        {"libssl", true, false, false, false, "/lib64/ld-linux-x86-64.so.2", 2, 62},
        {"libssl-32-bit", false, false, false, false, "/lib/ld-linux.so.2", 2, 3},
        {"big-endian", true, true, false, false, "/lib/ld64.so.1", 2, 22},
        {"big-endian-32-bit", false, true, false, false, "/lib64/ld-linux-x86-64.so.2", 2, 8},
        {"bundled", true, false, false, true, "/lib64/ld-linux-x86-64.so.2", 1, 62},
        {"static", true, false, false, false, NULL, 0, 62},
        {"go-note", true, false, true, false, NULL, 0, 62},
        {"go-section", true, false, true, false, "/lib64/ld-linux-x86-64.so.2", 1, 62},
        {"go-magic", true, false, true, false, NULL, 0, 62},
        {"no-sections", true, false, false, false, "/lib64/ld-linux-x86-64.so.2", 2, 62},
    };

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct elf_file e;
        size_t len;
        uint8_t *data = seed(files[i].name, &len);

        assert_int_equal(elf_read(data, len, &e), ELF_FINE);
        assert_int_equal(e.is64, files[i].is64);
        assert_int_equal(e.big_endian, files[i].big);
        assert_int_equal(e.is_go, files[i].go);
        assert_int_equal(e.machine, files[i].machine);
        assert_int_equal(e.needed_count, files[i].needed);
        assert_int_equal(e.interp != NULL, files[i].interp != NULL);
        if (e.interp != NULL)
            assert_string_equal(e.interp, files[i].interp);
        if (e.needed_count == 2)
            assert_string_equal(e.needed[0], "libssl.so.3");
        assert_int_equal(elf_defines(&e, "SSL_CTX_new"), files[i].defines);
        free(data);
    }
}

static void test_library(void **state)
{
    struct elf_file e;
    size_t len;
    uint8_t *data = seed("library", &len);

    assert_int_equal(elf_read(data, len, &e), ELF_FINE);
    assert_string_equal(e.soname, "libx.so.1");
    assert_string_equal(e.rpath, "$ORIGIN/a");
    assert_string_equal(e.runpath, "$ORIGIN/b:/c");
    assert_true(elf_has_text(&e, "libx.so") && !elf_has_text(&e, "liby.so"));
    free(data);
    data = seed("libssl", &len);
    assert_int_equal(elf_read(data, len, &e), ELF_FINE);
    assert_true(elf_defines(&e, "main") && !elf_defines(&e, "mai") && !elf_defines(&e, ""));
    free(data);
}

static void test_no_elf(void **state)
{
    struct elf_file e;
    size_t len;
    uint8_t *data = seed("script", &len);

    assert_int_equal(elf_read(data, len, &e), ELF_NOT_ELF);
    assert_int_equal(elf_read(data, 0, &e), ELF_NOT_ELF);
    assert_int_equal(elf_read((const uint8_t *)"\x7f"
                                               "ELF",
                              4, &e),
                     ELF_NOT_ELF);
    free(data);
}

/* A copy that ends where the memory ends, so that a sanitizer sees a step outside. */
static enum elf_result read_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    struct elf_file e;
    enum elf_result rv;

    assert_non_null(copy);
    memcpy(copy, data, len);
    copy = realloc(copy, len > 0 ? len : 1);
    rv = elf_read(copy, len, &e);
    if (rv == ELF_FINE) {
        (void)elf_defines(&e, "SSL_CTX_new");
        (void)elf_has_text(&e, "libssl.so");
    }
    free(copy);
    return rv;
}

static void test_cut(void **state)
{
    static const char *const names[] = {"libssl", "libssl-32-bit", "big-endian", "library",
                                        "go-note"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct elf_file e;
        size_t len, loaded;
        uint8_t *data = seed(names[i], &len);

        assert_int_equal(elf_read(data, len, &e), ELF_FINE);
        loaded = (size_t)e.section_headers; /* what follows is not needed to run */
        assert_true(loaded > 64 && loaded < len);
        for (size_t cut = 0; cut <= len; cut++)
            assert_int_equal(read_copy(data, cut), cut < 16       ? ELF_NOT_ELF
                                                   : cut < loaded ? ELF_BROKEN
                                                                  : ELF_FINE);
        free(data);
    }
}

static void test_changed(void **state)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    size_t len;
    uint8_t *data = seed("library", &len);
    unsigned broken = 0;

    for (size_t at = 0; at < len; at++) {
        uint8_t was = data[at];

        for (size_t v = 0; v < sizeof values; v++) {
            data[at] = values[v];
            broken += read_copy(data, len) == ELF_BROKEN;
        }
        data[at] = was;
    }
    assert_true(broken > 50);
    free(data);
}

/* Counts beyond the bounds, and offsets that would wrap around. */
static void test_bounds(void **state)
{
    struct elf_file e;
    size_t len;
    uint8_t *data = seed("libssl", &len);

    data[56] = (ELF_SEGMENTS_MAX + 1) & 0xff;
    data[57] = (ELF_SEGMENTS_MAX + 1) >> 8;
    assert_int_equal(elf_read(data, len, &e), ELF_BROKEN);
    free(data);
    data = seed("libssl", &len);
    memset(data + 32, 0xff, 8); /* the program headers' offset */
    assert_int_equal(elf_read(data, len, &e), ELF_BROKEN);
    free(data);
    data = seed("libssl", &len);
    memset(data + 40, 0xff, 8); /* the section headers': as if there were none */
    assert_int_equal(elf_read(data, len, &e), ELF_FINE);
    assert_false(elf_defines(&e, "main"));
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_files_say), cmocka_unit_test(test_library),
        cmocka_unit_test(test_no_elf),         cmocka_unit_test(test_cut),
        cmocka_unit_test(test_changed),        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
