// web [WORD…] PORT: answers every request on PORT with 200 and a line of text; the name it was started under is in the
// text, in its log and in /var/run/NAME.pid. Stands for nginx and httpd in the images of the CRI tests.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static int listen_on(int port) {
    int one = 1, zero = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        if (bind(fd, (struct sockaddr *)&six, sizeof six) == 0 && listen(fd, 128) == 0) return fd;
        close(fd);
    }
    // No IPv6 here.
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&four, sizeof four) < 0 || listen(fd, 128) < 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void answer(int client, const char *name) {
    char request[8192], body[256], head[256];
    if (read(client, request, sizeof request) <= 0) return;
    int length = snprintf(body, sizeof body, "<title>Welcome to %s!</title>\n", name);
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 200 OK\r\nServer: %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
                        "Connection: close\r\n\r\n", name, length);
    if (write(client, head, size) == size && write(client, body, length) == length) shutdown(client, SHUT_WR);
    while (read(client, request, sizeof request) > 0) {}
}

int main(int count, char **words) {
    const char *slash = strrchr(words[0], '/'), *name = slash ? slash + 1 : words[0];
    int port = atoi(words[count - 1]), server = listen_on(port);
    char path[256];
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    signal(SIGQUIT, leave);
    signal(SIGCHLD, SIG_IGN);
    snprintf(path, sizeof path, "/var/run/%s.pid", name);
    FILE *file = fopen(path, "w");
    if (file) {
        fprintf(file, "%d\n", getpid());
        fclose(file);
    }
    printf("%s: answers on port %d\n", name, port);
    fflush(stdout);
    for (;;) {
        int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) continue;
        if (fork() == 0) {
            alarm(30);
            answer(client, name);
            _exit(0);
        }
        close(client);
    }
}
