/* Concept: the log: one JSON object a line, one write() a line, into a file that every process of
 * the tree appends to; never to a descriptor that the program has given another meaning. Under
 * mtlsize run that file is in memory, without a name: it is found by the wrapper's descriptor, and
 * written to as long as the wrapper holds it locked. A line that cannot be written is counted in
 * its first page, which stays mapped whatever the program closes. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

enum { LINE_MAX_LEN = 4095, FD_HIGH = 200 };

struct file {
    dev_t dev;
    ino_t ino;
    bool known;
};

static int log_fd = -1; /* atomic */
static struct file log_file, stderr_file;
static struct {
    char path[64]; /* "": the log is a file with a name */
    uintmax_t dev, ino;
    struct preload_record *head; /* shared; NULL: it was never there */
} record;

static struct file file_of(int fd)
{
    struct stat st;
    struct file f = {0};

    if (fd >= 0 && fstat(fd, &st) == 0)
        f = (struct file){st.st_dev, st.st_ino, true};
    return f;
}

static bool same(const struct file *a, const struct file *b)
{
    return a->known && b->known && a->dev == b->dev && a->ino == b->ino;
}

/* "/proc/PID/fd/N#DEVICE.INODE" */
static void find_record(const char *log)
{
    const char *hash = log != NULL ? strchr(log, '#') : NULL;

    if (hash != NULL && strncmp(log, "/proc/", 6) == 0 &&
        (size_t)(hash - log) < sizeof(record.path) &&
        sscanf(hash, "#%ju.%ju", &record.dev, &record.ino) == 2)
        memcpy(record.path, log, (size_t)(hash - log));
}

void preload_log_start(void)
{
    stderr_file = file_of(STDERR_FILENO);
    find_record(preload_settings.log);
}

static int raw_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

/* The process may be another by now, and the number another file's. */
static int open_record(void)
{
    struct stat st;

    if (stat(record.path, &st) != 0 || st.st_dev != record.dev || st.st_ino != record.ino)
        return -1;
    return open(record.path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* Somebody still reads it. */
static bool is_read(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return record.path[0] == '\0' || fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* A high number, out of the program's way. create: at the start alone, or a log that was taken away
 * would come back. */
static int open_log(bool create)
{
    int fd, high;

    if (preload_settings.log == NULL || preload_settings.log[0] != '/')
        return -1;
    fd = record.path[0] != '\0' ? open_record()
                                : open(preload_settings.log,
                                       O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW |
                                           O_NONBLOCK | (create ? O_CREAT : 0),
                                       0600);
    if (fd < 0)
        return -1;
    high = fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH);
    if (high >= 0) {
        raw_close(fd);
        fd = high;
    }
    return fd;
}

/* The program may have closed our descriptor, and its number may be another file's. */
static int log_get(void)
{
    int fd = __atomic_load_n(&log_fd, __ATOMIC_ACQUIRE), none = fd;
    struct file now = file_of(fd);

    if (fd >= 0 && same(&now, &log_file))
        return fd;
    fd = open_log(false);
    if (fd < 0)
        return -1;
    log_file = file_of(fd);
    if (!__atomic_compare_exchange_n(&log_fd, &none, fd, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        raw_close(fd);
        fd = none;
    }
    return fd;
}

void preload_log_open(void)
{
    int saved = errno;

    (void)log_get();
    errno = saved;
}

static bool put(int fd, const char *line, size_t len)
{
    return syscall(SYS_write, fd, line, len) == (long)len;
}

static void put_line(const char *line, size_t len)
{
    int fd = log_get();

    if (fd >= 0 && !is_read(fd))
        return; /* the run is over */
    if ((fd < 0 || !put(fd, line, len)) && record.head != NULL)
        __atomic_add_fetch(&record.head->lost, 1, __ATOMIC_RELAXED);
}

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
    struct file now;
    char line[768];
    va_list args;
    int n;

    if (!preload_settings.verbose)
        return;
    now = file_of(STDERR_FILENO);
    if (!same(&now, &stderr_file))
        return;
    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n > 0)
        put(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* JSON text without quotes around it; what is not ASCII becomes '?'. */
static void escape(const char *in, char *out, size_t size)
{
    size_t at = 0;

    for (; *in != '\0' && at + 3 < size; in++) {
        if (*in == '"' || *in == '\\')
            out[at++] = '\\';
        out[at++] = *in >= 0x20 && *in < 0x7f ? *in : '?';
    }
    out[at] = '\0';
}

static int head(char *out, size_t size, const char *event)
{
    char program[2 * sizeof(preload_settings.program)];

    escape(preload_settings.program, program, sizeof(program));
    return snprintf(out, size, "{\"event\": \"%s\", \"program\": \"%s\", \"pid\": %d", event,
                    program, (int)getpid());
}

void preload_log_member(const char *json, const char *name, char *out, size_t size)
{
    char key[40];
    const char *at, *end;
    size_t len;

    out[0] = '\0';
    snprintf(key, sizeof(key), "\"%s\": \"", name);
    at = strstr(json, key);
    if (at == NULL)
        return;
    at += strlen(key);
    end = strchr(at, '"');
    len = end != NULL ? (size_t)(end - at) : 0;
    if (len < size) {
        memcpy(out, at, len);
        out[len] = '\0';
    }
}

void preload_log_session(const char *json, const char *peer)
{
    static const char *const kept[] = {"outcome", "reason", "message", "role", "scope", "name"};
    char line[LINE_MAX_LEN + 1], value[320], outcome[32], message[320], name[256];
    int n = head(line, sizeof(line), "session"), saved = errno;
    size_t i;

    n += snprintf(line + n, sizeof(line) - (size_t)n, ", \"peer\": \"%s\"", peer);
    if (json[0] == '{' && (size_t)n + strlen(json) + 3 <= sizeof(line)) {
        n += snprintf(line + n, sizeof(line) - (size_t)n, ", %s\n", json + 1);
    } else { /* too long for one write(): what matters most */
        for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
            preload_log_member(json, kept[i], value, sizeof(value));
            n += snprintf(line + n, sizeof(line) - (size_t)n, ", \"%s\": \"%s\"", kept[i], value);
        }
        n += snprintf(line + n, sizeof(line) - (size_t)n, "}\n");
    }
    put_line(line, (size_t)n);
    preload_log_member(json, "outcome", outcome, sizeof(outcome));
    preload_log_member(json, "message", message, sizeof(message));
    preload_log_member(json, "name", name, sizeof(name));
    say("mtlsize: %s[%d]: %s%s%s%s%s\n", preload_settings.program, (int)getpid(), outcome,
        name[0] != '\0' ? " " : "", name, message[0] != '\0' ? ": " : "", message);
    errno = saved;
}

bool preload_log_count(enum preload_counted what)
{
    uint64_t n;

    if (preload_settings.verbose)
        return false;
    if (preload_settings.log == NULL)
        return true; /* nobody keeps anything */
    if (record.head == NULL)
        return false;
    n = __atomic_add_fetch(&record.head->counted[what], 1, __ATOMIC_RELAXED);
    return what != PRELOAD_COUNTED_PLAIN || n > PRELOAD_PLAIN_LINES;
}

void preload_log_event(const char *event, const char *peer, const char *why)
{
    char line[1024], text[512];
    int n, saved = errno;

    n = head(line, sizeof(line), event);
    escape(why, text, sizeof(text));
    n += snprintf(line + n, sizeof(line) - (size_t)n, ", \"peer\": \"%s\", \"why\": \"%s\"}\n",
                  peer, text);
    put_line(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    say("mtlsize: %s[%d]: %s%s%s: %s\n", preload_settings.program, (int)getpid(), event,
        peer[0] != '\0' ? " " : "", peer, why);
    errno = saved;
}

void preload_log_loaded(void)
{
    char line[256];
    int saved = errno, n, fd = open_log(true);

    if (fd >= 0 && record.path[0] != '\0') {
        void *page = mmap(NULL, sizeof(*record.head), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        record.head = page != MAP_FAILED ? page : NULL;
    }
    if (fd >= 0) { /* most programs have nothing else to say: it is not kept open */
        n = head(line, sizeof(line), "loaded");
        n += snprintf(line + n, sizeof(line) - (size_t)n, "}\n");
        put(fd, line, (size_t)n);
        raw_close(fd);
    }
    errno = saved;
}

void preload_addr_text(const struct sockaddr *sa, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *in4 = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;

    out[0] = '\0';
    if (sa->sa_family == AF_INET) {
        inet_ntop(AF_INET, &in4->sin_addr, ip, sizeof(ip));
        snprintf(out, size, "%s:%u", ip, ntohs(in4->sin_port));
    } else if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, ip, sizeof(ip));
        snprintf(out, size, "%s:%u", ip, ntohs(in6->sin6_port));
    } else if (sa->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
        snprintf(out, size, "[%s]:%u", ip, ntohs(in6->sin6_port));
    }
}

void preload_peer_text(int fd, char *out, size_t size)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(struct sockaddr_in);
    int saved = errno;

    out[0] = '\0';
    /* getpeername() says nothing of a socket that is still connecting; this wants the exact size */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &ss, &len) == 0 && ss.ss_family == AF_INET6) {
        len = sizeof(struct sockaddr_in6);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &ss, &len) != 0)
            ss.ss_family = AF_UNSPEC;
    }
    preload_addr_text((struct sockaddr *)&ss, out, size);
    errno = saved;
}
