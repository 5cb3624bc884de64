// null: the cheapest server there is: accepts, receives once, sends it back, closes. One thread,
// one connection at a time. The rate that a client reaches against it is the most that the client
// can do.
//
// usage: null PORT
#include "yardstick.h"

int main(int count, char **words) {
    if (count < 2)
        usage("null PORT");
    char buffer[65536];
    int listener = listen_on(atoi(words[1]));
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        ssize_t length = recv(client, buffer, sizeof buffer, 0);
        if (length > 0)
            send(client, buffer, (size_t)length, MSG_NOSIGNAL);
        close(client);
    }
}
