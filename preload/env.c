/* Concept: the environment of a program that is started: what makes us go with it. A start script
 * that gives LD_PRELOAD another value, loses MTLS_CONFIG or empties the environment gets our words
 * back; one that takes LD_PRELOAD away and keeps the rest, or switches the protection off in so
 * many words, meant it: that is said in the log, or refused. It works in a vfork child: on the
 * stack. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload.h"

#define LIBRARY_NAME "libmtls-preload.so"

enum { LD_PRELOAD, CONFIG, LOG, LIBRARY, UNHOOKED, WORDS };

static const char *const names[WORDS] = {"LD_PRELOAD", "MTLS_CONFIG", "MTLSIZE_LOG",
                                         "MTLSIZE_LIBRARY", "MTLSIZE_UNHOOKED"};
static const char *ours[WORDS]; /* "NAME=VALUE"; NULL: none */
static struct stat self_file;
static bool active; /* LD_PRELOAD brought us here, and not everything is off */

static bool is_self(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 &&
           (strcmp(path, preload_settings.self) == 0 ||
            (st.st_dev == self_file.st_dev && st.st_ino == self_file.st_ino));
}

/* Whether the loader finds us by this list, by whichever name. */
static bool names_us(const char *list)
{
    const char *separators = " \t\n:";
    char path[PATH_MAX];
    size_t len;

    for (; list != NULL && *list != '\0'; list += len + (list[len] != '\0')) {
        len = strcspn(list, separators);
        if (len == 0 || len >= sizeof(path))
            continue;
        memcpy(path, list, len);
        path[len] = '\0';
        if (is_self(path))
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

const char *preload_env_lost(char *const envp[])
{
    const char *config = value_of(envp, CONFIG), *unhooked = value_of(envp, UNHOOKED);

    if (!active)
        return NULL;
    if (meant(envp) ||
        (preload_settings.allow && (config == NULL || !names_us(value_of(envp, LD_PRELOAD)))))
        return "is started without LD_PRELOAD or MTLS_CONFIG";
    if (!is_self(preload_settings.self)) /* another root folder, or it was removed */
        return "is started where " LIBRARY_NAME " cannot be found";
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

static bool lacks(char *const envp[], unsigned which)
{
    const char *value = value_of(envp, which);

    return ours[which] != NULL && (value == NULL || (which == LD_PRELOAD && !names_us(value)));
}

size_t preload_env_room(char *const envp[])
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

char *const *preload_env_fill(void *room, char *const envp[])
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

/* Never freed, because others may be reading it, and setenv() keeps what it finds. */
int preload_environ_mend(void)
{
    size_t size = preload_env_room(environ);
    void *room;

    if (size == 0)
        return 0;
    room = malloc(size);
    if (room == NULL)
        return -1;
    environ = (char **)(uintptr_t)preload_env_fill(room, environ);
    return 0;
}
