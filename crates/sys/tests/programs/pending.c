/* Reads while a signal that it has blocked is pending. A fork inherits the mask, but no pending
 * signal. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t handled[2];

static void on_signal(int number) { handled[number == SIGUSR2]++; }

static int pending(void) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, SIGUSR1);
}

int main(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  raise(SIGUSR1);
  int before = pending();
  char byte = 0;
  if (read(0, &byte, 1) != 1) return 1;
  int after = pending();
  raise(SIGUSR1);
  raise(SIGUSR2);
  int again = pending();
  int early = handled[0];
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  printf("%c: pending %d %d %d, handled %d %d, other %d\n", byte, before, after, again, early,
         (int)handled[0], (int)handled[1]);
  return 0;
}
