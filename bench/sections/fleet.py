"""A fleet: what a bus costs, how soon a ban holds on all nodes, 100,000 of them, and what happens
when servers of the bus are killed and stopped."""

import json, os, pathlib, random, signal, socket, statistics, subprocess, tempfile, time

import racing
from racing import OUT, Contender, as_ratio, crr, note, race, ratios_of, rows, table, tine

# Bans that are timed one by one, and that are put into the bucket at once.
TIMED = 200
MANY = 100_000

DEADLINE = 120


def wait_until(what, check):
    """What `check` returns, and how long it took."""
    begin = time.monotonic()
    while not (found := check()):
        if time.monotonic() > begin + DEADLINE:
            raise SystemExit(f'{what}: not within {DEADLINE} s')
        time.sleep(0.005)
    return found, time.monotonic() - begin


class Bus:
    """A NATS server with JetStream; of a cluster, if it has routes."""

    def __init__(self, name='bus', routes=None):
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.words = ['nats-server', '-a', '127.0.0.1', '-p', str(self.port), '-js', '-sd', self.folder.name]
        if routes:
            own, others = routes
            text = ', '.join(f'nats://127.0.0.1:{port}' for port in others)
            config = pathlib.Path(self.folder.name) / 'cluster.conf'
            config.write_text(f'server_name: {name}\ncluster {{ name: tine, listen: "127.0.0.1:{own}", routes: [{text}] }}\n')
            self.words += ['-c', str(config)]
        self.start()

    def start(self):
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.words, stdin=quiet, stdout=quiet, stderr=quiet)
        wait_until('the bus listens', self.is_there)

    def is_there(self):
        try:
            socket.create_connection(('127.0.0.1', self.port), 1).close()
            return True
        except OSError:
            return False

    def url(self):
        return f'nats://127.0.0.1:{self.port}'

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.signal(signal.SIGCONT)
        self.kill()
        self.folder.cleanup()


class Node:
    """A server of a fleet."""

    def __init__(self, name, url, *options):
        self.name, self.socket = name, OUT / f'fleet-{name}.sock'
        words = [racing.ARGS.tine, 'serve', '--log', 'off', '-1', '--bus', url, '--name', name]
        words += ['--control', self.socket, '--state-directory', 'none', *options, '127.0.0.1:0']
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, command, **more):
        """The lines of a reply."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.socket))
            stream.sendall(json.dumps({'version': 1, 'command': command, **more}).encode() + b'\n')
            return [json.loads(line) for line in stream.makefile()]

    def status(self):
        return self.ask('status')[0]

    def hears(self, nodes):
        fleet = self.status()['fleet']
        return fleet['connected'] and fleet['nodes'] == nodes

    def serves(self, source):
        """Whether a client from this address is served."""
        with socket.socket() as stream:
            stream.bind((source, 0))
            stream.settimeout(5)
            try:
                stream.connect(('127.0.0.1', self.port))
                stream.sendall(b'x')
                return stream.recv(1) == b'x'
            except OSError:
                return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


def three(url):
    nodes = [Node(name, url) for name in 'abc']
    for node in nodes:
        wait_until(f'{node.name} hears the others', lambda: node.hears(3))
    return nodes


def time_bans(nodes, number):
    """Seconds from a ban on one node to its effect on another, a little after the other way."""
    chance, times = random.Random(1), []
    for at in range(number):
        source = f'127.{1 + at // 250}.7.{1 + at % 250}'
        giver, other = chance.sample(nodes, 2)
        begin = time.monotonic()
        giver.ask('ban', block=source)
        wait_until('the ban holds', lambda: not other.serves(source))
        times.append(time.monotonic() - begin)
    return times


def put_bans(port, first, number):
    """Puts bans into the bucket, as an operator would: by the text protocol of NATS."""
    with socket.create_connection(('127.0.0.1', port)) as stream:
        stream.sendall(b'CONNECT {"verbose":false}\r\n')
        at = int(time.time() * 1000)
        for start in range(first, first + number, 1000):
            parts = []
            for bits in range(start, min(start + 1000, first + number)):
                value = json.dumps({'state': 'forever', 'at': at, 'node': 'operator'}).encode()
                key = f'$KV.tine-bans-default.4-{bits:08x}-32'.encode()
                parts.append(b'PUB %s %d\r\n%s\r\n' % (key, len(value), value))
            stream.sendall(b''.join(parts))
        stream.sendall(b'PING\r\n')
        text = b''
        while not text.endswith(b'PONG\r\n'):
            text = (text + stream.recv(1 << 16))[-6:]


def agree(nodes, number):
    return lambda: all(node.status()['bans'] == number for node in nodes)


def section_fleet():
    """The rate of a server with a bus, and with limits of a fleet, against that without."""
    bus = Bus()
    control = f'--control {OUT}/fleet-rate.sock --state-directory none'
    of_fleet = '--max-connections-per-source-fleet 100000 --rate-per-source-fleet 1000000/s'
    contenders = [
        Contender('without', tine(control)),
        Contender('with a bus', tine(control, f'--bus {bus.url()}')),
        Contender('with limits of a fleet', tine(control, f'--bus {bus.url()}', of_fleet)),
    ]
    try:
        results = race(contenders, lambda one: crr(one.port, 16, racing.ARGS.seconds), racing.ARGS.rounds)
    finally:
        bus.stop()
    done = table('The rate with a bus', results, 'without', 'rate', 'conns/s', ('p50', 'p99', 'bad'))
    number, text = as_ratio(ratios_of(results, 'with a bus', 'without', 'rate'))
    limited = as_ratio(ratios_of(results, 'with limits of a fleet', 'without', 'rate'))[1]
    done['values'] = {'fleet.rate': (number, f'{text}; with limits of a fleet {limited}')}
    return done


def section_fleet_bans():
    """Three nodes: the time from a ban to its effect; 100,000 bans; a bus that is stopped, killed
    and empty; a cluster of three servers, one of which is killed."""
    lines, values = [], {}
    bus = Bus()
    nodes = three(bus.url())
    try:
        times = sorted(time_bans(nodes, TIMED))
        p99 = times[int(0.99 * len(times))]
        lines.append(['a ban holds on another node', f'median {1000 * statistics.median(times):.0f} ms',
                      f'p99 {1000 * p99:.0f} ms, most {1000 * times[-1]:.0f} ms'])
        values['fleet.ban'] = (p99, f'{p99:.3f} s; median {statistics.median(times):.3f} s')
        before = nodes[0].status()['bans']
        begin = time.monotonic()
        put_bans(bus.port, 0x0A000000, MANY)
        wait_until('all nodes have all bans', agree(nodes, before + MANY))
        lines.append([f'{MANY:,} bans are put into the bucket', f'{time.monotonic() - begin:.1f} s', 'until all nodes have them'])
        values['fleet.many'] = (time.monotonic() - begin, f'{time.monotonic() - begin:.1f} s')
        served = statistics.median(timed(lambda: nodes[0].serves('127.0.0.1')) for _ in range(50))
        lines.append(['a client meanwhile', f'{1000 * served:.2f} ms', 'connect to reply'])
        late = Node('late', bus.url())
        nodes.append(late)
        _, took = wait_until('a new node has all bans', agree([late], before + MANY))
        lines.append(['a new node', f'{took:.1f} s', 'until it has them'])
        for what, away in [('stopped', stop_bus), ('killed', kill_bus), ('killed, and its store is lost', lose_bus)]:
            heal = away(bus)
            wait_until('the bus is away', lambda: not nodes[0].status()['fleet']['connected'])
            assert all(node.serves('127.0.0.1') for node in nodes), 'service goes on'
            nodes[0].ask('ban', block='192.0.2.1')
            nodes[1].ask('unban', block='10.0.0.0')
            heal()
            _, took = wait_until('all agree', lambda: len({node.status()['bans'] for node in nodes}) == 1
                                 and all(node.hears(4) for node in nodes))
            lines.append([f'the bus was {what}', f'{took:.1f} s', 'until all nodes agree'])
            values['fleet.heals'] = max(values.get('fleet.heals', (0, '')), (took, f'{took:.1f} s at most'))
    finally:
        for node in nodes:
            node.stop()
        bus.stop()
    lines.append(cluster_of_three())
    done = rows('Bans of a fleet of three nodes', ['what', 'time', ''], lines)
    done['values'] = values
    return done


def timed(act):
    begin = time.monotonic()
    assert act()
    return time.monotonic() - begin


def stop_bus(bus):
    bus.signal(signal.SIGSTOP)
    return lambda: bus.signal(signal.SIGCONT)


def kill_bus(bus):
    bus.kill()
    return bus.start


def lose_bus(bus):
    bus.kill()
    subprocess.run(['rm', '-rf', os.path.join(bus.folder.name, 'jetstream')], check=True)
    return bus.start


def cluster_of_three():
    """One of three servers is killed: bans go on."""
    ports = []
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            ports.append(probe.getsockname()[1])
    servers = [Bus(f'bus-{at}', (ports[at], ports)) for at in range(3)]
    nodes = []
    try:
        nodes = three(','.join(server.url() for server in servers))
        nodes[0].ask('ban', block='192.0.2.1')
        wait_until('all have the ban', agree(nodes, 1))
        servers[0].kill()
        begin = time.monotonic()
        nodes[1].ask('ban', block='192.0.2.2')
        wait_until('all agree', agree(nodes, 2))
        return ['one of three servers is killed', f'{time.monotonic() - begin:.1f} s',
                'until a ban of after that holds on all nodes']
    finally:
        for node in nodes:
            node.stop()
        for server in servers:
            server.stop()
