/* Errors and warnings of a tool before it serves or connects: a line for people, or, once --json
 * has been seen on the command line, an object for machines. */
#ifndef APPS_COMPLAIN_H
#define APPS_COMPLAIN_H

/* Looks for --json; called first of all, so that errors in the command line itself are JSON too. */
void complain_mode(int argc, char **argv);
/* {"event": "error", "outcome": "failed", "reason": "local", "message": …} */
void complain(const char *prog, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* {"event": "warning", "message": …} */
void complain_warning(const char *prog, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
