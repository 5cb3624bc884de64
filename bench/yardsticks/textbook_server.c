// textbook_server: a server that forks for each connection, as textbooks and tutorials write it:
// what many programs start from, and what a careful server is compared with.
//
// usage: textbook_server [PORT]     (9999)
//
// A message is text with a zero byte at its end; the answer is the text and the zero byte. The
// faults of the genre are kept, since they are part of its cost:
//   - the parent never closes its copy of a connection, so its descriptors pile up, and each fork
//     copies a larger table of them;
//   - a message is taken to arrive in one read, with its zero byte;
//   - a reset connection ends its process with an error message;
//   - each process prints what it does, and the handler of SIGCHLD prints too.
// It is linked with the shared C library, as a reader would.
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void reap_children(int signal_number) {
    pid_t pid;
    (void)signal_number;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        printf("child %d ended\n", (int)pid);
}

static int start_listening(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0)
        fail("socket");
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (listen(listener, 128) < 0)
        fail("listen");
    return listener;
}

static void serve(int client, const struct sockaddr_in *peer) {
    char name[INET_ADDRSTRLEN];
    char message[1024];
    ssize_t length;
    inet_ntop(AF_INET, &peer->sin_addr, name, sizeof name);
    printf("connection from %s, port %d\n", name, ntohs(peer->sin_port));
    while ((length = read(client, message, sizeof message)) > 0) {
        printf("received: %s\n", message);
        if (write(client, message, strlen(message) + 1) < 0)
            fail("write");
    }
    if (length < 0)
        fail("read");
    printf("connection closed\n");
    close(client);
    exit(0);
}

int main(int count, char **words) {
    // Without SA_RESTART: a child that ends interrupts accept.
    struct sigaction action = {.sa_handler = reap_children};
    sigaction(SIGCHLD, &action, NULL);
    int listener = start_listening(count > 1 ? atoi(words[1]) : 9999);
    for (;;) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        int client = accept(listener, (struct sockaddr *)&peer, &size);
        if (client < 0 && errno == EINTR)
            continue;
        if (client < 0)
            fail("accept");
        if (fork() == 0)
            serve(client, &peer);
    }
}
