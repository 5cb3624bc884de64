/* Reads in a signal handler, on an alternate stack. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char stack[65536];
static char byte;
static int on_stack, listed, blocked;

static int blocks(int number) {
  sigset_t set;
  sigprocmask(SIG_SETMASK, NULL, &set);
  return sigismember(&set, number);
}

static void on_signal(int number) {
  char here = 0;
  if (read(0, &byte, 1) != 1) _exit(1);
  stack_t now;
  sigaltstack(NULL, &now);
  on_stack = &here >= stack && &here < stack + sizeof stack;
  listed = now.ss_sp == stack && now.ss_size == sizeof stack && now.ss_flags == SS_ONSTACK;
  blocked = blocks(number);
}

int main(void) {
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  volatile double kept = 1.5;
  raise(SIGUSR1);
  stack_t now;
  sigaltstack(NULL, &now);
  printf("%c: on stack %d, listed %d, blocked %d; then: free %d, blocked %d, %.2f\n", byte, on_stack,
         listed, blocked, now.ss_sp == stack && now.ss_flags == 0, blocks(SIGUSR1), kept * 2);
  return 0;
}
