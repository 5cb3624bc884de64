#!/usr/bin/env python3
"""Stands in place of `git daemon` in git's test suite: `git-daemon --inetd` behind tine.

usage: git_daemon.py TINE LOGS [OPTION...] -- ARGUMENTS OF GIT DAEMON

The options are those of the server, whose log is a new file in LOGS. As the suite expects, it says
on standard error when it is ready, and TERM ends it by that signal."""

import os, pathlib, signal, subprocess, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from behind.servers import command, stop

# What `git daemon --inetd` refuses, and tine does instead.
LISTENING = ('--listen=', '--port=', '--reuseaddr', '--pid-file=')


def program(arguments, exec_path):
    """The port, the file for the process id, and the program for each connection. It is named
    itself: git would wait for it."""
    given = dict(word.split('=', 1) for word in arguments if word.startswith(LISTENING) and '=' in word)
    rest = [word for word in arguments if not word.startswith(LISTENING)]
    words = [f'{exec_path}/git-daemon', '--inetd', '--log-destination=stderr', *rest]
    return int(given['--port']), given['--pid-file'], words


def main():
    at = sys.argv.index('--')
    tine, logs, *options = sys.argv[1:at]
    exec_path = subprocess.run(['git', '--exec-path'], check=True, capture_output=True, text=True)
    port, pid_file, words = program(sys.argv[at + 1 :], exec_path.stdout.strip())
    # A TERM that comes before the server is there ends it, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = subprocess.Popen(
        command(tine, options, f'{logs}/{os.getpid()}.log', words, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}),
    )
    if not server.stdout.readline():
        sys.exit(f'git_daemon.py: tine ends with {server.wait()}')
    pathlib.Path(pid_file).write_text(f'{server.pid}\n')
    print(f'[{server.pid}] Ready to rumble', file=sys.stderr, flush=True)
    signal.sigwait({signal.SIGTERM})
    stop(server)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


if __name__ == '__main__':
    main()
