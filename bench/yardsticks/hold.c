// hold: opens connections, holds them, and prints the memory that each costs the machine.
//
// usage: hold PORT CONNECTIONS SECONDS
//
// Each connection exchanges one message, so that its server process has started and answered. The
// memory is the difference of MemAvailable (proc_meminfo(5)) before the first connection and two
// seconds after the last, so it holds both ends, the process and what the kernel has for it.
#include "yardstick.h"

#include <string.h>
#include <sys/resource.h>

enum { SOURCES = 200, SOURCE_NET = 2, SPARE_DESCRIPTORS = 100 };

static long available_kib(void) {
    char line[128];
    long kib = -1;
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file)
        die("/proc/meminfo");
    while (fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %ld", &kib) != 1)
        ;
    fclose(file);
    return kib;
}

// Opens a connection that stays open. Whether the server answered a message.
static int open_one(int port, int number) {
    // With its zero byte, for the textbook server.
    static const char message[] = "data : 0\n";
    char answer[sizeof message];
    struct timeval timeout = {.tv_sec = 5};
    struct sockaddr_in server = ipv4(INADDR_LOOPBACK, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    bind_source(fd, SOURCE_NET, 1 + (unsigned)number % SOURCES);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (struct sockaddr *)&server, sizeof server)) {
        perror("connect");
        close(fd);
        return 0;
    }
    return send(fd, message, sizeof message, MSG_NOSIGNAL) == sizeof message &&
           recv(fd, answer, sizeof answer, 0) > 0;
}

int main(int count, char **words) {
    if (count < 4)
        usage("hold PORT CONNECTIONS SECONDS");
    int connections = atoi(words[2]), held = 0;
    rlim_t descriptors = (rlim_t)connections + SPARE_DESCRIPTORS;
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){descriptors, descriptors}))
        die("cannot raise the limit of open files");
    sleep(1);
    long before = available_kib();
    uint64_t start = now_ns();
    for (int i = 0; i < connections; i++)
        held += open_one(atoi(words[1]), i);
    double seconds = (double)(now_ns() - start) / 1e9;
    sleep(2);
    printf("%d/%d held, setup %.0f/s, %.1f KiB per connection (both ends)\n", held, connections,
           held / seconds, (double)(before - available_kib()) / (held ? held : 1));
    fflush(stdout);
    sleep((unsigned)atoi(words[3]));
}
