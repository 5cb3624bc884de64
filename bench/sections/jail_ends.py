"""Programs in full jails that take all they can get: how soon nothing is left of them, and what
clients beside them notice. A thousand jails at a time, and many in a row."""

import contextlib, math, os, pathlib, re, resource, select, socket, statistics, time

import racing
from racing import OUT, Contender, crr, holdings, note, processes, rows, turns

from sections.jail import latencies

# Each is run for clients from an address of its own; clients from others get an echo.
BOMBS = {
    'nothing': ':',
    'forks': 'f() { while :; do f & done; }; f 2>/dev/null &',
    'memory': 'for i in 1 2; do (while :; do tail /dev/zero; done) 2>/dev/null & done',
    'disk': '(while :; do head -c 64M /dev/zero > /tmp/full; done) 2>/dev/null &',
    'descriptors': '''/usr/bin/python3 -c '
import os
while True:
    try:
        os.open("/dev/null", 0)
    except OSError:
        pass' &''',
    'lines of standard error': '(while :; do echo a line of the flood; done) >&2 &',
    '100 that refuse to end': """trap '' TERM HUP INT
for i in $(seq 50); do
    (setsid sh -c 'sh -c "kill -STOP \\$\\$; sleep 1007" & exec sleep 1007' &)
done
while [ "$(ls /proc | grep -c '^[0-9]')" -lt 100 ]; do :; done""",
}

OPTIONS = '--jail --forkers 2 --limit-as 256M --limit-nproc 150 --stderr log'

# A share of a processor.
QUOTA = '--cpu-quota 20%'

# Ends of each kind in a round.
ENDS = 25

# Connections in a row.
IN_A_ROW = 100_000

# At a time.
JAILS = 1_000

# Objects of the kernel, where it counts them by themselves (slabinfo(5)).
SLABS = ('mnt_cache', 'net_namespace', 'nsproxy', 'pid_namespace', 'user_namespace', 'uts_namespace')


def server(more=''):
    """A server that has all the programs, with more options. Limits on processes are those of a
    connection alone, as each has a user of its own if this is root."""
    script = OUT / 'bombs.sh'
    cases = ''.join(f'127.9.9.{number})\n{bomb}\n;;\n' for number, bomb in enumerate(BOMBS.values(), 1))
    script.write_text(f'case $TCPREMOTEIP in\n{cases}*) exec cat ;;\nesac\necho ready; read -r line\n')
    command = f'{racing.ARGS.tine} serve {OPTIONS} {more} --bind-read-only-paths {script} 127.0.0.1:{{port}}'
    return Contender('tine', f'{command} -- /bin/sh {script}')


def bomb_of(one, kind):
    """A client whose program has begun."""
    client = socket.socket()
    client.settimeout(60)
    client.bind((f'127.9.9.{1 + list(BOMBS).index(kind)}', 0))
    client.connect(('127.0.0.1', one.port))
    if client.recv(6) != b'ready\n':
        raise RuntimeError(f'{kind}: the program does not begin')
    return client


def namespace(pid):
    """The pid namespace of a process; none if it has ended."""
    with contextlib.suppress(OSError):
        return os.readlink(f'/proc/{pid}/ns/pid')


def in_namespace(wanted):
    return [pid for pid in filter(str.isdigit, os.listdir('/proc')) if namespace(pid) == wanted]


def end_of(one, kind):
    """Milliseconds from the end of a program to that of all its processes."""
    client = bomb_of(one, kind)
    # The connection is the only child of the supervisor outside the machine's namespace.
    children = pathlib.Path(f'/proc/{one.process.pid}/task/{one.process.pid}/children')
    own = namespace('self')
    [program] = [pid for pid in children.read_text().split() if namespace(pid) not in (own, None)]
    room, watched = namespace(program), os.pidfd_open(int(program))
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    # Every bomb is in full swing by then.
    time.sleep(0.05)
    client.close()
    poll.poll()
    ended = time.monotonic()
    while in_namespace(room):
        pass
    os.close(watched)
    return (time.monotonic() - ended) * 1000


def percentile(values, share):
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def section_jail_ends():
    """How long anything of a connection in a full jail outlives its program, by what it does."""
    times = {kind: [] for kind in BOMBS}
    kinds = [Contender(kind, '') for kind in BOMBS]
    with server() as one:
        for _, kind in turns(kinds, racing.ARGS.rounds):
            times[kind.name] += [end_of(one, kind.name) for _ in range(ENDS)]
    lines = [
        [
            kind,
            len(found),
            f'{statistics.median(found):.1f}',
            f'{percentile(found, 0.99):.1f}',
            f'{max(found):.1f}',
        ]
        for kind, found in times.items()
    ]
    done = rows(
        'From the end of a program in a full jail to that of all its processes',
        ['what the program does', 'ends', 'median ms', 'p99', 'longest'],
        lines,
    )
    note(done, 'Found by reading /proc again and again, which takes a part of these times.')
    return done


def beside(one):
    """Clients at 20 connections/s, in milliseconds."""
    return latencies(one, 20, max(racing.ARGS.seconds, 5), 1e6)


def section_jail_beside():
    """Clients in full jails while another connection of the server does its worst. Each round has
    all kinds, in a rotated order, in the same server; and processes that fork in one that limits
    their share of the processors."""
    limited = f'forks, {QUOTA}'
    results = {kind: [] for kind in [*BOMBS, limited]}
    kinds = [Contender(kind, '') for kind in results]
    with server() as one, server(QUOTA) as other:
        for _, kind in turns(kinds, racing.ARGS.rounds):
            is_limited = kind.name == limited
            serving = other if is_limited else one
            with bomb_of(serving, 'forks' if is_limited else kind.name):
                results[kind.name].append(beside(serving))
    return racing.table(
        'Clients beside a program in a full jail, 20 connections/s',
        results,
        'nothing',
        'p99',
        'ms',
        ('p50', 'bad'),
    )


def section_jail_many():
    """A thousand full jails at a time: all are served, all are gone afterwards."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = f'--jail --log off --max-connections {JAILS + 100}'
    command = f'{racing.ARGS.tine} serve {options} 127.0.0.1:{{port}} -- /bin/cat'
    with Contender('tine', command) as one, contextlib.ExitStack() as clients:
        before = len(processes(one.process.pid))
        begun = time.monotonic()
        held = [socket.create_connection(('127.0.0.1', one.port), 60) for _ in range(JAILS)]
        for client in held:
            clients.enter_context(client)
            client.sendall(b'x')
        served = sum(client.recv(1) == b'x' for client in held)
        begun = time.monotonic() - begun
        rooms = {namespace(pid) for pid in processes(one.process.pid)} - {namespace('self'), None}
        ended = time.monotonic()
        clients.close()
        # Up to one room more for each forker than before.
        while len(processes(one.process.pid)) > before + os.cpu_count() and time.monotonic() < ended + 60:
            time.sleep(0.01)
        left = len(processes(one.process.pid)) - before
        ended = time.monotonic() - ended
    return rows(
        f'{JAILS:,} full jails at a time',
        ['served', 'pid namespaces', 'seconds until all were', 'until all were gone', 'processes more than before'],
        [[served, len(rooms), f'{begun:.2f}', f'{ended:.2f}', left]],
    )


def belongings(one):
    """What a server with full jails has, and what the machine has of such things."""
    found = holdings(one)
    pids = processes(one.process.pid)
    jailers = [pid for pid in pids if 'jailer' in pathlib.Path(f'/proc/{pid}/comm').read_text()]
    rollups = [pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text() for pid in jailers]
    private = sum(int(re.search(r'^Pss_Anon:\s+(\d+)', text, re.M)[1]) for text in rollups)
    kinds = ('pid', 'mnt', 'ipc', 'net', 'uts', 'user', 'cgroup')

    def namespaces(some):
        links = set()
        for pid in some:
            with contextlib.suppress(OSError):
                links |= {os.readlink(f'/proc/{pid}/ns/{kind}') for kind in kinds}
        return len(links)

    return {
        'processes': len(pids),
        'descriptors': found['descriptors'] + sum(len(os.listdir(f'/proc/{pid}/fd')) for pid in jailers),
        'KiB': found['private_kib'] + private,
        'mounts': len(pathlib.Path('/proc/self/mountinfo').read_text().splitlines()),
        'namespaces': namespaces(pids),
        'of the machine': namespaces(filter(str.isdigit, os.listdir('/proc'))),
        'cgroups': sum(1 for _ in pathlib.Path('/sys/fs/cgroup').rglob('cgroup.procs')),
        **slabs(),
    }


def slabs():
    """Objects in use. Those that ended in the last moments may still count."""
    text = pathlib.Path('/proc/slabinfo').read_text() if os.access('/proc/slabinfo', os.R_OK) else ''
    rows_of = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1]) for words in rows_of if words and words[0] in SLABS}


def in_a_row(number):
    """What is left after this number of connections in full jails, of which the server remembers
    nothing for operators."""
    options = '--jail --log off --control none --max-connections 64'
    command = f'{racing.ARGS.tine} serve {options} 127.0.0.1:{{port}}'
    with Contender('tine', f'{command} -- /bin/cat') as one:
        crr(one.port, 8, 3)
        time.sleep(2)
        before, served = belongings(one), 0
        while served < number:
            served += crr(one.port, 8, 10)['rate'] * 10
        time.sleep(2)
        after = belongings(one)
    done = rows(
        'Full jails in a row', ['', *before], [['before', *before.values()], ['after', *after.values()]]
    )
    note(done, f'{served:,} connections served.')
    return done


def section_jail_row():
    """What 100,000 connections in full jails leave behind."""
    return in_a_row(IN_A_ROW)


def section_jail_million():
    """What a million connections in full jails leave behind."""
    return in_a_row(1_000_000)
