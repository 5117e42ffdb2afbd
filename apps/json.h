/* Writing one JSON object into memory, a member at a time. Strings may hold any bytes: what is not
 * UTF-8 becomes U+FFFD, so that a peer cannot make a line unreadable. Out of memory is sticky and
 * makes json_end() return NULL. */
#ifndef APPS_JSON_H
#define APPS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    char *text;
    size_t len, cap;
    bool failed;
    bool comma; /* the next member or element needs one before it */
};

void json_begin(struct json *j);
/* Ends the object. The caller frees it with free(). */
char *json_end(struct json *j);
void json_string(struct json *j, const char *key, const char *value);
void json_number(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
/* Arrays and objects; key NULL inside an array. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);
/* The members of a complete object ("{...}") become members of this one. */
void json_splice(struct json *j, const char *object);

#endif
