/* Concept: the environment of a program that is started: what makes us go with it. A start script
 * that gives LD_PRELOAD another value, loses MTLS_CONFIG or empties the environment gets our words
 * back; one that takes LD_PRELOAD away and keeps the rest, or switches the protection off in so
 * many words, meant it: that is said in the log, or refused. Where the loader could not open us,
 * nothing is started. It works in a vfork child and with a small stack: a large environment is
 * copied into a mapping of the thread's. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

#define LIBRARY_NAME "libmtls-preload.so"

enum { LD_PRELOAD, CONFIG, LOG, LIBRARY, UNHOOKED, WORDS };

static const char *const names[WORDS] = {"LD_PRELOAD", "MTLS_CONFIG", "MTLSIZE_LOG",
                                         "MTLSIZE_LIBRARY", "MTLSIZE_UNHOOKED"};
static const char *ours[WORDS]; /* "NAME=VALUE"; NULL: none */
static struct stat self_file;
static bool active; /* LD_PRELOAD brought us here, and not everything is off */
/* A vfork child shares it and cannot give it back: the next one that this thread starts uses it. */
static __thread struct {
    void *at;
    size_t size; /* 0: none */
} spare __attribute__((tls_model("initial-exec")));

/* Whether the loader of a program that is started now could load this file. access() leaves the
 * capabilities out that another user than root still has, and has no longer in that program. */
static bool can_load(const char *path, struct stat *st)
{
    int saved = errno, fd;
    struct statvfs fs;
    bool can;

    fd = access(path, R_OK) != 0 ? -1
                                 : (int)syscall(SYS_openat, AT_FDCWD, path,
                                                O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    can = fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_size > 0 &&
          (fstatvfs(fd, &fs) != 0 || (fs.f_flag & ST_NOEXEC) == 0);
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = saved;
    return can;
}

/* Our own path, or our file by another; one that depends on the current folder does not count. */
static bool is_self(const char *entry, size_t len)
{
    char path[256];
    struct stat st;

    if (len == strlen(preload_settings.self) && strncmp(entry, preload_settings.self, len) == 0)
        return true;
    if (len >= sizeof(path) || entry[0] != '/')
        return false;
    memcpy(path, entry, len);
    path[len] = '\0';
    return can_load(path, &st) && st.st_dev == self_file.st_dev && st.st_ino == self_file.st_ino;
}

/* Whether the loader finds us by this list, by whichever name, if it can open us at all. */
static bool names_us(const char *list)
{
    const char *separators = " \t\n:";
    size_t len;

    for (; list != NULL && *list != '\0'; list += len + (list[len] != '\0')) {
        len = strcspn(list, separators);
        if (len > 0 && is_self(list, len))
            return true;
    }
    return false;
}

static void remember(unsigned i, const char *value)
{
    char *text;

    if (value != NULL && asprintf(&text, "%s=%s", names[i], value) > 0)
        ours[i] = text;
}

void preload_env_start(void)
{
    const struct preload_settings *s = &preload_settings;
    const char *preload = secure_getenv("LD_PRELOAD");

    active = !s->off && s->self != NULL && stat(s->self, &self_file) == 0 && names_us(preload);
    remember(LD_PRELOAD, preload);
    remember(CONFIG, s->config);
    remember(LOG, s->log);
    remember(LIBRARY, s->library);
    remember(UNHOOKED, s->refuse_exec ? "refuse-exec" : NULL);
}

/* Of several with one name the loader heeds the last. NULL: none, or empty. */
static const char *value_of(char *const envp[], unsigned which)
{
    size_t len = strlen(names[which]);
    const char *found = NULL;

    for (; envp != NULL && *envp != NULL && (found == NULL || which == LD_PRELOAD); envp++)
        if (strncmp(*envp, names[which], len) == 0 && (*envp)[len] == '=')
            found = *envp + len + 1;
    return found != NULL && *found != '\0' ? found : NULL;
}

/* Taken away, and the rest left. */
static bool meant(char *const envp[])
{
    return value_of(envp, LD_PRELOAD) == NULL && value_of(envp, CONFIG) != NULL;
}

const char *preload_env_lost(char *const envp[], bool *refused)
{
    const char *config = value_of(envp, CONFIG), *unhooked = value_of(envp, UNHOOKED);
    struct stat st;

    *refused = preload_settings.refuse_exec;
    if (!active)
        return NULL;
    if (meant(envp) ||
        (preload_settings.allow && (config == NULL || !names_us(value_of(envp, LD_PRELOAD)))))
        return "is started without LD_PRELOAD or MTLS_CONFIG";
    if (!can_load(preload_settings.self, &st)) { /* another root folder or user, or it is gone */
        *refused = !preload_settings.allow;
        return "is started where " LIBRARY_NAME " cannot be opened";
    }
    if (getuid() != geteuid() || getgid() != getegid()) { /* AT_SECURE */
        *refused = !preload_settings.allow;
        return "is started with a borrowed user or group, where LD_PRELOAD is ignored";
    }
    if (preload_says(config, "policy=off"))
        return "is started with policy=off";
    if (!preload_settings.allow && unhooked != NULL &&
        (strcmp(unhooked, "allow") == 0 ||
         (preload_settings.refuse_exec && strcmp(unhooked, "refuse-exec") != 0)))
        return "is started with another MTLSIZE_UNHOOKED";
    return NULL;
}

static size_t count(char *const list[])
{
    size_t n = 0;

    while (list != NULL && list[n] != NULL)
        n++;
    return n;
}

/* "/proc/PID/fd/N#DEVICE.INODE" of a wrapper that is there: mtlsize run inside of mtlsize run. */
static bool is_record(const char *log)
{
    const char *hash = strchr(log, '#');
    char path[64], *end;
    struct stat st;

    if (hash == NULL || strncmp(log, "/proc/", 6) != 0 || (size_t)(hash - log) >= sizeof(path))
        return false;
    memcpy(path, log, (size_t)(hash - log));
    path[hash - log] = '\0';
    return stat(path, &st) == 0 && strtoumax(hash + 1, &end, 10) == st.st_dev && *end == '.' &&
           strtoumax(end + 1, &end, 10) == st.st_ino && *end == '\0';
}

static bool lacks(char *const envp[], unsigned which)
{
    const char *value = value_of(envp, which);
    bool right = value != NULL;

    if (ours[which] == NULL)
        return false;
    if (right && which == LD_PRELOAD)
        right = names_us(value);
    else if (right && which == LOG)
        right = strcmp(value, preload_settings.log) == 0 || is_record(value);
    return !right;
}

static size_t room_for(char *const envp[])
{
    const char *preload = value_of(envp, LD_PRELOAD);
    bool lack = false;
    unsigned i;

    if (!active || preload_settings.allow || meant(envp))
        return 0;
    for (i = 0; i < WORDS; i++)
        lack = lack || lacks(envp, i);
    return !lack ? 0
                 : (count(envp) + WORDS + 1) * sizeof(char *) +
                       (preload != NULL ? strlen(preload) : 0) + strlen(preload_settings.self) +
                       sizeof("LD_PRELOAD=:");
}

/* Every entry of that name goes. */
static size_t drop(char **list, size_t n, unsigned which)
{
    size_t len = strlen(names[which]), i, kept = 0;

    for (i = 0; i < n; i++)
        if (strncmp(list[i], names[which], len) != 0 || list[i][len] != '=')
            list[kept++] = list[i];
    return kept;
}

static char *const *fill(void *room, char *const envp[])
{
    char **list = room, *text;
    const char *preload = value_of(envp, LD_PRELOAD);
    size_t n = count(envp);
    unsigned i;

    text = (char *)(list + n + WORDS + 1);
    if (n > 0)
        memcpy(list, envp, n * sizeof(*list));
    for (i = 0; i < WORDS; i++) {
        if (!lacks(envp, i))
            continue;
        n = drop(list, n, i);
        if (i == LD_PRELOAD && preload != NULL) {
            stpcpy(stpcpy(stpcpy(stpcpy(text, "LD_PRELOAD="), preload), ":"),
                   preload_settings.self);
            list[n++] = text;
        } else {
            list[n++] = (char *)(uintptr_t)ours[i];
        }
    }
    list[n] = NULL;
    return list;
}

int preload_env_take(struct preload_room *room, char *const envp[], char *const **out)
{
    size_t size = room_for(envp);

    room->mapped = size > sizeof(room->small);
    if (room->mapped && spare.size < size) {
        preload_env_give(room);
        spare.at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (spare.at == MAP_FAILED)
            return -1;
        spare.size = size;
    }
    *out = size > 0 ? fill(room->mapped ? spare.at : (void *)room->small, envp) : envp;
    return 0;
}

void preload_env_give(struct preload_room *room)
{
    int saved = errno;

    if (room->mapped && spare.size > 0)
        munmap(spare.at, spare.size);
    if (room->mapped)
        spare.size = 0;
    errno = saved;
}

/* Never freed, because others may be reading it, and setenv() keeps what it finds. */
int preload_environ_mend(void)
{
    size_t size = room_for(environ);
    void *room;

    if (size == 0)
        return 0;
    room = malloc(size);
    if (room == NULL)
        return -1;
    environ = (char **)(uintptr_t)fill(room, environ);
    return 0;
}
