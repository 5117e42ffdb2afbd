/* Concept: the interposed calls that start programs. A program that this library cannot be loaded
 * into (static, set-user-ID, of another machine) is noted in the log; it is refused only where the
 * user asked for that, because most such programs make no TLS connection. A program that emptied
 * the environment (nginx before it replaces itself) gets our variables back; one that took
 * LD_PRELOAD away and left the rest meant it. Everything here works in a vfork child: on the stack.
 */
#include <alloca.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "preload.h"

enum { PHDR_MAX = 128, PUT_BACK_MAX = 5 };

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

static bool has_interpreter(int fd, const elf_head *head)
{
    elf_part part;
    unsigned i;

    for (i = 0; i < head->e_phnum && i < PHDR_MAX; i++) {
        if (pread(fd, &part, sizeof(part), (off_t)(head->e_phoff + i * sizeof(part))) !=
            (ssize_t)sizeof(part))
            return true; /* not ours to judge */
        if (part.p_type == PT_INTERP)
            return true;
    }
    return false;
}

static const char *why_not(int fd)
{
    elf_head head;
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return NULL;
    if (((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid()) ||
        ((st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != getgid()))
        return "runs as another user";
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return "has capabilities of its own";
    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return NULL;
    if (head.e_ident[EI_CLASS] != OUR_CLASS)
        return "is built for another machine";
    return has_interpreter(fd, &head) ? NULL : "is linked statically";
}

static int open_at(int dir, const char *path)
{
    return (int)syscall(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* 0, or -1 with errno. */
static int look(int fd, const char *path)
{
    const char *why = fd >= 0 ? why_not(fd) : NULL;
    char text[256];

    if (why == NULL)
        return 0;
    snprintf(text, sizeof(text), "%.180s %s: cannot be protected", path, why);
    preload_log_event(preload_settings.refuse_exec ? "refused" : "notice", "", text);
    if (!preload_settings.refuse_exec)
        return 0;
    errno = EACCES;
    return -1;
}

static int may_exec(const char *path)
{
    int saved = errno, fd, rc;

    if (preload_settings.off || path == NULL)
        return 0;
    fd = open_at(AT_FDCWD, path);
    rc = look(fd, path);
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = rc == 0 ? saved : errno;
    return rc;
}

/* The way execvp() looks for it. */
static int may_exec_named(const char *name)
{
    const char *path = getenv("PATH"), *end;
    char full[PATH_MAX];

    if (name == NULL || strchr(name, '/') != NULL)
        return may_exec(name);
    for (path = path != NULL ? path : "/bin:/usr/bin"; *path != '\0'; path = end + (*end == ':')) {
        end = strchrnul(path, ':');
        if (snprintf(full, sizeof(full), "%.*s/%s", (int)(end - path), path, name) <
                (int)sizeof(full) &&
            access(full, X_OK) == 0)
            return may_exec(full);
    }
    return 0;
}

/* ---- what it is told ---- */

static const char *put_back[PUT_BACK_MAX]; /* "NAME=VALUE", LD_PRELOAD first; NULL: none */
static bool can_put_back;

static void remember(unsigned i, const char *name, const char *value)
{
    char *text;

    if (value != NULL && asprintf(&text, "%s=%s", name, value) > 0)
        put_back[i] = text;
}

void preload_exec_start(void)
{
    const struct preload_settings *s = &preload_settings;
    const char *preload = secure_getenv("LD_PRELOAD");

    can_put_back = !s->off && !s->allow && s->self != NULL && preload != NULL &&
                   strstr(preload, s->self) != NULL;
    remember(0, "LD_PRELOAD", preload);
    remember(1, "MTLS_CONFIG", s->config);
    remember(2, "MTLSIZE_LOG", s->log);
    remember(3, "MTLSIZE_LIBRARY", s->library);
    remember(4, "MTLSIZE_UNHOOKED", s->refuse_exec ? "refuse-exec" : NULL);
}

static bool has(char *const envp[], const char *name)
{
    size_t len = strlen(name);

    for (; envp != NULL && *envp != NULL; envp++)
        if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
            return true;
    return false;
}

static bool emptied(char *const envp[])
{
    return can_put_back && !has(envp, "LD_PRELOAD") && !has(envp, "MTLS_CONFIG");
}

static size_t count(char *const list[])
{
    size_t n = 0;

    while (list != NULL && list[n] != NULL)
        n++;
    return n;
}

/* room: for count(envp) + PUT_BACK_MAX + 1 pointers. */
static char *const *fill(char **room, char *const envp[])
{
    size_t n = count(envp), i;

    if (n > 0)
        memcpy(room, envp, n * sizeof(*room));
    for (i = 0; i < PUT_BACK_MAX; i++)
        if (put_back[i] != NULL)
            room[n++] = (char *)(uintptr_t)put_back[i];
    room[n] = NULL;
    return room;
}

#define ENVIRONMENT(envp)                                                                          \
    (emptied(envp) ? fill(alloca((count(envp) + PUT_BACK_MAX + 1) * sizeof(char *)), envp)         \
                   : (char *const *)(envp))

/* ---- the calls ---- */

PRELOAD_PUBLIC int execve(const char *path, char *const argv[], char *const envp[])
{
    return may_exec(path) != 0 ? -1 : REAL(execve)(path, argv, ENVIRONMENT(envp));
}

PRELOAD_PUBLIC int execv(const char *path, char *const argv[])
{
    return may_exec(path) != 0 ? -1 : REAL(execve)(path, argv, ENVIRONMENT(environ));
}

PRELOAD_PUBLIC int execvpe(const char *name, char *const argv[], char *const envp[])
{
    return may_exec_named(name) != 0 ? -1 : REAL(execvpe)(name, argv, ENVIRONMENT(envp));
}

PRELOAD_PUBLIC int execvp(const char *name, char *const argv[])
{
    return may_exec_named(name) != 0 ? -1 : REAL(execvpe)(name, argv, ENVIRONMENT(environ));
}

PRELOAD_PUBLIC int fexecve(int fd, char *const argv[], char *const envp[])
{
    if (!preload_settings.off && look(fd, "a program") != 0)
        return -1;
    return REAL(fexecve)(fd, argv, ENVIRONMENT(envp));
}

PRELOAD_PUBLIC int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *act,
                               const posix_spawnattr_t *attr, char *const argv[],
                               char *const envp[])
{
    if (may_exec(path) != 0)
        return errno;
    return REAL(posix_spawn)(pid, path, act, attr, argv, ENVIRONMENT(envp));
}

PRELOAD_PUBLIC int posix_spawnp(pid_t *pid, const char *name, const posix_spawn_file_actions_t *act,
                                const posix_spawnattr_t *attr, char *const argv[],
                                char *const envp[])
{
    if (may_exec_named(name) != 0)
        return errno;
    return REAL(posix_spawnp)(pid, name, act, attr, argv, ENVIRONMENT(envp));
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
