/* Will Multipath TLS work for a program, and if not, why. */
#include "mtlsize_check.h"

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <openssl/opensslv.h>

#include "mtlsize_file.h"
#include "mtlsize_known.h"
#include "mtlsize_libs.h"

#define TEXT_OF(x)   TEXT_OF_(x)
#define TEXT_OF_(x)  #x
#define LIBSSL       "libssl.so." TEXT_OF(OPENSSL_SHLIB_VERSION)
#define SCRIPTS_DEEP 4 /* scripts whose interpreters are scripts */

static void note(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct check *c, enum verdict verdict, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void note(struct check *c, const char *fmt, ...)
{
    va_list ap;

    if (c->note_count == CHECK_NOTES)
        return;
    va_start(ap, fmt);
    vsnprintf(c->notes[c->note_count++], CHECK_NOTE_MAX, fmt, ap);
    va_end(ap);
}

static void say(struct check *c, enum verdict verdict, const char *reason, const char *fmt, ...)
{
    va_list ap;

    c->verdict = verdict;
    c->reason = reason;
    va_start(ap, fmt);
    vsnprintf(c->message, sizeof c->message, fmt, ap);
    va_end(ap);
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {"works", "probably", "no-tls", "no"};

    return names[verdict];
}

/* The loader ignores LD_PRELOAD in a program that gains privileges. */
static bool is_privileged(struct check *c, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return false;
    if (((st.st_mode & S_ISUID) != 0 && st.st_uid != geteuid()) ||
        ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid())) {
        say(c, VERDICT_NO, "set-user-id", "%s runs as another user or group (set-user-ID)", path);
        return true;
    }
    if (getxattr(path, "security.capability", NULL, 0) > 0 && geteuid() != 0) {
        say(c, VERDICT_NO, "file-capabilities", "%s gains capabilities from its file", path);
        return true;
    }
    if ((st.st_mode & S_ISUID) != 0 || getxattr(path, "security.capability", NULL, 0) > 0)
        note(c, "%s gains privileges when another user runs it, who is not protected then", path);
    return false;
}

/* This program's own header says what the preloaded library is made for. */
static bool is_other_machine(const struct elf_file *elf)
{
    uint8_t *data;
    size_t len;
    struct elf_file own;
    bool other = false;

    if (file_load("/proc/self/exe", &data, &len) < 0)
        return false;
    if (elf_read(data, len, &own) == ELF_FINE)
        other = own.is64 != elf->is64 || own.machine != elf->machine ||
                own.big_endian != elf->big_endian;
    free(data);
    return other;
}

/* TLS that is compiled in shows by libssl's functions, or where these were stripped, by texts that
 * only a TLS implementation holds. */
static bool has_own_tls(struct check *c, const struct elf_file *elf, const char *path,
                        bool look_for_texts)
{
    static const struct {
        const char *text, *reason, *what;
    } marks[] = {
        {"third_party/boringssl", "boringssl", "BoringSSL"},
        {"OPENSSL_internal", "boringssl", "BoringSSL"},
        {"ssl/statem/statem_clnt.c", "bundled-openssl", "a copy of OpenSSL"},
        {"TLSv1.3 read encrypted extensions", "bundled-openssl", "a copy of OpenSSL"},
        {"rustls::", "rustls", "rustls"},
        {"/rustls-", "rustls", "rustls"},
    };

    if (elf_defines(elf, "SSL_CTX_new")) {
        bool boring =
            elf_defines(elf, "SSL_CTX_set_custom_verify") || elf_has_text(elf, "OPENSSL_internal");

        say(c, VERDICT_NO, boring ? "boringssl" : "bundled-openssl", "%s brings %s of its own",
            path, boring ? "BoringSSL" : "a copy of OpenSSL");
        return true;
    }
    for (size_t i = 0; look_for_texts && i < sizeof marks / sizeof marks[0]; i++)
        if (elf_has_text(elf, marks[i].text)) {
            say(c, VERDICT_NO, marks[i].reason, "%s brings %s of its own", path, marks[i].what);
            return true;
        }
    return false;
}

static const struct {
    const char *library, *reason, *what;
} others[] = {
    {"libgnutls.so.", "gnutls", "GnuTLS"},
    {"libssl3.so", "nss", "NSS"},
    {"libnss3.so", "nss", "NSS"},
    {"libmbedtls.so", "mbedtls", "Mbed TLS"},
    {"libwolfssl.so", "wolfssl", "wolfSSL"},
    {"libs2n.so", "s2n", "s2n-tls"},
    {"libtls.so", "libressl", "LibreSSL"},
    {"libbearssl.so", "bearssl", "BearSSL"},
    {"libboringssl.so", "boringssl", "BoringSSL"},
    {"libjli.so", "java", "Java's own TLS"},
    {"libjvm.so", "java", "Java's own TLS"},
};

static void note_others(struct check *c, const struct libs *libs)
{
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const struct lib *lib = libs_find(libs, others[i].library);

        if (lib != NULL)
            note(c, "%s is loaded as well (%s); what uses it is not protected", others[i].what,
                 lib->name);
    }
}

static bool judge_others(struct check *c, const struct libs *libs, const char *path)
{
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (libs_find(libs, others[i].library) != NULL) {
            say(c, VERDICT_NO, others[i].reason, "%s uses %s, not libssl", path, others[i].what);
            return true;
        }
    return false;
}

static bool judge_bundled(struct check *c, const struct libs *libs, const struct elf_file *elf,
                          const char *path)
{
    if (has_own_tls(c, elf, path, true))
        return true;
    for (size_t i = 0; i < libs->count; i++)
        if (strncmp(base_name(libs->list[i].name), "libssl.so", 9) != 0 &&
            has_own_tls(c, &libs->list[i].elf, libs->list[i].path, false))
            return true;
    return false;
}

static void judge_libraries(struct check *c, const struct libs *libs, const struct elf_file *elf,
                            const char *path)
{
    const struct lib *ssl = libs_find(libs, "libssl.so.");
    const struct lib *right = libs_find(libs, LIBSSL);

    if (libs->failed)
        say(c, VERDICT_NO, "too-big", "%s needs more libraries than can be looked at", path);
    else if (libs->missing[0] != '\0')
        say(c, VERDICT_NO, "library-missing", "%s needs %s, which is not there", path,
            libs->missing);
    else if (right != NULL && elf_defines(elf, "SSL_CTX_new"))
        has_own_tls(c, elf, path, false);
    else if (right != NULL)
        say(c, VERDICT_WORKS, "", "%s uses %s", path, right->path);
    else if (ssl != NULL)
        say(c, VERDICT_NO, "libssl-version", "%s uses %s; Multipath TLS needs %s", path, ssl->name,
            LIBSSL);
    else if (judge_bundled(c, libs, elf, path))
        return;
    else if (elf_has_text(elf, "libssl.so"))
        say(c, VERDICT_PROBABLY, "dlopen", "%s names libssl and may load it while it runs", path);
    else if (!judge_others(c, libs, path))
        say(c, VERDICT_NO_TLS, "no-tls", "%s loads no TLS library that can be seen from here",
            path);
}

/* What holds whatever libraries there are. True: judged. */
static bool judge_file(struct check *c, const struct elf_file *elf, const char *path)
{
    const char *loader = elf->interp != NULL ? base_name(elf->interp) : NULL;

    if (is_other_machine(elf))
        say(c, VERDICT_NO, "wrong-machine", "%s is for another kind of machine (%d-bit, %u)", path,
            elf->is64 ? 64 : 32, elf->machine);
    else if (elf->is_go)
        say(c, VERDICT_NO, "go", "%s is written in Go, which has TLS of its own", path);
    else if (elf->type != ET_EXEC && elf->type != ET_DYN)
        say(c, VERDICT_NO, "not-a-program", "%s is an ELF file, but no program", path);
    else if (loader == NULL)
        say(c, VERDICT_NO, "static",
            "%s is linked statically: there is no loader that could preload anything", path);
    else if (strncmp(loader, "ld-linux", 8) != 0 && strncmp(loader, "ld64.so", 7) != 0 &&
             strncmp(loader, "ld.so", 5) != 0)
        say(c, VERDICT_NO, "other-libc", "%s is made for another C library (%s)", path,
            elf->interp);
    else if (access(elf->interp, F_OK) < 0)
        say(c, VERDICT_NO, "no-loader", "%s needs the loader %s, which is not there", path,
            elf->interp);
    else
        return false;
    return true;
}

/* The program's plug-in, if one is known, is judged with it. */
static void judge_with_plugin(struct check *c, struct libs *libs, const struct elf_file *elf,
                              const char *path, const char *plugin)
{
    struct elf_file more;
    uint8_t *data = NULL;
    size_t len;

    if (plugin != NULL && file_load(plugin, &data, &len) == 0 &&
        elf_read(data, len, &more) == ELF_FINE) {
        snprintf(c->judged, sizeof c->judged, "%s", plugin);
        libs_add_needed(libs, &more, plugin);
        judge_libraries(c, libs, &more, plugin);
    } else {
        judge_libraries(c, libs, elf, path);
    }
    free(data);
}

/* real: path without links, from which $ORIGIN counts. */
static void judge_elf(struct check *c, const struct elf_file *elf, const char *path,
                      const char *real, const char *plugin)
{
    struct libs *libs = malloc(sizeof *libs);
    const char *text;

    if (libs == NULL) {
        say(c, VERDICT_NO, "memory", "out of memory");
        return;
    }
    libs_begin(libs, NULL);
    libs_add_needed(libs, elf, real);
    judge_with_plugin(c, libs, elf, path, plugin);
    if (c->verdict != VERDICT_NO)
        note_others(c, libs);
    for (unsigned i = 0; (text = known_fallback(base_name(path), elf, i)) != NULL; i++)
        note(c, "%s", text);
    libs_end(libs);
    free(libs);
}

static void unreadable(struct check *c, const char *path)
{
    say(c, VERDICT_NO, "unreadable", "%s: %s", path, strerror(errno));
}

/* One file on the way from the name to the ELF file that decides. 1: go on with next. */
static int judge_step(struct check *c, const char *path, char next[PATH_MAX])
{
    char helper[PATH_MAX], real[PATH_MAX];
    bool instead = false, known;
    struct elf_file elf;
    uint8_t *data;
    size_t len;
    int rv;

    snprintf(c->judged, sizeof c->judged, "%s", path);
    if (realpath(path, real) == NULL || file_load(path, &data, &len) < 0) {
        unreadable(c, path);
        return -1;
    }
    if (known_hint(base_name(path)) != NULL)
        note(c, "%s", known_hint(base_name(path)));
    known = known_helper(path, helper, &instead) || known_helper(real, helper, &instead);
    rv = script_interpreter(data, len, next);
    if (known && instead) {
        note(c, "%s does the TLS of %s", helper, path);
        snprintf(next, PATH_MAX, "%s", helper);
        rv = 1;
    } else if (rv > 0) {
        note(c, "%s is a script: %s is judged; the programs that it starts are not", path, next);
        if (memmem(data, len, "LD_PRELOAD", 10) != NULL)
            note(c, "%s names LD_PRELOAD: if it takes it away, what it starts is not protected",
                 path);
    } else if (rv < 0) {
        say(c, VERDICT_NO, "bad-script", "%s: its first line names no program", path);
    } else if ((rv = elf_read(data, len, &elf)) != ELF_FINE) {
        say(c, VERDICT_NO, rv == ELF_NOT_ELF ? "not-elf" : "broken-elf",
            rv == ELF_NOT_ELF ? "%s is neither a script nor an ELF file"
                              : "%s is damaged: its ELF headers contradict each other",
            path);
    } else if (!is_privileged(c, path) && !judge_file(c, &elf, path)) {
        judge_elf(c, &elf, path, real, known ? helper : NULL);
    }
    free(data);
    return rv;
}

int check_program(struct check *c, const char *name)
{
    char path[PATH_MAX], next[PATH_MAX];
    int rv;

    memset(c, 0, sizeof *c);
    c->reason = "";
    if (program_find(name, path) < 0) {
        bool absent = errno == ENOENT || errno == ENOTDIR;

        say(c, VERDICT_NO, absent ? "not-found" : "not-executable", "%s: %s", name,
            absent ? "no such program" : strerror(errno));
        return -1;
    }
    snprintf(c->path, sizeof c->path, "%s", path);
    for (int deep = 0; deep <= SCRIPTS_DEEP; deep++) {
        rv = judge_step(c, path, next);
        if (rv <= 0)
            return rv < 0 && strcmp(c->reason, "unreadable") == 0 ? -1 : 0;
        if (program_find(next, path) < 0) {
            say(c, VERDICT_NO, "no-interpreter", "%s: its interpreter %s %s", name, next,
                errno == ENOENT || errno == ENOTDIR ? "is not there" : "cannot be executed");
            return 0;
        }
    }
    say(c, VERDICT_NO, "bad-script", "%s: interpreters name interpreters without end", name);
    return 0;
}

void check_json(const struct check *c, const char *name, struct json *j)
{
    json_string(j, "program", name);
    json_string(j, "path", c->path);
    json_string(j, "judged", c->judged);
    json_string(j, "verdict", verdict_name(c->verdict));
    json_string(j, "reason", c->reason);
    json_string(j, "message", c->message);
    json_open(j, "notes", '[');
    for (unsigned i = 0; i < c->note_count; i++)
        json_string(j, NULL, c->notes[i]);
    json_close(j, ']');
}
