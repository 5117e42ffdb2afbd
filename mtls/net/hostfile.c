/* Concept: the file around the memory of verified hosts. Readers take no lock, since the file is
 * only ever replaced as a whole; a writer holds FILE.lock from its reading to the rename, and
 * writes FILE.tmp, which a crash may leave behind and the next writer removes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "hostfile.h"

enum {
    SUFFIX_MAX = 5, /* ".lock" */
    LOCK_WAIT_MS = 3000,
    LOCK_PAUSE_MS = 16,
};

struct place {
    int dir, lock; /* -1: not open */
    char file[NAME_MAX + 1], lock_file[NAME_MAX + 1], temp_file[NAME_MAX + 1];
};

static void place_close(struct place *p)
{
    if (p->lock >= 0) {
        (void)flock(p->lock, LOCK_UN); /* a process forked meanwhile has it open still */
        (void)close(p->lock);
    }
    if (p->dir >= 0)
        (void)close(p->dir);
    p->dir = p->lock = -1;
}

/* Opens path's folder. 1; 0 when there is none and make is false. */
static int place_open(struct place *p, const char *path, bool make)
{
    char dir[MTLS_FILE_MAX + 1] = ".";
    const size_t len = path != NULL ? strnlen(path, sizeof(dir)) : 0;
    const char *slash, *base;

    p->dir = p->lock = -1;
    if (len == 0 || len == sizeof(dir))
        return MTLS_ERR_ARG;
    slash = strrchr(path, '/');
    base = slash != NULL ? slash + 1 : path;
    if (base[0] == '\0' || strlen(base) > NAME_MAX - SUFFIX_MAX)
        return MTLS_ERR_ARG;
    (void)snprintf(p->file, sizeof(p->file), "%s", base);
    (void)snprintf(p->lock_file, sizeof(p->lock_file), "%.250s.lock", base);
    (void)snprintf(p->temp_file, sizeof(p->temp_file), "%.250s.tmp", base);
    if (slash != NULL)
        (void)snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    p->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dir < 0 && errno == ENOENT && make && (mkdir(dir, 0700) == 0 || errno == EEXIST))
        p->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dir >= 0)
        return 1;
    return errno == ENOENT && !make ? 0 : MTLS_ERR_HOSTS_FILE;
}

/* [MEM-6] A regular file of ours that nobody else may touch. */
static bool is_ours(int fd, struct stat *st)
{
    return fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
           (st->st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

/* Whoever holds it writes for milliseconds, or is stopped: a handshake does not wait for that. */
static int lock_take(int fd)
{
    unsigned waited = 0, pause = 1;

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec ts = {.tv_nsec = pause * 1000000l};

        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK || waited >= LOCK_WAIT_MS)
            return MTLS_ERR_IO;
        (void)nanosleep(&ts, NULL);
        waited += pause;
        pause = pause < LOCK_PAUSE_MS ? pause * 2 : LOCK_PAUSE_MS;
    }
    return 0;
}

static int place_lock(struct place *p)
{
    struct stat st;

    p->lock =
        openat(p->dir, p->lock_file, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (p->lock < 0)
        return errno == ELOOP || errno == EISDIR || errno == ENXIO ? MTLS_ERR_HOSTS_FILE
                                                                   : MTLS_ERR_IO;
    if (!is_ours(p->lock, &st))
        return MTLS_ERR_HOSTS_FILE;
    if ((st.st_mode & 0600) != 0600) /* made under a strange umask */
        (void)fchmod(p->lock, 0600);
    return lock_take(p->lock);
}

/* ---- Reading [MEM-5] ---- */

/* Reads exactly len bytes and the end of the file. */
static int read_all(int fd, char *buf, size_t len)
{
    size_t got = 0;
    char more;

    for (;;) {
        const ssize_t n = got < len ? read(fd, buf + got, len - got) : read(fd, &more, 1);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return MTLS_ERR_HOSTS_FILE;
        if (n == 0)
            return got == len ? 0 : MTLS_ERR_HOSTS_CORRUPT;
        if (got == len)
            return MTLS_ERR_HOSTS_CORRUPT;
        got += (size_t)n;
    }
}

/* 1 and *out; 0 when the file does not exist. */
static int read_memory(const struct place *p, struct mtls_hostmem **out)
{
    struct stat st;
    char *text = NULL;
    size_t len = 0;
    int r = MTLS_ERR_HOSTS_FILE;
    const int fd = openat(p->dir, p->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    *out = NULL;
    if (fd < 0)
        return errno == ENOENT ? 0 : MTLS_ERR_HOSTS_FILE;
    if (!is_ours(fd, &st))
        goto out;
    r = MTLS_ERR_HOSTS_CORRUPT;
    if (st.st_size <= 0 || st.st_size > MTLS_HOSTMEM_TEXT_MAX)
        goto out;
    len = (size_t)st.st_size;
    text = malloc(len);
    r = text != NULL ? read_all(fd, text, len) : MTLS_ERR_NOMEM;
    if (r == 0)
        r = mtls_hostmem_parse(out, text, len);
out:
    (void)close(fd);
    if (text != NULL)
        OPENSSL_cleanse(text, len);
    free(text);
    return r == 0 ? 1 : r;
}

/* ---- Writing ---- */

static bool write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* Under the lock: whatever FILE.tmp there is was left by a crash. */
static int replace_file(const struct place *p, const char *text, size_t len)
{
    int fd;
    bool fine;

    if (unlinkat(p->dir, p->temp_file, 0) != 0 && errno != ENOENT)
        return MTLS_ERR_IO;
    fd = openat(p->dir, p->temp_file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return MTLS_ERR_IO;
    fine = fchmod(fd, 0600) == 0 && write_all(fd, text, len) && fsync(fd) == 0;
    fine = close(fd) == 0 && fine;
    if (!fine || renameat(p->dir, p->temp_file, p->dir, p->file) != 0) {
        (void)unlinkat(p->dir, p->temp_file, 0);
        return MTLS_ERR_IO;
    }
    /* Some file systems cannot sync a folder; they answer EINVAL. */
    return fsync(p->dir) == 0 || errno == EINVAL ? 0 : MTLS_ERR_IO;
}

static int write_memory(const struct place *p, const struct mtls_hostmem *m)
{
    char *text = NULL;
    size_t len = 0;
    int r = mtls_hostmem_format(m, &text, &len);

    if (r == 0)
        r = replace_file(p, text, len);
    if (text != NULL)
        OPENSSL_cleanse(text, len);
    free(text);
    return r;
}

static int new_memory(struct mtls_hostmem **out)
{
    uint8_t key[32];
    int r = MTLS_ERR_IO;

    if (getrandom(key, sizeof(key), 0) == sizeof(key))
        r = mtls_hostmem_new(out, key);
    OPENSSL_cleanse(key, sizeof(key));
    return r;
}

/* ---- The interface ---- */

int mtls_hostfile_get(const char *path, const char *name, uint16_t port, int64_t now_at,
                      struct mtls_host_record *out)
{
    struct place p;
    struct mtls_hostmem *m = NULL;
    int r = place_open(&p, path, false);

    if (r == 1)
        r = read_memory(&p, &m);
    if (r == 1)
        r = mtls_hostmem_get(m, name, port, now_at, out);
    mtls_hostmem_free(m);
    place_close(&p);
    return r;
}

int mtls_hostfile_put(const char *path, const char *name, uint16_t port,
                      const struct mtls_host_record *rec, int64_t now_at)
{
    struct place p;
    struct mtls_hostmem *m = NULL;
    int r = place_open(&p, path, true);

    if (r < 0)
        goto out;
    r = place_lock(&p);
    if (r != 0)
        goto out;
    r = read_memory(&p, &m);
    if (r == 0)
        r = new_memory(&m);
    if (r < 0)
        goto out;
    r = mtls_hostmem_put(m, name, port, rec, now_at);
    if (r == 0)
        r = write_memory(&p, m);
out:
    mtls_hostmem_free(m);
    place_close(&p);
    return r;
}

int mtls_hostfile_forget(const char *path, const char *name, uint16_t port)
{
    struct place p;
    struct mtls_hostmem *m = NULL;
    int r = place_open(&p, path, false);

    if (r != 1)
        goto out;
    r = faccessat(p.dir, p.file, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? 1 : 0;
    if (r == 0 && errno != ENOENT)
        r = MTLS_ERR_HOSTS_FILE;
    if (r == 1)
        r = place_lock(&p);
    else
        goto out;
    if (r == 0)
        r = read_memory(&p, &m);
    if (r == 1)
        r = mtls_hostmem_forget(m, name, port);
    if (r == 1) {
        r = write_memory(&p, m);
        r = r == 0 ? 1 : r;
    }
out:
    mtls_hostmem_free(m);
    place_close(&p);
    return r;
}
