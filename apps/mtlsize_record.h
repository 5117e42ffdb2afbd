/* The record of a run: a file in memory, without a name, that the preloaded library in each process
 * of the tree finds by MTLSIZE_LOG and appends lines to. It goes with the last process that has it
 * open, so nothing stays behind, however mtlsize ends. It is locked while it is read: a process
 * that outlives mtlsize writes no more. Its first page counts a server's sessions, which have no
 * lines, and the lines that could not be written: the library maps it, so a program that has closed
 * every descriptor, or changed its user, cannot lose one without a trace. */
#ifndef APPS_MTLSIZE_RECORD_H
#define APPS_MTLSIZE_RECORD_H

#include <stdbool.h>
#include <sys/types.h>

#include "mtlsize_log.h"
#include "preload/record.h"

#define RECORD_HEAD PRELOAD_RECORD_HEAD

struct record {
    int fd;                     /* -1: none */
    off_t at;                   /* read up to here */
    struct preload_record head; /* as read */
    char name[128];             /* for MTLSIZE_LOG: /proc/PID/fd/N#DEVICE.INODE */
};

/* 0, or -1 with errno. */
int record_make(struct record *r);
/* Adds to *s what has come since, and gives its memory back; last: nothing more will come, so half
 * a line is damage. 0, or -1 with errno. */
int record_read(struct record *r, struct log_summary *s, bool last);
void record_close(struct record *r);

#endif
