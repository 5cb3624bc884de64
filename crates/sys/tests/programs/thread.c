/* What the C library knows of its thread: the id in the owner of a mutex and in raise(3), streams,
 * processes and threads that it makes. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t raised;

static void on_signal(int number) { raised += number == SIGUSR1; }

static void *body(void *argument) { return (char *)argument + (getpid() != (int)syscall(SYS_gettid)); }

static int owner(pthread_mutex_t *mutex) {
#ifdef __GLIBC__
  return mutex->__data.__owner;
#else
  return ((int *)mutex)[1] & 0x3fffffff; /* musl: the lock, without the bits for waiters */
#endif
}

int main(void) {
  pthread_mutexattr_t attributes;
  pthread_mutex_t mutex;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&mutex, &attributes);
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  signal(SIGUSR1, on_signal);
  printf("early ");

  char line[64] = "";
  if (!fgets(line, sizeof line, stdin)) return 1;

  int first = pthread_mutex_lock(&mutex), second = pthread_mutex_lock(&mutex);
  int own = owner(&mutex) == (int)syscall(SYS_gettid);
  raise(SIGUSR1);
  pthread_kill(pthread_self(), SIGUSR1);
  fflush(stdout); /* The child has none of it. */
  pid_t child = fork();
  if (child == 0) exit(owner(&mutex) == getpid() ? 1 : 7);
  int status = 0;
  int waited = waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
  pthread_t thread;
  void *result = NULL;
  pthread_create(&thread, NULL, body, line);
  pthread_join(thread, &result);
  printf("%s: %d %s, owner %d, raised %d, child %d, thread %d\n", line, first,
         second == EDEADLK ? "EDEADLK" : strerror(second), own, (int)raised, waited,
         (int)((char *)result - line));
  return 0;
}
