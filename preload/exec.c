/* Concept: the interposed calls that start programs. A program that this library cannot be loaded
 * into (static, set-user-ID, of another machine) is noted in the log; it is refused only where the
 * user asked for that, because most such programs make no TLS connection. The others get our
 * variables back, and are refused where the loader could not open us (env.c). Everything here works
 * in a vfork child, and with a small stack. */
#include <alloca.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <wordexp.h>

#include "preload.h"

enum { PHDR_MAX = 128, SCRIPTS_MAX = 4, NOTES_MAX = 16 };

/* ---- can it be protected? ---- */

#if __SIZEOF_POINTER__ == 8
#define OUR_CLASS ELFCLASS64
typedef Elf64_Ehdr elf_head;
typedef Elf64_Phdr elf_part;
#else
#define OUR_CLASS ELFCLASS32
typedef Elf32_Ehdr elf_head;
typedef Elf32_Phdr elf_part;
#endif

static const char brings_tls[] = "brings TLS of its own"; /* known by its address */

/* Go makes its system calls itself, linked dynamically too. Several notes may share a segment. */
static bool is_go_note(int fd, const elf_part *part)
{
    uint64_t at = part->p_offset, end = at + part->p_filesz;
    struct {
        Elf32_Nhdr head;
        char name[4];
    } note;
    unsigned i;

    for (i = 0; part->p_type == PT_NOTE && i < NOTES_MAX && at < end; i++) {
        if (pread(fd, &note, sizeof(note), (off_t)at) != (ssize_t)sizeof(note))
            return false;
        if (note.head.n_namesz == sizeof(note.name) && memcmp(note.name, "Go", sizeof("Go")) == 0)
            return true;
        at += sizeof(note.head) + (((uint64_t)note.head.n_namesz + 3) & ~UINT64_C(3)) +
              (((uint64_t)note.head.n_descsz + 3) & ~UINT64_C(3));
    }
    return false;
}

static bool has_interpreter(int fd, const elf_head *head, bool *go)
{
    bool found = false;
    elf_part part;
    unsigned i;

    for (i = 0; i < head->e_phnum && i < PHDR_MAX; i++) {
        if (pread(fd, &part, sizeof(part), (off_t)(head->e_phoff + i * sizeof(part))) !=
            (ssize_t)sizeof(part))
            return true; /* not ours to judge */
        found = found || part.p_type == PT_INTERP;
        *go = *go || is_go_note(fd, &part);
    }
    return found;
}

/* Also where it may only be executed, not read. */
static int open_at(int dir, const char *path, int nofollow)
{
    int fd = (int)syscall(SYS_openat, dir, path,
                          O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | nofollow);

    return fd >= 0 ? fd : (int)syscall(SYS_openat, dir, path, O_PATH | O_CLOEXEC | nofollow);
}

/* "#!": what the kernel starts instead. -1: nothing, or it cannot be opened. */
static int open_interpreter(int fd)
{
    char line[256] = "";
    ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
    size_t at;

    if (n < 3 || memcmp(line, "#!", 2) != 0)
        return -1;
    at = 2 + strspn(line + 2, " \t");
    line[at + strcspn(line + at, " \t\n")] = '\0';
    return open_at(AT_FDCWD, line + at, 0);
}

/* is_elf: whether it is, and not "#!" perhaps. */
static const char *why_not_file(int fd, bool *is_elf)
{
    bool go = false, dynamic;
    elf_head head;
    struct stat st;

    *is_elf = false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return NULL;
    if (((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid()) ||
        ((st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != getgid()))
        return "runs as another user";
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return "has capabilities of its own";
    *is_elf = pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
              memcmp(head.e_ident, ELFMAG, SELFMAG) == 0;
    if (!*is_elf)
        return NULL;
    if (head.e_ident[EI_CLASS] != OUR_CLASS)
        return "is built for another machine";
    dynamic = has_interpreter(fd, &head, &go);
    if ((go || !dynamic) && preload_brings_tls(fd, go))
        return brings_tls;
    return dynamic ? NULL : "is linked statically";
}

static const char *why_not(int fd)
{
    const char *why;
    int at = fd, next;
    unsigned depth;
    bool is_elf;

    for (depth = 0;; depth++) {
        why = why_not_file(at, &is_elf);
        next = why == NULL && !is_elf && depth < SCRIPTS_MAX ? open_interpreter(at) : -1;
        if (at != fd)
            syscall(SYS_close, at);
        if (next < 0)
            return why;
        at = next;
    }
}

static bool is_program(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0;
}

static __attribute__((noinline)) void tell(const char *event, const char *path, const char *why,
                                           const char *more)
{
    char text[256];

    snprintf(text, sizeof(text), "%.160s %s%s", path, why, more);
    preload_log_event(event, "", text);
}

/* 0, or -1 with errno. */
static int look(int fd, const char *path, char *const envp[])
{
    const char *why = fd >= 0 ? why_not(fd) : NULL, *lost = NULL;
    bool tls = why == brings_tls;
    bool refused = preload_settings.refuse_exec || (tls && !preload_settings.allow);

    if (why == NULL && fd >= 0 && is_program(fd))
        lost = preload_env_lost(envp, &refused);
    if (why == NULL && lost == NULL)
        return 0;
    tell(refused ? "refused"
         : tls   ? "unhooked"
                 : "notice",
         path, why != NULL ? why : lost, why != NULL ? ": cannot be protected" : "");
    if (!refused)
        return 0;
    errno = EACCES;
    return -1;
}

static int may_exec_at(int dir, const char *path, char *const envp[], int nofollow)
{
    int saved = errno, fd, rc;

    if (preload_settings.off || path == NULL)
        return 0;
    fd = open_at(dir, path, nofollow);
    rc = look(fd, path, envp);
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = rc == 0 ? saved : errno;
    return rc;
}

static int may_exec(const char *path, char *const envp[])
{
    return may_exec_at(AT_FDCWD, path, envp, 0);
}

/* The way execvp() looks for it. False: it finds nothing. */
static bool find_named(const char *name, char *full, size_t size)
{
    const char *path = getenv("PATH"), *end;

    for (path = path != NULL ? path : "/bin:/usr/bin"; *path != '\0'; path = end + (*end == ':')) {
        end = strchrnul(path, ':');
        if ((size_t)(end - path) + strlen(name) + 2 > size)
            continue;
        stpcpy(stpcpy(mempcpy(full, path, (size_t)(end - path)), "/"), name);
        if (access(full, X_OK) == 0)
            return true;
    }
    return false;
}

static int may_exec_named(const char *name, char *const envp[])
{
    char *full;
    int rc, saved;

    if (name == NULL || strchr(name, '/') != NULL)
        return may_exec(name, envp);
    full = mmap(NULL, PATH_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (full == MAP_FAILED)
        return -1;
    rc = find_named(name, full, PATH_MAX) ? may_exec(full, envp) : 0;
    saved = errno;
    munmap(full, PATH_MAX);
    errno = saved;
    return rc;
}

/* ---- the calls ---- */

/* With our variables in "with". */
#define START(failed, envp, call)                                                                  \
    ({                                                                                             \
        struct preload_room room;                                                                  \
        char *const *with;                                                                         \
        int rc_ = (failed);                                                                        \
                                                                                                   \
        if (preload_env_take(&room, (envp), &with) == 0) {                                         \
            rc_ = (call);                                                                          \
            preload_env_give(&room);                                                               \
        }                                                                                          \
        rc_;                                                                                       \
    })

PRELOAD_PUBLIC int execve(const char *path, char *const argv[], char *const envp[])
{
    return may_exec(path, envp) != 0 ? -1 : START(-1, envp, REAL(execve)(path, argv, with));
}

PRELOAD_PUBLIC int execv(const char *path, char *const argv[])
{
    return may_exec(path, environ) != 0 ? -1 : START(-1, environ, REAL(execve)(path, argv, with));
}

PRELOAD_PUBLIC int execvpe(const char *name, char *const argv[], char *const envp[])
{
    return may_exec_named(name, envp) != 0 ? -1 : START(-1, envp, REAL(execvpe)(name, argv, with));
}

PRELOAD_PUBLIC int execvp(const char *name, char *const argv[])
{
    return may_exec_named(name, environ) != 0 ? -1
                                              : START(-1, environ, REAL(execvpe)(name, argv, with));
}

PRELOAD_PUBLIC int fexecve(int fd, char *const argv[], char *const envp[])
{
    if (!preload_settings.off && look(fd, "a program", envp) != 0)
        return -1;
    return START(-1, envp, REAL(fexecve)(fd, argv, with));
}

PRELOAD_PUBLIC int execveat(int dir, const char *path, char *const argv[], char *const envp[],
                            int flags)
{
    bool itself = path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0;

    if (itself ? !preload_settings.off && look(dir, "a program", envp) != 0
               : may_exec_at(dir, path, envp,
                             (flags & AT_SYMLINK_NOFOLLOW) != 0 ? O_NOFOLLOW : 0) != 0)
        return -1;
    return START(-1, envp, (int)syscall(SYS_execveat, dir, path, argv, with, flags));
}

PRELOAD_PUBLIC int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *act,
                               const posix_spawnattr_t *attr, char *const argv[],
                               char *const envp[])
{
    if (may_exec(path, envp) != 0)
        return errno;
    return START(ENOMEM, envp, REAL(posix_spawn)(pid, path, act, attr, argv, with));
}

PRELOAD_PUBLIC int posix_spawnp(pid_t *pid, const char *name, const posix_spawn_file_actions_t *act,
                                const posix_spawnattr_t *attr, char *const argv[],
                                char *const envp[])
{
    if (may_exec_named(name, envp) != 0)
        return errno;
    return START(ENOMEM, envp, REAL(posix_spawnp)(pid, name, act, attr, argv, with));
}

/* glibc has them since 2.39. */
PRELOAD_PUBLIC int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *act,
                               const posix_spawnattr_t *attr, char *const argv[],
                               char *const envp[]);
PRELOAD_PUBLIC int pidfd_spawnp(int *pidfd, const char *name, const posix_spawn_file_actions_t *act,
                                const posix_spawnattr_t *attr, char *const argv[],
                                char *const envp[]);

int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *act,
                const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    if (REAL(pidfd_spawn) == NULL)
        return ENOSYS;
    if (may_exec(path, envp) != 0)
        return errno;
    return START(ENOMEM, envp, REAL(pidfd_spawn)(pidfd, path, act, attr, argv, with));
}

int pidfd_spawnp(int *pidfd, const char *name, const posix_spawn_file_actions_t *act,
                 const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    if (REAL(pidfd_spawnp) == NULL)
        return ENOSYS;
    if (may_exec_named(name, envp) != 0)
        return errno;
    return START(ENOMEM, envp, REAL(pidfd_spawnp)(pidfd, name, act, attr, argv, with));
}

/* Those that libc starts a shell for, with the program's own environment: it is put right. */
static int may_shell(void)
{
    if (may_exec(_PATH_BSHELL, environ) != 0 || preload_environ_mend() != 0) {
        errno = errno == EACCES ? EACCES : ENOMEM;
        return -1;
    }
    return 0;
}

PRELOAD_PUBLIC int system(const char *command)
{
    return command != NULL && may_shell() != 0 ? -1 : REAL(system)(command);
}

PRELOAD_PUBLIC FILE *popen(const char *command, const char *mode)
{
    return may_shell() != 0 ? NULL : REAL(popen)(command, mode);
}

PRELOAD_PUBLIC int wordexp(const char *words, wordexp_t *out, int flags)
{
    return (flags & WRDE_NOCMD) == 0 && may_shell() != 0 ? WRDE_CMDSUB
                                                         : REAL(wordexp)(words, out, flags);
}

/* The list forms: their words become a vector on the stack. */
#define COLLECT(first, args, argv, n)                                                              \
    do {                                                                                           \
        va_start(args, first);                                                                     \
        for ((n) = 1; va_arg(args, char *) != NULL; (n)++)                                         \
            ;                                                                                      \
        va_end(args);                                                                              \
        (argv) = alloca(((n) + 1) * sizeof(char *));                                               \
        (argv)[0] = (char *)(uintptr_t)(first);                                                    \
        va_start(args, first);                                                                     \
        for ((n) = 1; ((argv)[n] = va_arg(args, char *)) != NULL; (n)++)                           \
            ;                                                                                      \
    } while (0)

PRELOAD_PUBLIC int execl(const char *path, const char *arg, ...)
{
    char **argv;
    va_list args;
    size_t n;

    COLLECT(arg, args, argv, n);
    va_end(args);
    return execv(path, argv);
}

PRELOAD_PUBLIC int execlp(const char *name, const char *arg, ...)
{
    char **argv;
    va_list args;
    size_t n;

    COLLECT(arg, args, argv, n);
    va_end(args);
    return execvp(name, argv);
}

PRELOAD_PUBLIC int execle(const char *path, const char *arg, ...)
{
    char **argv, *const *envp;
    va_list args;
    size_t n;

    COLLECT(arg, args, argv, n);
    envp = va_arg(args, char *const *);
    va_end(args);
    return execve(path, argv, envp);
}
