/* Where the preloaded library is, and the variable that names it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mtlsize.h"
#include "mtlsize_file.h"

#define LIBRARY "libmtls-preload.so"
#define MARK    "mtls-preload version "

static bool beside(const char *relative, char out[PATH_MAX])
{
    char self[PATH_MAX], path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    if (len <= 0)
        return false;
    self[len] = '\0';
    return snprintf(path, sizeof path, "%.*s%s", (int)(base_name(self) - self), self, relative) <
               (int)sizeof path &&
           realpath(path, out) != NULL;
}

int preload_find(char out[PATH_MAX], char *why, size_t why_len)
{
    if (!beside("../preload/" LIBRARY, out) && !beside(PRELOAD_RELATIVE "/" LIBRARY, out) &&
        realpath(PRELOAD_DIR "/" LIBRARY, out) == NULL) {
        snprintf(why, why_len, "the library to preload is not there: " PRELOAD_DIR "/" LIBRARY);
        return -1;
    }
    if (strpbrk(out, " \t\n:;") != NULL) {
        snprintf(why, why_len, "%s cannot be preloaded: its name holds a space or a colon", out);
        return -1;
    }
    if (access(out, R_OK) < 0) {
        snprintf(why, why_len, "%s cannot be read", out);
        return -1;
    }
    return 0;
}

bool preload_is_public(const char *path)
{
    char part[PATH_MAX];
    struct stat st;

    snprintf(part, sizeof part, "%s", path);
    if (stat(part, &st) < 0 || (st.st_mode & S_IROTH) == 0)
        return false;
    for (char *slash; (slash = strrchr(part, '/')) != NULL && slash > part;) {
        *slash = '\0';
        if (stat(part, &st) < 0 || (st.st_mode & S_IXOTH) == 0)
            return false;
    }
    return true;
}

void preload_version(const char *path, char *out, size_t cap)
{
    uint8_t *data;
    const char *at;
    size_t len, n;

    out[0] = '\0';
    if (file_load(path, &data, &len) < 0)
        return;
    at = memmem(data, len, MARK, sizeof MARK - 1);
    if (at != NULL) {
        at += sizeof MARK - 1;
        n = strnlen(at, len - (size_t)(at - (const char *)data));
        snprintf(out, cap, "%.*s", (int)(n < 32 ? n : 32), at);
    }
    free(data);
}

/* Whether one of the names in LD_PRELOAD is this one. */
static bool is_listed(const char *list, const char *name)
{
    size_t len;

    for (; *list != '\0'; list += len + (list[len] != '\0')) {
        len = strcspn(list, ": ");
        if (len == strlen(name) && strncmp(list, name, len) == 0)
            return true;
    }
    return false;
}

char *preload_append(const char *existing, const char *ours)
{
    char *out;

    if (existing == NULL || *existing == '\0')
        return strdup(ours);
    if (is_listed(existing, ours))
        return strdup(existing);
    return asprintf(&out, "%s:%s", existing, ours) < 0 ? NULL : out;
}
