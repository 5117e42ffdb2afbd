/* A man in the middle who passes the real server's ticket on as his own.
 *
 *     mitm_ticket CERT KEY HOST PORT RECORD
 *
 * For each connection he makes one of his own to the real server, keeps it open, takes its ticket,
 * and gives the client exactly these bytes. That works where the ticket is a session identifier of
 * 32 bytes (a server that keeps its sessions): libssl lets its user choose those. What the client
 * sends goes to RECORD. Says {"event": ...} lines on standard output. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/ssl.h>

static const char *host, *record;
static int port;
static SSL_CTX *up_ctx, *down_ctx;
static unsigned char id[32];
static int id_known;

static int choose(SSL *ssl, unsigned char *out, unsigned *len)
{
    memcpy(out, id, sizeof(id));
    *len = sizeof(id);
    return id_known;
}

/* The newest ticket of a connection of his own: read until nothing comes for a while. */
static SSL *fetch(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct timeval wait = {.tv_usec = 300000};
    const unsigned char *ticket;
    size_t len = 0;
    char byte;
    SSL *ssl = SSL_new(up_ctx);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, host, &to.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    SSL_set_fd(ssl, fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 && SSL_connect(ssl) == 1) {
        (void)!SSL_peek(ssl, &byte, 1);
        SSL_SESSION_get0_ticket(SSL_get_session(ssl), &ticket, &len);
        if (len == sizeof(id)) {
            memcpy(id, ticket, sizeof(id));
            id_known = 1;
        }
    }
    printf("{\"event\": \"fetched\", \"bytes\": %zu}\n", len);
    return ssl;
}

static void serve(int fd)
{
    SSL *ssl = SSL_new(down_ctx), *up = fetch();
    FILE *out = fopen(record, "a");
    char data[4096];
    int n;

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        printf("{\"event\": \"passed-on\", \"bytes\": %zu}\n", sizeof(id));
        while ((n = SSL_read(ssl, data, sizeof(data))) > 0) {
            fwrite(data, 1, (size_t)n, out);
            fflush(out);
        }
    }
    fclose(out);
    SSL_free(ssl);
    close(fd);
    SSL_shutdown(up);
    close(SSL_get_fd(up));
    SSL_free(up);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;

    if (argc != 6)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    host = argv[3];
    port = atoi(argv[4]);
    record = argv[5];
    fclose(fopen(record, "a"));
    up_ctx = SSL_CTX_new(TLS_client_method());
    down_ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_options(down_ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(down_ctx, 1);
    SSL_CTX_set_generate_session_id(down_ctx, choose);
    if (SSL_CTX_use_certificate_chain_file(down_ctx, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(down_ctx, argv[2], SSL_FILETYPE_PEM) != 1 ||
        bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return 1;
    printf("{\"event\": \"listening\", \"port\": %d}\n", ntohs(at.sin_port));
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        serve(fd);
    return 0;
}
