// copy: copies standard input to standard output until the input ends. What a program for each
// connection costs at least, as it has neither libraries to load nor much to prepare.
//
// usage: copy
#include "yardstick.h"

int main(void) {
    char buffer[4096];
    ssize_t length;
    while ((length = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
        if (write(STDOUT_FILENO, buffer, (size_t)length) != length)
            die("write");
    return length < 0 ? EXIT_SYSTEM : 0;
}
