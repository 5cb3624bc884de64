"""A real server in a fleet of simulated nodes: what its link and its supervisor use, and what it
says."""

import collections, contextlib, json, pathlib, socket, subprocess, tempfile, time

from fleet import nats, nodes
from fleet.constants import WHOLE

# Seconds until a node and the others have said everything once.
WARM = 2 * WHOLE


class RealNode:
    """A server with limits of the fleet."""

    def __init__(self, tine, port, name='real'):
        self.folder = tempfile.TemporaryDirectory()
        self.control = f'{self.folder.name}/control'
        words = [tine, 'serve', '--log', 'off', '-1', '--control', self.control, '--state-directory', 'none']
        words += ['--bus', f'nats://127.0.0.1:{port}', '--fleet', nodes.FLEET, '--name', name]
        words += ['--max-connections-per-source-fleet', '100', '--max-connections', '5000', '127.0.0.1:0']
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            self.port = int(self.process.stdout.readline())
            self.link = self.find_link()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def find_link(self):
        """The child that was executed anew: its command line has nothing but the name."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pid = self.process.pid
            for child in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split():
                if pathlib.Path(f'/proc/{child}/cmdline').read_bytes() == b'tine\0':
                    return int(child)
            time.sleep(0.05)
        raise SystemExit('the server has no link')

    def bans(self):
        """How many it knows."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(self.control)
            stream.sendall(b'{"version":1,"command":"status"}\n')
            return json.loads(stream.makefile().readline())['bans']

    def times(self):
        """Processor times of its link and its supervisor, in seconds."""
        return [nats.processor_time(pid) for pid in (self.link, self.process.pid)]


def measure_hearing(tine, others, seconds):
    """A node that hears these: what it hears in a second, processors that its link and its
    supervisor keep busy, and the memory of its link."""
    with nats.Server() as server, RealNode(tine, server.port) as node:
        with nodes.Running(server.port, others, WARM + seconds) as running:
            time.sleep(WARM)
            before, begin = node.times(), time.monotonic()
            time.sleep(seconds - 0.5)
            after, taken = node.times(), time.monotonic() - begin
            memory = nats.resident(node.link)
            said, _, size, _ = running.wait()
    link, supervisor = ((end - start) / taken for start, end in zip(before, after))
    known = sum(len(node.kept) for node in others)
    heard, size = said / (WARM + seconds), size / len(others) / (WARM + seconds)
    return {'heard': heard, 'bytes': size, 'known': known, 'link': link, 'supervisor': supervisor, 'memory': memory}


def visit(port, rate, held, seconds, hearer):
    """Connects so often in a second, each time from another address, and holds each connection for
    so long. Returns what is heard in the last seconds."""
    text, open_ones, begin, begun = b'', collections.deque(), time.monotonic(), 0
    hearer.settimeout(0.5 / rate)
    while (now := time.monotonic() - begin) < WARM + held + seconds:
        while begun < now * rate:
            source = f'127.9.{begun // 250 % 250}.{1 + begun % 250}'
            open_ones.append((now + held, socket.create_connection(('127.0.0.1', port), 5, (source, 0))))
            begun += 1
        while open_ones and open_ones[0][0] <= now:
            open_ones.popleft()[1].close()
        try:
            heard = hearer.recv(1 << 20)
            text += heard if now > WARM + held else b''
        except TimeoutError:
            pass
    while open_ones:
        open_ones.popleft()[1].close()
    return text


def measure_saying(tine, rate, held, seconds):
    """A node with so many connections in a second, which last so long: what it says in a second,
    the changes in that and its bytes."""
    with nats.Server() as server, RealNode(tine, server.port) as node:
        hearer = nats.connected(server.port, f'tine.fleet.{nodes.FLEET}.node.*')
        # The others are a node that says nothing of sources.
        with nodes.Running(server.port, [nodes.Own(0, 0, 0)], WARM + held + seconds):
            text = visit(node.port, rate, held, seconds, hearer)
        hearer.close()
    lines = [line for line in text.split(b'\r\n') if line.startswith(b'{') and line.endswith(b'}')]
    lines = [line for line in lines if b'"node":"real"' in line]
    messages = [json.loads(line) for line in lines]
    size = sum(len(f'MSG tine.fleet.{nodes.FLEET}.node.real 1 {len(line)}\r\n\r\n') + len(line) for line in lines)
    changes = sum(len(message['used']) for message in messages if not message['whole'])
    return {'messages': len(messages) / seconds, 'changes': changes / seconds, 'bytes': size / seconds}


def put_bans(port, number):
    """Puts bans into the bucket, as an operator would."""
    client, at = nats.connected(port), int(1000 * time.time())
    text = json.dumps({'state': 'forever', 'at': at, 'node': 'operator'}).encode()
    for bits in range(0x0A000000, 0x0A000000 + number):
        client.sendall(nats.publication(f'$KV.tine-bans-{nodes.FLEET}.4-{bits:08x}-32', text))
    client.close()


def measure_bans(tine, count, number):
    """So many bans for so many nodes: processor time of the NATS server for each, that of a link
    for each, and the seconds until all have them."""
    with nats.Server() as server, contextlib.ExitStack() as stack:
        all_nodes = [stack.enter_context(RealNode(tine, server.port, f'n{at}')) for at in range(count)]
        # They have made the bucket, and watch it.
        time.sleep(WARM)
        before, links, begin = server.cpu(), [node.times()[0] for node in all_nodes], time.monotonic()
        put_bans(server.port, number)
        while any(node.bans() < number for node in all_nodes):
            if time.monotonic() > begin + 60:
                raise SystemExit('bans have not arrived within a minute')
            time.sleep(0.1)
        taken, used = time.monotonic() - begin, server.cpu() - before
        of_links = sum(node.times()[0] for node in all_nodes) - sum(links)
    return {'bus': used / number, 'link': of_links / count / number, 'seconds': taken}
