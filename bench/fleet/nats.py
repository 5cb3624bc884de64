"""A NATS server, and its text protocol."""

import json, os, pathlib, socket, subprocess, tempfile, time


def processor_time(pid):
    """What a process has used so far, in seconds: by its clock (clock_getcpuclockid(3)), as the
    ticks of /proc/PID/stat are too long for a process that does little."""
    return time.clock_gettime(~pid << 3 | 2)


def resident(pid):
    """The memory of a process, in bytes."""
    text = pathlib.Path(f'/proc/{pid}/status').read_text()
    return 1024 * int(text.partition('VmRSS:')[2].split()[0])


class Server:
    """A NATS server with JetStream, on a port that the kernel chooses."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        words = ['nats-server', '-a', '127.0.0.1', '-p', '-1', '--ports_file_dir', self.folder.name]
        quiet = subprocess.DEVNULL
        store = os.path.join(self.folder.name, 'store')
        self.process = subprocess.Popen([*words, '-js', '-sd', store], stdin=quiet, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + 30
        while True:
            for file in pathlib.Path(self.folder.name).glob('*.ports'):
                try:
                    self.port = int(json.loads(file.read_text())['nats'][0].rsplit(':', 1)[1])
                    return self
                except ValueError:
                    pass
            if time.monotonic() > deadline:
                self.__exit__()
                raise SystemExit('nats-server has no port')
            time.sleep(0.01)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def cpu(self):
        """Its processor time so far, in seconds."""
        return processor_time(self.process.pid)


def connected(port, *subjects):
    """A connection that hears these subjects."""
    client = socket.create_connection(('127.0.0.1', port), 10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listen = ''.join(f'SUB {subject} {number}\r\n' for number, subject in enumerate(subjects, 1))
    client.sendall(b'CONNECT {"verbose":false}\r\n' + listen.encode() + b'PING\r\n')
    text = b''
    while not text.endswith(b'PONG\r\n'):
        more = client.recv(1 << 16)
        if not more:
            raise SystemExit('the NATS server has closed a connection')
        text += more
    return client


def publication(subject, text):
    """The bytes that publish a text."""
    return b'PUB %s %d\r\n%s\r\n' % (subject.encode(), len(text), text)
