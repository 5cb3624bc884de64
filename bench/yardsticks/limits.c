// limits: an echo server in the cheapest C form of each process model.
//
// usage: limits fork|spare|pool|thread|epoll PORT [FORKERS [PROCESSES]]
//        limits exec PORT FORKERS PROGRAM [ARGUMENT...]
//
//   fork    accept, fork, echo, exit
//   spare   PROCESSES wait in accept; each serves one client and is replaced
//   pool    PROCESSES wait in accept; each serves one client after the other
//   exec    accept, vfork, execute PROGRAM with the client as its standard input and output
//   thread  a detached thread for each connection, in one process
//   epoll   all connections in the event loop of FORKERS processes
//
// FORKERS (1) processes share the listener. PROCESSES is 32. Children are never waited for: with
// SIGCHLD ignored they leave no zombie (sigaction(2)), and nothing accounts for them. Nothing is
// logged or limited either, so a server that does more costs more.
#include "yardstick.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

static const char USAGE[] = "limits fork|spare|pool|thread|epoll PORT [FORKERS [PROCESSES]]\n"
                            "       limits exec PORT FORKERS PROGRAM [ARGUMENT...]";

extern char **environ;

static void echo(int client) {
    char buffer[4096];
    ssize_t length;
    while ((length = read(client, buffer, sizeof buffer)) > 0)
        if (write(client, buffer, (size_t)length) != length)
            break;
}

static int accept_client(int listener) {
    int client;
    while ((client = accept(listener, NULL, NULL)) < 0)
        if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
            die("accept");
    return client;
}

static void run_fork(int listener) {
    for (;;) {
        int client = accept_client(listener);
        if (fork() == 0) {
            echo(client);
            _exit(0);
        }
        close(client);
    }
}

// A spare's whole life. It writes a byte when it has a client, so that the next one is started
// while this one serves.
static void serve_once(int listener, int taken) {
    int client = accept_client(listener);
    if (write(taken, "", 1) != 1)
        _exit(EXIT_SYSTEM);
    close(taken);
    close(listener);
    echo(client);
    _exit(0);
}

static void run_spare(int listener, int processes) {
    int taken[2];
    ssize_t missing = processes;
    char buffer[512];
    if (pipe(taken))
        die("pipe");
    for (;;) {
        for (; missing > 0; missing--)
            if (fork() == 0) {
                close(taken[0]);
                serve_once(listener, taken[1]);
            }
        missing = read(taken[0], buffer, sizeof buffer);
    }
}

static void run_pool(int listener, int processes) {
    for (int i = 0; i < processes; i++)
        if (fork() == 0)
            for (;;) {
                int client = accept_client(listener);
                echo(client);
                close(client);
            }
    for (;;)
        pause();
}

static void run_exec(int listener, char **program) {
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        // vfork: the child uses this process' memory until it executes the program.
        if (vfork() == 0) {
            dup2(client, STDIN_FILENO);
            dup2(client, STDOUT_FILENO);
            signal(SIGPIPE, SIG_DFL);
            execve(program[0], program, environ);
            _exit(EXIT_SYSTEM);
        }
        close(client);
    }
}

static void *serve_in_thread(void *client) {
    echo((int)(intptr_t)client);
    close((int)(intptr_t)client);
    return NULL;
}

static void run_thread(int listener) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    for (;;) {
        pthread_t thread;
        int client = accept_client(listener);
        if (pthread_create(&thread, &attributes, serve_in_thread, (void *)(intptr_t)client))
            close(client);
    }
}

static void accept_into(int poll, int listener) {
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    struct epoll_event readable = {.events = EPOLLIN, .data.fd = client};
    // Another process may have taken the client.
    if (client >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, client, &readable))
        close(client);
}

static void echo_some(int client) {
    char buffer[4096];
    ssize_t length = read(client, buffer, sizeof buffer);
    if (length <= 0 || write(client, buffer, (size_t)length) != length)
        close(client);
}

static void run_epoll(int listener) {
    struct epoll_event events[256];
    struct epoll_event incoming = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listener};
    int poll = epoll_create1(0);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &incoming))
        die("epoll");
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_into(poll, listener);
            else
                echo_some(events[i].data.fd);
        }
    }
}

// The rest of the forkers. All share the listener, and each goes on in `main`.
static void start_forkers(int forkers) {
    for (int i = 1; i < forkers; i++)
        if (fork() == 0)
            return;
}

int main(int count, char **words) {
    if (count < 3)
        usage(USAGE);
    const char *model = words[1];
    int forkers = count > 3 ? atoi(words[3]) : 1;
    int processes = count > 4 ? atoi(words[4]) : 32;
    int listener = listen_on(atoi(words[2]));
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    if (!strcmp(model, "fork")) {
        start_forkers(forkers);
        run_fork(listener);
    } else if (!strcmp(model, "spare")) {
        start_forkers(forkers);
        run_spare(listener, processes);
    } else if (!strcmp(model, "pool")) {
        run_pool(listener, processes);
    } else if (!strcmp(model, "exec") && count > 4) {
        start_forkers(forkers);
        run_exec(listener, words + 4);
    } else if (!strcmp(model, "thread")) {
        run_thread(listener);
    } else if (!strcmp(model, "epoll")) {
        start_forkers(forkers);
        run_epoll(listener);
    }
    usage(USAGE);
}
