/* A stock TLS server whose ticket key is a file: the real one, and the thief of its key.
 *
 *     ticket_server CERT KEY TICKETKEY [late=MS] [single]
 *
 * late: the ticket leaves so long after the handshake. single: sessions are kept, and each is good
 * for one resumption. A thread for each connection. Says {"event": ...} lines on standard output.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

static const char page[] = "HTTP/1.0 200 OK\r\nContent-Length: 41\r\n\r\n"
                           "the text that nobody on path 1 may read: ";

static SSL_CTX *ctx;
static unsigned late_ms;

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    SSL *ssl = SSL_new(ctx);
    char data[4096];
    int good;

    SSL_set_fd(ssl, fd);
    good = SSL_accept(ssl) == 1;
    if (good && late_ms > 0) {
        usleep(late_ms * 1000);
        good = SSL_new_session_ticket(ssl) == 1 && SSL_do_handshake(ssl) == 1;
    }
    if (good && SSL_read(ssl, data, sizeof(data)) > 0) {
        printf("{\"event\": \"request\", \"resumed\": %d}\n", SSL_session_reused(ssl));
        SSL_write(ssl, page, sizeof(page) - 1);
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void options(int argc, char **argv)
{
    for (int i = 4; i < argc; i++) {
        if (strncmp(argv[i], "late=", 5) == 0) {
            late_ms = (unsigned)atoi(argv[i] + 5);
            SSL_CTX_set_num_tickets(ctx, 0);
        } else { /* libssl takes a session out of its cache where 0-RTT data could be replayed */
            SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
            SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"s", 1);
            SSL_CTX_set_max_early_data(ctx, 1024);
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
    unsigned char key[80];
    FILE *file = argc >= 4 ? fopen(argv[3], "rb") : NULL;
    pthread_t thread;

    ctx = SSL_CTX_new(TLS_server_method());
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    if (file == NULL || fread(key, 1, sizeof(key), file) != sizeof(key) ||
        SSL_CTX_set_tlsext_ticket_keys(ctx, key, sizeof(key)) != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1 ||
        bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return 1;
    options(argc, argv);
    printf("{\"event\": \"listening\", \"port\": %d}\n", ntohs(at.sin_port));
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    return 0;
}
