"""Simulated nodes of a fleet: they say what nodes say, and hear all of it. They run in a process of
their own, beside one that measures how long a message takes."""

import heapq, json, math, multiprocessing, selectors, statistics, time

from fleet import nats
from fleet.constants import CHANGES, ENTRIES, HEARTBEAT, SAY, WHOLE

FLEET = 'sim'
# Messages a second that measure the time that one takes, and for how many seconds.
PROBES = 50
PROBED = 1
# What a delivered message begins with.
BEGIN = b'MSG tine.'


def address(node, source):
    """A source of a node; its text is as long as most are."""
    return f'198.{100 + node}.{100 + source // 150 % 150}.{100 + source % 150}'


class TooBusy(Exception):
    """What was measured is not what was meant."""


class Own:
    """What a node with these sources says, in the same order as crates/bus/src/fleet/own.rs:
    changes at once, everything in parts each two seconds, else a sign of life. `changes`: of how
    many sources the use changes in a second."""

    turn = SAY

    def __init__(self, node, sources, changes):
        self.name, self.changes = f'n{node}', changes
        told = [address(node, one) for one in range(max(1, sources, int(changes * SAY) + 1))]
        # The connections of a source, and those admitted since it was told last.
        self.entries = [f'["{one}",1,1]' for one in told]
        self.kept = [f'["{one}",1,0]' for one in told[:sources]]
        self.seq = 0
        self.at = self.changed = 0.0
        self.sent = -HEARTBEAT
        self.whole_due, self.part = 0.0, None

    def message(self, used, whole=None):
        self.seq += 1
        head = {'v': 1, 'node': self.name, 'incarnation': f'{1:016x}', 'seq': self.seq, 'whole': whole}
        text = json.dumps(head, separators=(',', ':'))[:-1]
        return f'{text},"used":[{",".join(used)}],"penalties":[],"bans":[],"bye":false}}'.encode()

    def say(self, now):
        """The messages of now, which is to be each tenth of a second."""
        messages = []
        self.changed += self.changes * SAY
        while len(messages) < CHANGES and self.changed >= 1:
            number = min(ENTRIES, int(self.changed))
            self.changed -= number
            first = int(self.at) % max(1, len(self.entries) - number + 1)
            self.at += number
            messages.append(self.message(self.entries[first : first + number]))
        if self.part is None and now >= self.whole_due - 1e-6:
            self.part, self.whole_due = 0, now + WHOLE
        if self.part is not None:
            used = self.kept[self.part : self.part + ENTRIES]
            # The span is not of these sources, so that nothing is taken for ended.
            messages.append(self.message(used, {'after': '255.255.255.254', 'to': None}))
            self.part = self.part + ENTRIES if len(used) == ENTRIES else None
        if not messages and now >= self.sent + HEARTBEAT - 1e-6:
            messages.append(self.message([]))
        if messages:
            self.sent = now
        return messages


class Steady:
    """A node that says something `often` in a second, about so many sources."""

    def __init__(self, node, sources, often):
        self.name, self.turn = f'n{node}', 1 / often
        self.own = Own(node, sources, 0)

    def say(self, _now):
        return [self.own.message(self.own.entries)]


class Connection:
    """That of a node to the bus."""

    def __init__(self, port, node):
        self.node = node
        self.client = nats.connected(port, f'tine.fleet.{FLEET}.node.*')
        self.client.setblocking(False)
        self.subject = f'tine.fleet.{FLEET}.node.{node.name}'
        self.waiting, self.end = b'', b''
        self.said = self.heard = self.bytes = 0

    def say(self, now):
        messages = self.node.say(now)
        self.said += len(messages)
        self.waiting += b''.join(nats.publication(self.subject, text) for text in messages)
        self.send()

    def send(self):
        while self.waiting:
            try:
                self.waiting = self.waiting[self.client.send(self.waiting) :]
            except BlockingIOError:
                return

    def hear(self):
        try:
            data = self.client.recv(1 << 20)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit('the NATS server has closed the connection of a node')
        self.bytes += len(data)
        # A message can begin in one piece, and go on in the next.
        text = self.end + data
        self.heard += text.count(BEGIN)
        self.end = text[-len(BEGIN) + 1 :]
        if b'PING\r\n' in text[-len(data) - 5 :]:
            self.waiting += b'PONG\r\n'


def speak(port, nodes, seconds, pipe):
    """Runs the nodes for some time. Their turns are spread over the time."""
    all_nodes = [Connection(port, node) for node in nodes]
    selector = selectors.DefaultSelector()
    for one in all_nodes:
        selector.register(one.client, selectors.EVENT_READ, one)
    pipe.send('ready')
    begin = time.monotonic()
    turns = [(node.turn * number / len(nodes), number) for number, node in enumerate(nodes)]
    heapq.heapify(turns)
    latest = 0.0
    while (now := time.monotonic() - begin) < seconds + 0.2:
        while turns and turns[0][0] <= now:
            due, number = heapq.heappop(turns)
            if due < seconds:
                latest = max(latest, now - due)
                all_nodes[number].say(due)
                heapq.heappush(turns, (due + nodes[number].turn, number))
        for one in all_nodes:
            one.send()
        until = turns[0][0] if turns else seconds + 0.2
        for key, _ in selector.select(max(0, until - (time.monotonic() - begin))):
            key.data.hear()
    totals = [sum(getattr(one, what) for one in all_nodes) for what in ('said', 'heard', 'bytes')]
    pipe.send((*totals, latest))


def probe(port, seconds):
    """How long a message takes through the bus: seconds, in order."""
    speaker, hearer = nats.connected(port), nats.connected(port, 'probe')
    times, begin = [], time.monotonic()
    for number in range(int(seconds * PROBES)):
        time.sleep(max(0, begin + number / PROBES - time.monotonic()))
        sent = time.monotonic()
        speaker.sendall(nats.publication('probe', b'x'))
        text = b''
        while b'\r\nx\r\n' not in text:
            text += hearer.recv(4096)
        times.append(time.monotonic() - sent)
        if b'PING\r\n' in text:
            hearer.sendall(b'PONG\r\n')
    for client in (speaker, hearer):
        client.close()
    return sorted(times)


class Running:
    """Nodes that speak in a process of their own, for so many seconds."""

    def __init__(self, port, nodes, seconds):
        context = multiprocessing.get_context('fork')
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=speak, args=(port, nodes, seconds, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self):
        self.wait()
        return self

    def wait(self):
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit('the simulated nodes have ended') from None

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


def measure(nodes, seconds):
    """What a NATS server does for these nodes: messages received and delivered, bytes delivered and
    processors kept busy, all in a second, and then the median and 99th percentile of the time that
    a message takes."""
    whole = seconds + PROBED
    with nats.Server() as server, Running(server.port, nodes, whole) as running:
        before, begin = server.cpu(), time.monotonic()
        time.sleep(seconds)
        taken, cpu = time.monotonic() - begin, server.cpu() - before
        times = probe(server.port, PROBED)
        said, heard, size, late = running.wait()
    if heard < said * len(nodes) or late > 0.5:
        raise TooBusy(f'{heard} of {said * len(nodes)} messages were heard, and nodes spoke up to {late:.1f} s late')
    return {
        'received': said / whole, 'delivered': heard / whole, 'bytes': size / whole, 'processors': cpu / taken,
        'median': statistics.median(times), 'p99': times[math.ceil(0.99 * len(times)) - 1],
    }  # fmt: skip
