/* What a program that is judged can do beyond what it is given. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(1)};
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    int connected = connect(client, (struct sockaddr *)&port, sizeof port);
    printf("network: %s\n", connected == 0 ? "yes" : strerror(errno));
    printf("file: %s\n", fopen("OUTSIDE", "r") ? "yes" : strerror(errno));
    void *volatile memory = malloc(1UL << 30);
    printf("memory: %s\n", memory ? "yes" : strerror(errno));
    fflush(stdout);
    int children = 0;
    for (pid_t child; children < 1000 && (child = fork()) != -1; children++) {
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
    printf("children: %s\n", children < 32 ? "few" : "many");
    return children > 0 ? 3 : 4;
}
