"""Servers of tine for the programs of a suite. The broker starts one for each command that a relay
asks for, and stops all of them when the test is over; their logs say which connections were served
by copies."""

import dataclasses, hashlib, json, os, pathlib, signal, socket, subprocess, threading

START_TIMEOUT = 60
STOP_TIMEOUT = 30


@dataclasses.dataclass
class Served:
    """How many connections have ended, by the start of their program."""

    copies: int = 0
    executions: int = 0

    def __add__(self, other):
        return Served(self.copies + other.copies, self.executions + other.executions)


def served(log):
    """What a log in JSON says about the connections that have ended."""
    events = [json.loads(line) for line in log.splitlines()]
    starts = [event.get('start', 'cold') for event in events if event['event'] == 'end']
    return Served(starts.count('warm'), len(starts) - starts.count('warm'))


def command(tine, options, log, words, port=0):
    """The command line of a server for these words, which prints its port when it is ready."""
    fixed = ['--log', 'json', '--log-file', log, '--print-ports', '--forkers', '1']
    return [str(word) for word in [tine, 'serve', *options, *fixed, f'127.0.0.1:{port}', '--', *words]]


def stop(process):
    """Ends a server that leads a session of its own, and waits for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


class Broker:
    """Starts servers for the relays that connect to its Unix socket. A command has one server as
    long as its directory, its environment and the files that it reads at the start are the same:
    tine notices a changed file after 0.2 seconds, and a test connects at once."""

    def __init__(self, tine, options, folder, read_at_start):
        """`options` are those of the server, `read_at_start(words)` gives the files that the
        program of these words reads before it uses the connection."""
        self.tine, self.options, self.read_at_start = tine, options, read_at_start
        self.folder = pathlib.Path(folder)
        self.path = self.folder / 'broker'
        self.lock, self.servers, self.made = threading.Lock(), {}, 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen(64)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return  # `close`
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with client, client.makefile() as reader:
            try:
                reply = {'port': self.port(json.load(reader))}
            except (OSError, RuntimeError, ValueError) as error:
                reply = {'error': str(error)}
            client.sendall(json.dumps(reply).encode())

    def key(self, request):
        """What makes a server of its own necessary."""
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
        for path in self.read_at_start(request['words']):
            file = pathlib.Path(request['cwd'], path)
            content = file.read_bytes() if file.is_file() else b''
            digest.update(f'{path}\0{len(content)}\0'.encode() + content)
        return digest.digest()

    def port(self, request):
        key = self.key(request)
        with self.lock:
            if key not in self.servers:
                self.servers[key] = self.start(request)
            return self.servers[key][1]

    def start(self, request):
        self.made += 1
        errors = self.folder / f'{self.made}.err'
        words = command(self.tine, self.options, self.folder / f'{self.made}.log', request['words'])
        with errors.open('wb') as stderr:
            process = subprocess.Popen(
                words,
                cwd=request['cwd'],
                umask=request['umask'],
                env=request['environment'],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        watchdog = threading.Timer(START_TIMEOUT, process.kill)
        watchdog.start()
        with process.stdout:
            port = process.stdout.readline()
        watchdog.cancel()
        if not port:
            code = process.wait()
            raise RuntimeError(f'tine ends with {code}: {errors.read_text()}{self.log(self.made)}')
        return process, int(port)

    def log(self, number):
        file = self.folder / f'{number}.log'
        return file.read_text() if file.exists() else ''

    def close(self):
        """Stops the servers, and takes no more requests."""
        self.stop()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def stop(self):
        """Stops the servers, and returns what all of them have served since the last stop."""
        with self.lock:
            for process, _ in self.servers.values():
                stop(process)
            total = sum((served(self.log(one + 1)) for one in range(self.made)), Served())
            for one in range(self.made):
                (self.folder / f'{one + 1}.log').unlink(missing_ok=True)
            self.servers, self.made = {}, 0
        return total
