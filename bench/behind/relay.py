#!/usr/bin/env python3
"""Stands in place of a program that speaks on standard input and output: has it started behind tine
and relays both to a connection to it.

usage: relay.py BROKER PROGRAM ARGUMENT...

The server is started, or found, by the broker: a Unix socket of servers.py. The end of standard
input becomes the end of the stream, and the end of the connection that of the relay."""

import json, os, select, socket, sys, threading

SIZE = 65536


def ask(broker, words):
    """The port of the server of these words, with the directory, the environment and the umask of
    this process."""
    umask = os.umask(0)
    os.umask(umask)
    request = {'words': words, 'cwd': os.getcwd(), 'umask': umask, 'environment': dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(broker)
        stream.sendall(json.dumps(request).encode())
        stream.shutdown(socket.SHUT_WR)
        with stream.makefile() as reply:
            answer = json.load(reply)
    if 'error' in answer:
        sys.exit(f'relay: {answer["error"]}')
    return answer['port']


def send(connection):
    """Sends standard input to the connection, and its end."""
    try:
        while piece := read():
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass  # The program has closed its end: the other direction says how it goes on.


def read():
    """The next of standard input. It can be non-blocking: rsync makes its sockets so."""
    while True:
        select.select([0], [], [])
        try:
            return os.read(0, SIZE)
        except BlockingIOError:
            pass


def write(piece):
    """Writes all of it to standard output, which can be non-blocking, too."""
    while piece:
        select.select([], [1], [])
        try:
            piece = piece[os.write(1, piece) :]
        except BlockingIOError:
            pass


def main():
    with socket.create_connection(('127.0.0.1', ask(sys.argv[1], sys.argv[2:]))) as connection:
        threading.Thread(target=send, args=(connection,), daemon=True).start()
        try:
            while piece := connection.recv(SIZE):
                write(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The reader of the output is gone, or the program has reset the connection.
    # Not by sys.exit: the other thread can be in a read of standard input.
    os._exit(0)


main()
