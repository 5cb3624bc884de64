// null: the cheapest server of all: accepts, reads what is there, sends it back, closes. One thread, one connection at a time; what
// it reaches is what a client can do at most.   usage: null PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(words[1]) : 0)};
    char buffer[65536];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 111;
    for (;;) {
        int client = accept(listener, 0, 0);
        if (client < 0) continue;
        ssize_t length = recv(client, buffer, sizeof buffer, 0);
        if (length > 0) send(client, buffer, length, MSG_NOSIGNAL);
        close(client);
    }
}
