/* A plugin of the example `plugin`: the length of a line, times FACTOR. Some lines crash it. */
#include <stdlib.h>
#include <string.h>

long answer(const char *line) {
    if (strcmp(line, "abort") == 0) abort();
    if (strcmp(line, "segfault") == 0) *(volatile int *)16 = 1;
    return FACTOR * (long)strlen(line);
}
