// robust: a number below a robust mutex in shared memory (pthread_mutexattr_setrobust(3)), to which
// processes add. What a lock costs that opens when its holder dies.
//
// usage: robust PROCESSES MILLISECONDS
//
// Prints the additions of all processes together in a second.
#include "yardstick.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { BATCH = 1000 };

struct shared {
    pthread_mutex_t mutex;
    uint64_t value;
    _Alignas(64) atomic_int ready;
    _Alignas(64) atomic_int go;
    _Alignas(64) _Atomic uint64_t operations;
    _Atomic uint64_t busy_ns;
};

static void add(struct shared *shared) {
    if (pthread_mutex_lock(&shared->mutex) == EOWNERDEAD)
        pthread_mutex_consistent(&shared->mutex);
    shared->value++;
    pthread_mutex_unlock(&shared->mutex);
}

static void run(struct shared *shared, uint64_t time_ns) {
    shared->ready++;
    while (!shared->go)
        ;
    uint64_t start = now_ns(), operations = 0, now;
    do {
        for (int one = 0; one < BATCH; one++)
            add(shared);
        operations += BATCH;
        now = now_ns();
    } while (now - start < time_ns);
    shared->operations += operations;
    shared->busy_ns += now - start;
}

int main(int count, char **words) {
    if (count < 3)
        usage("robust PROCESSES MILLISECONDS");
    int processes = atoi(words[1]);
    uint64_t time_ns = (uint64_t)atoll(words[2]) * 1000000;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->mutex, &robust);
    for (int one = 0; one < processes; one++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            run(shared, time_ns);
            _exit(0);
        }
    }
    while (shared->ready < processes)
        usleep(100);
    shared->go = 1;
    while (wait(NULL) > 0)
        ;
    double seconds = (double)shared->busy_ns / processes / 1e9;
    printf("%.0f\n", (double)shared->operations / seconds);
}
