"""A rolling update of three nodes behind Debian's HAProxy, with the configuration of docs/fleet.md,
while clients come at a rate: what they notice of it, with a delay of the drain and without."""

import csv, json, shutil, socket, subprocess, sys, time

import racing
from racing import OUT, ROOT, rows

# New connections each second, for these many seconds; a node is replaced once this much of them has
# passed after the one before it.
RATE = 2000
SECONDS = 30
EACH = 2

# The delay of docs/fleet.md, and none: what it is good for.
DELAYS = ('2s', '0s')

DEADLINE = 60


def free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait_until(what, check):
    deadline = time.monotonic() + DEADLINE
    while not (found := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f'{what}: not within {DEADLINE} s')
        time.sleep(0.01)
    return found


class Node:
    """A server with an address of its own: no socket of HAProxy takes its port meanwhile."""

    def __init__(self, number, delay):
        self.name, self.host, self.delay = f'n{number}', f'127.0.1.{number}', delay
        self.port, self.agent = free_port(self.host), free_port(self.host)
        self.socket = OUT / f'rolling-{number}.sock'
        self.start()

    def start(self):
        words = ['serve', '--log', 'off', '--state-directory', 'none', '--control', self.socket]
        words += ['--proxy-from', '127.0.0.1', '--drain-delay', self.delay]
        words += ['--haproxy-agent', f'{self.host}:{self.agent}', f'{self.host}:{self.port}']
        self.process = subprocess.Popen([racing.ARGS.tine, *words], stdin=subprocess.DEVNULL)

    def replace(self):
        """Drains the node, and starts it anew when it has ended."""
        subprocess.run([racing.ARGS.tine, 'drain', '--control', self.socket], check=True)
        if self.process.wait(DEADLINE) != 0:
            raise SystemExit(f'{self.name} has not ended well')
        self.start()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Haproxy:
    """HAProxy in front of nodes, whose addresses stand in the place of those of the document."""

    def __init__(self, nodes):
        self.port, self.socket = free_port('127.0.0.1'), OUT / 'haproxy.sock'
        text = (ROOT / 'docs' / 'fleet.md').read_text().split('```haproxy\n')[1].split('```')[0]
        changes = [('global\n', f'global\n  stats socket {self.socket} level admin\n')]
        changes.append(('bind :9999\n', f'bind 127.0.0.1:{self.port}\n'))
        for number, node in enumerate(nodes, 11):
            ours = f'{node.host}:{node.port} agent-addr {node.host} agent-port {node.agent}\n'
            changes.append((f'10.0.0.{number}:9999 agent-addr 10.0.0.{number}\n', ours))
        for old, new in changes:
            if old not in text:
                raise SystemExit(f'docs/fleet.md: no {old!r} in the configuration of HAProxy')
            text = text.replace(old, new)
        file = OUT / 'haproxy.cfg'
        file.write_text(text)
        self.process = subprocess.Popen(['haproxy', '-db', '-q', '-f', file], stdin=subprocess.DEVNULL)

    def table(self):
        """What it knows of its servers, by their names; empty while it starts."""
        with socket.socket(socket.AF_UNIX) as stream:
            try:
                stream.connect(str(self.socket))
            except OSError:
                return {}
            stream.sendall(b'show stat tine 4 -1\n')
            text = stream.makefile().read()
        return {row['svname']: row for row in csv.DictReader(text.removeprefix('# ').splitlines())}

    def gets_clients(self, node):
        row = self.table().get(node.name)
        return row and row['status'] == 'UP' and int(row['weight']) > 0

    def stop(self):
        self.process.kill()
        self.process.wait()


def update(delay):
    """The row of a rolling update under load, and the number of clients that failed."""
    nodes = [Node(number, delay) for number in (1, 2, 3)]
    proxy = Haproxy(nodes)
    try:
        for node in nodes:
            wait_until(f'{node.name} gets clients', lambda: proxy.gets_clients(node))
        words = ['load', 'crr', '--rate', str(RATE), '-c', str(RATE), '-d', f'{SECONDS}s', '--json', '-']
        # A rate that HAProxy does not keep up with would be a failure of the measurement.
        words += ['--max-lateness', '1s', f'127.0.0.1:{proxy.port}']
        client = subprocess.Popen([racing.ARGS.tine, *words], stdout=subprocess.PIPE, text=True)
        for node in nodes:
            time.sleep(EACH)  # Clients come, and the node is one among others.
            node.replace()
            wait_until(f'{node.name} gets clients again', lambda: proxy.gets_clients(node))
        if client.poll() is not None:
            raise SystemExit(f'{SECONDS} s of clients are over before all nodes are replaced')
        report = json.loads(client.communicate()[0])
        servers = [row for name, row in proxy.table().items() if name in [node.name for node in nodes]]
    finally:
        proxy.stop()
        for node in nodes:
            node.stop()
    summary = report['summary']
    failed = sum(count for state, count in summary['states'].items() if state != 'ok')
    retried = sum(int(row['wretr']) + int(row['wredis']) for row in servers)
    latency = [f'{summary["latency_ns"][which] / 1e6:.1f}' for which in ('p50', 'p99', 'max')]
    reasons = ', '.join(f'{count} {state}' for state, count in summary['states'].items() if state != 'ok')
    row = [delay, f'{summary["states"].get("ok", 0):,}', failed, reasons or '–', retried, *latency]
    row.append('; '.join(map(str, report['validity']['reasons'])) or 'yes')
    return row, failed


def section_rolling():
    """Three nodes that are drained, ended and started anew, one after the other."""
    if not shutil.which('haproxy'):
        sys.exit('haproxy is not installed; scripts/test installs it')
    lines, failures = [], {}
    for delay in DELAYS:
        row, failures[delay] = update(delay)
        lines.append(row)
    done = rows(
        f'A rolling update of three nodes behind HAProxy under {RATE:,} connections/s',
        ['drain delay', 'served', 'failed', 'how', 'retried by HAProxy', 'p50 ms', 'p99 ms', 'max ms', 'valid'],
        lines,
    )
    lost, without = failures['2s'], failures['0s']
    done['values'] = {'rolling.lost': (lost, f'{lost} clients failed; without a drain delay {without}')}
    return done
