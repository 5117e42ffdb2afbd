/* Files that the checks look at. */
#include "mtlsize_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static int read_all(int fd, uint8_t *data, size_t size, size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, data + *len, size - *len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    return 0;
}

int file_load(const char *path, uint8_t **data, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rv = -1, saved;
    struct stat st;

    *data = NULL;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        goto out;
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        goto out;
    }
    if (st.st_size < 0 || (uintmax_t)st.st_size > FILE_SIZE_MAX) {
        errno = EFBIG;
        goto out;
    }
    *data = malloc((size_t)st.st_size + 1);
    if (*data != NULL)
        rv = read_all(fd, *data, (size_t)st.st_size, len);
out:
    saved = errno;
    if (rv < 0) {
        free(*data);
        *data = NULL;
    }
    close(fd);
    errno = saved;
    return rv;
}

static int usable(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = EACCES;
        return -1;
    }
    return access(path, X_OK);
}

int program_find(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH"), *end;
    int worst = ENOENT;

    if (*name == '\0') {
        errno = ENOENT;
        return -1;
    }
    if (strchr(name, '/') != NULL) {
        if (snprintf(out, PATH_MAX, "%s", name) >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        return usable(out);
    }
    for (path = path != NULL ? path : "/bin:/usr/bin"; path != NULL; path = end) {
        int len;

        end = strchr(path, ':');
        len = end != NULL ? (int)(end++ - path) : (int)strlen(path);
        if (len == 0 || snprintf(out, PATH_MAX, "%.*s/%s", len, path, name) >= PATH_MAX)
            continue; /* an empty member is the current folder: never searched */
        if (usable(out) == 0)
            return 0;
        if (errno == EACCES)
            worst = EACCES;
    }
    errno = worst;
    return -1;
}

/* The next word of a line; false: none. */
static bool next_word(const char **at, const char *end, char out[PATH_MAX])
{
    const char *from;

    while (*at < end && (**at == ' ' || **at == '\t'))
        (*at)++;
    from = *at;
    while (*at < end && **at != ' ' && **at != '\t' && **at != '\0')
        (*at)++;
    if (*at == from || *at - from >= PATH_MAX)
        return false;
    memcpy(out, from, (size_t)(*at - from));
    out[*at - from] = '\0';
    return true;
}

int script_interpreter(const uint8_t *data, size_t len, char out[PATH_MAX])
{
    const char *at = (const char *)data + 2, *end;

    if (len < 2 || data[0] != '#' || data[1] != '!')
        return 0;
    if (len > PATH_MAX)
        len = PATH_MAX;
    end = memchr(at, '\n', len - 2);
    if (end == NULL)
        end = (const char *)data + len;
    if (!next_word(&at, end, out))
        return -1;
    if (strcmp(base_name(out), "env") != 0)
        return 1;
    while (next_word(&at, end, out)) /* options and assignments of env */
        if (out[0] != '-' && strchr(out, '=') == NULL)
            return 1;
    return -1;
}
