// textbook_client: the client of textbook_server. Sends a message each second, prints the answer,
// ends when the server does.
//
// usage: textbook_client [PORT]     (9999)
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

int main(int count, char **words) {
    int port = count > 1 ? atoi(words[1]) : 9999;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    inet_pton(AF_INET, "127.0.0.1", &server.sin_addr);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
        fail("connect");
    for (int number = 0;; number++) {
        char text[1024];
        snprintf(text, sizeof text, "data : %d\n", number);
        if (write(fd, text, strlen(text) + 1) < 0)
            fail("write");
        ssize_t length = read(fd, text, sizeof text);
        if (length < 0)
            fail("read");
        if (length == 0)
            break;
        printf("received: %s", text);
        fflush(stdout);
        sleep(1);
    }
    printf("the server closed the connection\n");
    close(fd);
}
