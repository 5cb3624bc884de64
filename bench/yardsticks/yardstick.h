// What the yardsticks share: sockets on IPv4, the clock, and the end on an error.
// The servers listen on all addresses, the clients connect to 127.0.0.1.
#ifndef YARDSTICK_H
#define YARDSTICK_H

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, EXIT_USAGE = 100, EXIT_SYSTEM = 111 };

__attribute__((noreturn)) static inline void die(const char *what) {
    perror(what);
    exit(EXIT_SYSTEM);
}

__attribute__((noreturn)) static inline void usage(const char *text) {
    fprintf(stderr, "usage: %s\n", text);
    exit(EXIT_USAGE);
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline struct sockaddr_in ipv4(uint32_t address, int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(address),
    };
}

static inline int listen_on(int port) {
    struct sockaddr_in address = ipv4(INADDR_ANY, port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address))
        die("bind");
    if (listen(listener, BACKLOG))
        die("listen");
    return listener;
}

// Binds a client's socket to 127.0.NET.HOST, so that many connections do not run out of the ports
// of one address. The port is chosen at connect (ip(7), IP_BIND_ADDRESS_NO_PORT).
static inline void bind_source(int fd, unsigned net, unsigned host) {
    enum { BIND_ADDRESS_NO_PORT = 24 };
    struct sockaddr_in source = ipv4(0x7f000000 | net << 8 | host, 0);
    int on = 1;
    setsockopt(fd, IPPROTO_IP, BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source))
        die("bind");
}

#endif
