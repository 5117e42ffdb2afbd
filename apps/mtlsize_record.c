/* The record of a run. */
#include "mtlsize_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3; some systems insist on it */
#endif

int record_make(struct record *r)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st, named;
    char path[64];
    int saved;

    r->fd = memfd_create("mtlsize", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (r->fd < 0 && errno == EINVAL)
        r->fd = memfd_create("mtlsize", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->fd < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)getpid(), r->fd);
    /* Processes with fewer rights have it open, too: none may take the page from under the others.
     */
    if (ftruncate(r->fd, RECORD_HEAD) == 0 &&
        fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0 && fchmod(r->fd, 0600) == 0 &&
        fcntl(r->fd, F_OFD_SETLK, &lock) == 0 && fstat(r->fd, &st) == 0 &&
        stat(path, &named) == 0 && st.st_ino == named.st_ino) {
        r->at = RECORD_HEAD;
        r->head = (struct preload_record){0};
        snprintf(r->name, sizeof r->name, "%s#%ju.%ju", path, (uintmax_t)st.st_dev,
                 (uintmax_t)st.st_ino);
        return 0;
    }
    saved = errno;
    record_close(r);
    errno = saved;
    return -1;
}

static int read_lines(struct record *r, struct log_summary *s, bool last)
{
    char *text = malloc(LOG_LINE_MAX);
    ssize_t n = text == NULL ? -1 : 0;

    while (text != NULL && (n = pread(r->fd, text, LOG_LINE_MAX, r->at)) > 0) {
        size_t used = log_text(s, text, (size_t)n);

        if (used == 0 && n < LOG_LINE_MAX && !last)
            break; /* the rest of the line is under way */
        if (used == 0) {
            s->damaged++;
            used = (size_t)n;
        }
        r->at += (off_t)used;
    }
    free(text);
    return n < 0 ? -1 : 0;
}

/* Without their lines, which have been counted. */
static uint64_t plain_of(const struct preload_record *head)
{
    uint64_t n = head->counted[PRELOAD_COUNTED_PLAIN];

    return n > PRELOAD_PLAIN_LINES ? n - PRELOAD_PLAIN_LINES : 0;
}

/* Any process of the tree may have written there. */
static uint64_t rise(uint64_t before, uint64_t now)
{
    return now > before ? now - before : 0;
}

static void add_counted(struct log_summary *s, const struct preload_record *before,
                        const struct preload_record *now)
{
    uint64_t more[PRELOAD_COUNTED];

    for (int i = 0; i < PRELOAD_COUNTED; i++)
        more[i] = rise(before->counted[i], now->counted[i]);
    more[PRELOAD_COUNTED_PLAIN] = rise(plain_of(before), plain_of(now));
    s->verified += (unsigned long)more[PRELOAD_COUNTED_VERIFIED];
    s->resumed += (unsigned long)more[PRELOAD_COUNTED_RESUMED];
    s->plain += (unsigned long)more[PRELOAD_COUNTED_PLAIN];
    s->plain_more += (unsigned long)more[PRELOAD_COUNTED_PLAIN];
    s->failed += (unsigned long)more[PRELOAD_COUNTED_FAILED];
    s->refused_peers += (unsigned long)more[PRELOAD_COUNTED_FAILED];
}

int record_read(struct record *r, struct log_summary *s, bool last)
{
    struct preload_record head;
    off_t whole;

    if (read_lines(r, s, last) < 0 || pread(r->fd, &head, sizeof head, 0) != sizeof head)
        return -1;
    s->lost = (unsigned long)head.lost;
    add_counted(s, &r->head, &head);
    r->head = head;
    whole = r->at / RECORD_HEAD * RECORD_HEAD - RECORD_HEAD;
    if (whole > 0) /* what has been read is given back */
        (void)fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, RECORD_HEAD, whole);
    return 0;
}

void record_close(struct record *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}
