/* Concept: see evidence_file.h. */
#include "evidence_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/rand.h>

static bool room_in(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    unsigned found = 0;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while (found < MTLS_EVIDENCE_FILES && (entry = readdir(dir)) != NULL)
        found += strstr(entry->d_name, ".evidence") != NULL;
    closedir(dir);
    return found < MTLS_EVIDENCE_FILES;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n <= 0)
            return MTLS_ERR_IO;
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : MTLS_ERR_IO;
}

int mtls_evidence_file(const char *folder, const char *role, const char *data, size_t len,
                       char **file)
{
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    int err = dir < 0 ? MTLS_ERR_IO : 0;
    uint8_t id[8];
    char name[64];

    if (err == 0 && !room_in(dir))
        err = MTLS_ERR_LIMIT;
    if (err == 0 && RAND_bytes(id, sizeof(id)) != 1)
        err = MTLS_ERR_CRYPTO;
    if (err == 0) {
        snprintf(name, sizeof(name), "mtls-%s-%lld-%02x%02x%02x%02x%02x%02x%02x%02x.evidence", role,
                 (long long)time(NULL), id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]);
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        err = fd < 0 ? MTLS_ERR_IO : write_all(fd, data, len);
    }
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && err != 0)
        unlinkat(dir, name, 0);
    if (dir >= 0)
        close(dir);
    if (err == 0 && (*file = malloc(strlen(folder) + sizeof(name) + 1)) != NULL)
        sprintf(*file, "%s/%s", folder, name);
    return err;
}
