/* Concept: whether a program that this library cannot be loaded into, or that makes its system
 * calls itself, brings TLS of its own: texts that only a TLS implementation holds. The same as
 * mtlsize check looks for. It works in a vfork child: nothing on the heap, little on the stack. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload.h"

static const char *const marks[] = {
    "crypto/tls.(*Conn)", /* of Go; the other ones are of C and Rust */
    "ssl/statem/statem_clnt.c",
    "TLSv1.3 read encrypted extensions",
    "third_party/boringssl",
    "OPENSSL_internal",
    "rustls::",
    "/rustls-",
};

bool preload_brings_tls(int fd, bool go)
{
    size_t i, n = go ? 1 : sizeof(marks) / sizeof(marks[0]);
    struct stat st;
    bool found = false;
    void *file;

    if (fstat(fd, &st) != 0 || st.st_size <= 0)
        return false;
    file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        return true; /* what cannot be known is not let pass */
    for (i = 0; i < n && !found; i++)
        found = memmem(file, (size_t)st.st_size, marks[i], strlen(marks[i])) != NULL;
    munmap(file, (size_t)st.st_size);
    return found;
}
