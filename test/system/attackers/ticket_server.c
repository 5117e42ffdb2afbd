/* A stock TLS server whose ticket key is a file: the real one, and the thief of its key.
 *
 *     ticket_server CERT KEY TICKETKEY
 *
 * A process for each connection. Says {"event": ...} lines on standard output. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

static const char page[] = "HTTP/1.0 200 OK\r\nContent-Length: 41\r\n\r\n"
                           "the text that nobody on path 1 may read: ";

static void serve(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);
    char data[4096];

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, data, sizeof(data)) > 0) {
        printf("{\"event\": \"request\", \"resumed\": %d}\n", SSL_session_reused(ssl));
        SSL_write(ssl, page, sizeof(page) - 1);
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    unsigned char key[80];
    FILE *file = argc == 4 ? fopen(argv[3], "rb") : NULL;

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (file == NULL || fread(key, 1, sizeof(key), file) != sizeof(key) ||
        SSL_CTX_set_tlsext_ticket_keys(ctx, key, sizeof(key)) != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1 ||
        bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return 1;
    printf("{\"event\": \"listening\", \"port\": %d}\n", ntohs(at.sin_port));
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        if (fork() == 0) {
            serve(ctx, fd);
            _exit(0);
        }
        close(fd);
    }
    return 0;
}
