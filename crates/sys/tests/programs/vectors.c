/* Keeps values in all vector registers of 256 bits while it reads, and the modes of both units for
 * floating point. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint8_t in[16][32], out[16][32];
static char byte;

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) \
  DO(13) DO(14) DO(15)
#define LOAD(NUMBER) "vmovdqu 32*" #NUMBER "(%[in]), %%ymm" #NUMBER "\n"
#define STORE(NUMBER) "vmovdqu %%ymm" #NUMBER ", 32*" #NUMBER "(%[out])\n"

int main(void) {
  if (!__builtin_cpu_supports("avx")) {
    puts("no AVX");
    return 0;
  }
  for (int number = 0; number < 16; number++)
    for (int at = 0; at < 32; at++) in[number][at] = (uint8_t)(number * 32 + at + 1);
  uint32_t towards_zero = 0x7f80, modes = 0;
  uint16_t single = 0x007f, control = 0;
  long result = 0;
  __asm__ volatile(
      "ldmxcsr %[towards_zero]\n fldcw %[single]\n"
      EACH(LOAD) "xor %%eax, %%eax\n xor %%edi, %%edi\n mov $1, %%edx\n syscall\n" EACH(STORE)
      "vzeroupper\n stmxcsr %[modes]\n fnstcw %[control]\n fninit\n"
      : "=&a"(result), [modes] "=m"(modes), [control] "=m"(control)
      : [in] "r"(in), [out] "r"(out), "S"(&byte), [towards_zero] "m"(towards_zero), [single] "m"(single)
      : "rdi", "rdx", "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
        "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  uint32_t usual = 0x1f80;
  __asm__ volatile("ldmxcsr %0" : : "m"(usual));
  printf("%c: read %ld, registers %d, modes %d %d\n", byte, result, memcmp(in, out, sizeof in) == 0,
         (modes & ~0x3fu) == towards_zero, control == single);
  return 0;
}
