/* Reads while a signal that it has blocked is pending, and with an alternate stack that it is not
 * on. A fork inherits the mask and the stack, but no pending signal. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t handled[2], on_stack;
static char stack[65536];

static void on_signal(int number) {
  char here = 0;
  handled[number == SIGUSR2]++;
  on_stack += &here >= stack && &here < stack + sizeof stack;
}

static int pending(void) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, SIGUSR1);
}

int main(void) {
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
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
  printf("%c: pending %d %d %d, handled %d %d, other %d, on stack %d\n", byte, before, after, again,
         early, (int)handled[0], (int)handled[1], (int)on_stack);
  return 0;
}
