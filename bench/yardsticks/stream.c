// stream: sends long streams through an echo server, both ways at once, and checks every byte.
//
// usage: stream PORT CONNECTIONS MIB [CHUNK]
//
// Each connection, a process of its own, sends MIB mebibytes in chunks of CHUNK (65536) bytes and
// half-closes. It must receive the same bytes and then the end of the stream. Prints the rate in
// one direction, and how many connections failed; what failed is on standard error. The exit code
// is 1 if any did.
#include "yardstick.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/wait.h>

enum { RECEIVE_BYTES = 1 << 20, SILENCE_MS = 20000 };

struct stream {
    int fd, id;
    uint64_t total, sent, received, wrong;
    unsigned char *chunk, *buffer;
    size_t chunk_bytes, filled, chunk_sent;
};

// The byte at an offset of a connection's stream. No period that a lost or doubled buffer could
// fit.
static unsigned char byte_at(uint64_t offset, int id) {
    return (unsigned char)((offset * 0x9e3779b1u >> 15) + offset + (uint64_t)id * 59);
}

static void fill_chunk(struct stream *s) {
    uint64_t left = s->total - s->sent;
    s->filled = left < s->chunk_bytes ? left : s->chunk_bytes;
    s->chunk_sent = 0;
    for (size_t i = 0; i < s->filled; i++)
        s->chunk[i] = byte_at(s->sent + i, s->id);
}

static bool send_some(struct stream *s) {
    if (s->chunk_sent == s->filled)
        fill_chunk(s);
    ssize_t length = send(s->fd, s->chunk + s->chunk_sent, s->filled - s->chunk_sent,
                          MSG_DONTWAIT | MSG_NOSIGNAL);
    if (length < 0)
        return errno == EAGAIN;
    s->chunk_sent += (size_t)length;
    s->sent += (uint64_t)length;
    if (s->sent == s->total)
        shutdown(s->fd, SHUT_WR);
    return true;
}

// Whether to go on. At the end of the stream `*ended` is set.
static bool receive_some(struct stream *s, bool *ended) {
    ssize_t length = recv(s->fd, s->buffer, RECEIVE_BYTES, MSG_DONTWAIT);
    *ended = length == 0;
    if (length < 0)
        return errno == EAGAIN;
    for (ssize_t i = 0; i < length; i++)
        s->wrong += s->buffer[i] != byte_at(s->received + (uint64_t)i, s->id);
    s->received += (uint64_t)length;
    return true;
}

// Sends and receives until the server ends the stream. Whether nothing failed meanwhile.
static bool exchange(struct stream *s) {
    bool ended = false;
    while (!ended) {
        short events = POLLIN | (s->sent < s->total ? POLLOUT : 0);
        struct pollfd poll_fd = {.fd = s->fd, .events = events};
        if (poll(&poll_fd, 1, SILENCE_MS) <= 0) {
            fprintf(stderr, "%d: nothing for %d s\n", s->id, SILENCE_MS / 1000);
            return false;
        }
        if (poll_fd.revents & POLLOUT && !send_some(s)) {
            perror("send");
            return false;
        }
        if (poll_fd.revents & (POLLIN | POLLHUP | POLLERR) && !receive_some(s, &ended)) {
            perror("recv");
            return false;
        }
    }
    return true;
}

static bool run(int port, int id, int mib, size_t chunk_bytes) {
    struct sockaddr_in server = ipv4(INADDR_LOOPBACK, port);
    struct stream s = {
        .fd = socket(AF_INET, SOCK_STREAM, 0),
        .id = id,
        .total = (uint64_t)mib << 20,
        .chunk_bytes = chunk_bytes,
        .chunk = malloc(chunk_bytes),
        .buffer = malloc(RECEIVE_BYTES),
    };
    if (s.fd < 0 || !s.chunk || !s.buffer)
        die("cannot start");
    if (connect(s.fd, (struct sockaddr *)&server, sizeof server))
        die("connect");
    bool is_whole = exchange(&s) && s.received == s.total && s.wrong == 0;
    if (!is_whole)
        fprintf(stderr, "%d: sent %llu of %llu bytes, received %llu, %llu of them wrong\n", id,
                (unsigned long long)s.sent, (unsigned long long)s.total,
                (unsigned long long)s.received, (unsigned long long)s.wrong);
    return is_whole;
}

int main(int count, char **words) {
    if (count < 4)
        usage("stream PORT CONNECTIONS MIB [CHUNK]");
    int connections = atoi(words[2]), mib = atoi(words[3]), failed = 0, status;
    size_t chunk_bytes = count > 4 ? (size_t)atoi(words[4]) : 65536;
    uint64_t start = now_ns();
    for (int id = 0; id < connections; id++)
        if (fork() == 0)
            _exit(!run(atoi(words[1]), id, mib, chunk_bytes));
    while (wait(&status) > 0)
        failed += status != 0;
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("%.0f MiB/s, %d of %d connections failed\n", connections * (double)mib / seconds, failed,
           connections);
    return failed > 0;
}
