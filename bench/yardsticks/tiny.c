// tiny: accepts, forks, echoes and exits from an address space of about five mappings, without a C
// library: what a process for each connection costs the kernel alone. For x86-64.
//
// usage: tiny PORT
//
// Built with -nostdlib, without a separate segment for constants and without relocation-read-only
// pages: each mapping, and each page that the child touches, makes a fork dearer.
#ifndef __x86_64__
#error "the system calls of tiny.c are those of x86-64"
#endif

#include <asm/unistd.h>

enum { SIG_CHILD = 17, SIG_PIPE = 13, INET = 2, STREAM = 1, SOCKET_LEVEL = 1, REUSE_ADDRESS = 2 };

struct action {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

struct address {
    unsigned short family;
    unsigned short port;
    unsigned ip;
    char padding[8];
};

__attribute__((always_inline)) static inline long call(long number, long a, long b, long c, long d,
                                                       long e) {
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}

static int listen_on(int port) {
    struct address any = {.family = INET, .port = (unsigned short)(port >> 8 | port << 8)};
    int listener = (int)call(__NR_socket, INET, STREAM, 0, 0, 0), on = 1;
    call(__NR_setsockopt, listener, SOCKET_LEVEL, REUSE_ADDRESS, (long)&on, sizeof on);
    if (call(__NR_bind, listener, (long)&any, sizeof any, 0, 0) || call(__NR_listen, listener, 4096, 0, 0, 0))
        call(__NR_exit_group, 111, 0, 0, 0, 0);
    return listener;
}

__attribute__((always_inline)) static inline void serve(int listener, int client) {
    char buffer[4096];
    long length;
    call(__NR_close, listener, 0, 0, 0, 0);
    while ((length = call(__NR_read, client, (long)buffer, sizeof buffer, 0, 0)) > 0)
        if (call(__NR_write, client, (long)buffer, length, 0, 0) != length)
            break;
    call(__NR_exit_group, 0, 0, 0, 0, 0);
}

// The first function, with the stack as the kernel made it: argc, then argv.
__attribute__((used, noreturn)) static void start(long *stack) {
    struct action ignore = {.handler = (void *)1};
    int port = 0;
    if (stack[0] < 2)
        call(__NR_exit_group, 100, 0, 0, 0, 0);
    for (const char *digit = (const char *)stack[2]; *digit; digit++)
        port = port * 10 + *digit - '0';
    // Children are never waited for: with SIGCHLD ignored they leave no zombie.
    call(__NR_rt_sigaction, SIG_CHILD, (long)&ignore, 0, sizeof ignore.mask, 0);
    call(__NR_rt_sigaction, SIG_PIPE, (long)&ignore, 0, sizeof ignore.mask, 0);
    int listener = listen_on(port);
    for (;;) {
        int client = (int)call(__NR_accept, listener, 0, 0, 0, 0);
        if (client < 0)
            continue;
        if (call(__NR_clone, SIG_CHILD, 0, 0, 0, 0) == 0)
            serve(listener, client);
        call(__NR_close, client, 0, 0, 0, 0);
    }
}

__asm__(".globl _start\n"
        "_start:\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call start\n");
