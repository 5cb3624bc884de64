"""Simulated nodes of a fleet on a NATS server, by its text protocol: each says what a node says,
and hears all others."""

import asyncio, json, os, pathlib, subprocess, tempfile, time


class Server:
    """A NATS server on a port that the kernel chooses."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        words = ['nats-server', '-a', '127.0.0.1', '-p', '-1', '--ports_file_dir', self.folder.name]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + 30
        while True:
            for file in pathlib.Path(self.folder.name).iterdir():
                try:
                    self.port = int(json.loads(file.read_text())['nats'][0].rsplit(':', 1)[1])
                    return self
                except ValueError:
                    pass
            if time.monotonic() > deadline:
                raise SystemExit('nats-server has no port')
            time.sleep(0.01)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def cpu(self):
        """Its processor time so far, in seconds."""
        fields = pathlib.Path(f'/proc/{self.process.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class SimulatedNode:
    """A node that says something so often in a second, about so many sources."""

    def __init__(self, number, sources, often):
        self.name, self.sources, self.number, self.often = f'n{number}', sources, number, often
        self.sent = self.heard = self.bytes = 0

    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection('127.0.0.1', port, limit=1 << 22)
        await self.reader.readline()
        self.writer.write(b'CONNECT {"verbose":false,"echo":false}\r\nSUB tine.fleet.sim.node.* 1\r\nPING\r\n')
        while await self.reader.readline() != b'PONG\r\n':
            pass

    async def hear(self):
        while line := await self.reader.readline():
            if line.startswith(b'MSG'):
                length = int(line.split()[-1])
                await self.reader.readexactly(length + 2)
                self.heard += 1
                self.bytes += length
            elif line.startswith(b'PING'):
                self.writer.write(b'PONG\r\n')

    async def say(self, until):
        at = time.monotonic()
        while at < until:
            used = [[f'10.{self.number}.{(one >> 8) & 255}.{one & 255}', 1, 1] for one in range(self.sources)]
            message = {'v': 1, 'node': self.name, 'incarnation': f'{self.number:016x}', 'seq': self.sent}
            message |= {'whole': None, 'used': used, 'penalties': [], 'bye': False}
            text = json.dumps(message, separators=(',', ':')).encode()
            self.writer.write(b'PUB tine.fleet.sim.node.%s %d\r\n%s\r\n' % (self.name.encode(), len(text), text))
            await self.writer.drain()
            self.sent += 1
            at += 1 / self.often
            await asyncio.sleep(max(0, at - time.monotonic()))


async def simulate(port, nodes, sources, often, seconds):
    all_nodes = [SimulatedNode(number, sources, often) for number in range(nodes)]
    await asyncio.gather(*(node.connect(port) for node in all_nodes))
    hearing = [asyncio.create_task(node.hear()) for node in all_nodes]
    until = time.monotonic() + seconds
    await asyncio.gather(*(node.say(until) for node in all_nodes))
    await asyncio.sleep(0.3)
    for task in hearing:
        task.cancel()
    for node in all_nodes:
        node.writer.close()
    return [sum(getattr(node, what) for node in all_nodes) for what in ('sent', 'heard', 'bytes')]


def measure(nodes, sources, often, seconds):
    """Messages received and delivered, bytes delivered, and processors kept busy, all in a
    second."""
    with Server() as server:
        before, begin = server.cpu(), time.monotonic()
        sent, heard, size = asyncio.run(simulate(server.port, nodes, sources, often, seconds))
        time_taken, cpu = time.monotonic() - begin, server.cpu() - before
    return sent / time_taken, heard / time_taken, size / time_taken, cpu / time_taken
