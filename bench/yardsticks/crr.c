// crr: connect, request, response, close, in a closed loop. The cheapest client of its kind; every
// byte of a response is checked.
//
// usage: [CLOSE=rst|fin] [NUL=1] crr PORT SECONDS PROCESSES CONNECTIONS [BYTES [ROUNDS]]
//
// Each of PROCESSES processes keeps CONNECTIONS connections going. A connection sends a message of
// BYTES (10) and reads it back, ROUNDS (1) times, closes, and begins again. CLOSE=rst, the default,
// resets the connection, which leaves no TIME_WAIT behind; CLOSE=fin closes in the usual way.
// A message ends in a newline, or with NUL=1 in a zero byte, which the textbook server needs.
//
// Prints the rate, the number of errors and of wrong bytes ("mismatch", one for each read that has
// any), and percentiles of the time from connect to the end of the first response.
#include "yardstick.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>

// Times in microseconds are counted in buckets: one for each up to 2 * STEPS, then STEPS for each
// power of two, so the error is below one part in STEPS.
enum { STEPS = 128, STEP_BITS = 7, BUCKETS = STEPS * 40 };

enum { SOURCES = 200, MAX_EVENTS = 256 };

// What a process counts, in memory that it shares with its parent.
struct counts {
    uint64_t done, errors, mismatches;
    uint64_t times[BUCKETS];
};

struct connection {
    int fd;
    int received; // of the response that is being read
    int rounds;
    bool is_timed;
    uint64_t start;
};

struct load {
    int port, process, bytes, rounds;
    bool resets;
    uint64_t end;
    char *message;
    struct counts *counts;
    int poll;
    unsigned opened;
};

static unsigned bucket_of(uint64_t us) {
    unsigned shift = us < 2 * STEPS ? 0 : 63 - (unsigned)__builtin_clzll(us) - STEP_BITS;
    unsigned bucket = shift * STEPS + (unsigned)(us >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

// The time in the middle of a bucket.
static double time_of(unsigned bucket) {
    unsigned shift = bucket < 2 * STEPS ? 0 : bucket / STEPS - 1;
    return ((double)(bucket - shift * STEPS) + 0.5) * (double)(1ull << shift);
}

static void watch(struct load *load, struct connection *one, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = one};
    epoll_ctl(load->poll, operation, one->fd, &event);
}

// Starts a connection. One that fails at once is counted and not tried again.
static void open_connection(struct load *load, struct connection *one) {
    struct sockaddr_in server = ipv4(INADDR_LOOPBACK, load->port);
    int on = 1;
    *one = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
    if (one->fd < 0)
        die("socket");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bind_source(one->fd, (unsigned)load->process + 1, 1 + load->opened++ % SOURCES);
    one->start = now_ns();
    if (connect(one->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        load->counts->errors++;
        close(one->fd);
        return;
    }
    watch(load, one, EPOLL_CTL_ADD, EPOLLOUT);
}

static void close_connection(struct load *load, struct connection *one) {
    if (load->resets) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(one->fd);
}

static bool send_message(struct load *load, struct connection *one) {
    return send(one->fd, load->message, (size_t)load->bytes, 0) == load->bytes;
}

static bool is_right(struct load *load, struct connection *one, const char *bytes, ssize_t length) {
    for (ssize_t i = 0; i < length; i++)
        if (bytes[i] != load->message[(one->received + i) % load->bytes])
            return false;
    return true;
}

enum progress { GOES_ON, DONE, FAILED };

static enum progress receive_some(struct load *load, struct connection *one) {
    static char buffer[65536];
    ssize_t length = recv(one->fd, buffer, sizeof buffer, 0);
    if (length <= 0)
        return FAILED;
    load->counts->mismatches += !is_right(load, one, buffer, length);
    one->received += (int)length;
    if (one->received < load->bytes)
        return GOES_ON;
    if (!one->is_timed) {
        load->counts->times[bucket_of((now_ns() - one->start) / 1000)]++;
        one->is_timed = true;
    }
    one->received = 0;
    if (++one->rounds == load->rounds)
        return DONE;
    return send_message(load, one) ? GOES_ON : FAILED;
}

// The first event of a connection is that it can be written to, also when connecting failed: then
// `send` fails.
static enum progress advance(struct load *load, struct connection *one, uint32_t events) {
    if (!(events & EPOLLOUT))
        return receive_some(load, one);
    if (!send_message(load, one))
        return FAILED;
    watch(load, one, EPOLL_CTL_MOD, EPOLLIN);
    return GOES_ON;
}

static void run(struct load *load, int connections) {
    struct connection *all = calloc((size_t)connections, sizeof *all);
    struct epoll_event events[MAX_EVENTS];
    load->poll = epoll_create1(0);
    if (!all || load->poll < 0)
        die("epoll");
    for (int i = 0; i < connections; i++)
        open_connection(load, &all[i]);
    while (now_ns() < load->end) {
        int ready = epoll_wait(load->poll, events, MAX_EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            enum progress progress = advance(load, one, events[i].events);
            if (progress == GOES_ON)
                continue;
            load->counts->done += progress == DONE;
            load->counts->errors += progress == FAILED;
            close_connection(load, one);
            if (now_ns() < load->end)
                open_connection(load, one);
        }
    }
}

static char *make_message(int bytes) {
    const char *nul = getenv("NUL");
    char *message = malloc((size_t)bytes);
    if (!message)
        die("malloc");
    for (int i = 0; i < bytes; i++)
        message[i] = (char)('a' + i % 26);
    message[bytes - 1] = nul ? '\0' : '\n';
    return message;
}

static double percentile(const struct counts *sum, double share) {
    uint64_t all = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        all += sum->times[i];
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += sum->times[i];
        if (seen && (double)seen >= share * (double)all)
            return time_of(i);
    }
    return 0;
}

static void print(const struct counts *counts, int processes, double seconds) {
    static struct counts sum;
    for (int process = 0; process < processes; process++) {
        sum.done += counts[process].done;
        sum.errors += counts[process].errors;
        sum.mismatches += counts[process].mismatches;
        for (int i = 0; i < BUCKETS; i++)
            sum.times[i] += counts[process].times[i];
    }
    printf("%.0f conns/s err=%llu mismatch=%llu p50=%.0fus p90=%.0fus p99=%.0fus p99.9=%.0fus\n",
           (double)sum.done / seconds, (unsigned long long)sum.errors,
           (unsigned long long)sum.mismatches, percentile(&sum, 0.5), percentile(&sum, 0.9),
           percentile(&sum, 0.99), percentile(&sum, 0.999));
}

int main(int count, char **words) {
    if (count < 5)
        usage("[CLOSE=rst|fin] [NUL=1] crr PORT SECONDS PROCESSES CONNECTIONS [BYTES [ROUNDS]]");
    const char *how_to_close = getenv("CLOSE");
    int processes = atoi(words[3]);
    struct load load = {
        .port = atoi(words[1]),
        .bytes = count > 5 ? atoi(words[5]) : 10,
        .rounds = count > 6 ? atoi(words[6]) : 1,
        .resets = !how_to_close || strcmp(how_to_close, "fin"),
    };
    struct counts *counts = mmap(NULL, sizeof *counts * (size_t)processes, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        die("mmap");
    signal(SIGPIPE, SIG_IGN);
    load.message = make_message(load.bytes);
    uint64_t start = now_ns();
    load.end = start + (uint64_t)(atof(words[2]) * 1e9);
    for (load.process = 0; load.process < processes; load.process++)
        if (fork() == 0) {
            load.counts = &counts[load.process];
            run(&load, atoi(words[4]));
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    print(counts, processes, (double)(now_ns() - start) / 1e9);
}
