/* Holds a robust mutex while it reads, and has a restartable sequence registered (rseq(2)), where
 * the C library does. A process that dies with such a mutex passes it on; the copy does. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__GLIBC__) && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

static pthread_mutex_t *robust(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_t *mutex =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutex_init(mutex, &attributes);
  return mutex;
}

/* Whether the kernel writes the number of the processor: it refuses to register the same again. */
static int has_sequence(void) {
#ifdef RSEQ_SIG
  if (__rseq_size == 0) return 1;
  struct rseq *own = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
  long again = syscall(SYS_rseq, own, 32, 0, RSEQ_SIG);
  return again == -1 && errno == EBUSY && (int)own->cpu_id >= 0;
#else
  return 1;
#endif
}

int main(void) {
  pthread_mutex_t *before = robust(), *after = robust();
  pthread_mutex_lock(before);
  char byte = 0;
  if (read(0, &byte, 1) != 1) return 1;
  int own = pthread_mutex_trylock(before) == EBUSY; /* Of the template, which lives. */
  pthread_mutex_lock(after);
  if (fork() != 0) _exit(has_sequence() ? 0 : 2);
  alarm(30); /* The end, should nobody pass it on. */
  int taken = pthread_mutex_lock(after);
  printf("%c: busy %d, then %s, still busy %d\n", byte, own,
         taken == EOWNERDEAD ? "EOWNERDEAD" : strerror(taken), pthread_mutex_trylock(before) == EBUSY);
  return 0;
}
