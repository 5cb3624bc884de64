"""A program for each connection: its rate and memory beside the peers, and both ends of a
connection."""

import os, pathlib, shutil, signal, socket, time

import racing
from racing import (
    OUT,
    Contender,
    as_ratio,
    available,
    limits,
    race,
    race_both,
    ratios_of,
    rows,
    table,
    tine,
    tool,
)
from sections.memory import grown

XINETD = """cat > {out}/xinetd.conf <<END
service cat
{{
  type = UNLISTED
  socket_type = stream
  protocol = tcp
  port = $1
  wait = no
  user = root
  server = {program}
  instances = UNLIMITED
  per_source = UNLIMITED
  cps = 1000000 1
}}
END
exec xinetd -dontfork -f {out}/xinetd.conf -filelog /dev/null -pidfile {out}/xinetd.pid
"""

INETD = """echo "127.0.0.1:$1 stream tcp nowait.1000000 root {program} {program}" > {out}/inetd.conf
exec inetd -i -R 1000000 -q 4096 {out}/inetd.conf
"""


def peers(program):
    """The servers that start a program for each connection and that are installed. xinetd and inetd
    (Debian's openbsd-inetd) read their service from a file only."""
    for name, script in (('xinetd', XINETD), ('inetd', INETD)):
        (OUT / f'{name}.sh').write_text(script.format(out=OUT, program=program))
    commands = {
        'tcpserver': f'tcpserver -RHl0 -c 1000 -b 4096 127.0.0.1 {{port}} {program}',
        'socat': f'socat TCP-LISTEN:{{port}},fork,reuseaddr,backlog=4096 EXEC:{program}',
        'ncat': f'ncat -l -k -m 1000 -e {program} 127.0.0.1 {{port}}',
        'xinetd': f'sh {OUT}/xinetd.sh {{port}}',
        'inetd': f'sh {OUT}/inetd.sh {{port}}',
    }
    return [Contender(name, command) for name, command in commands.items() if shutil.which(name)]


def cgroup_for_tine():
    """A new directory of cgroups, if the v2 hierarchy is mounted and writable."""
    for line in open('/proc/mounts'):
        _, where, kind, *_ = line.split(' ')
        if kind == 'cgroup2' and os.access(where, os.W_OK):
            path = f'{where}/tine-bench-{os.getpid()}'
            os.mkdir(path)
            return path
    return None


def section_program():
    contenders = [
        limits('exec {port} 1 /bin/cat'),
        Contender('limits exec, 2 forkers', tool('limits') + ' exec {port} 2 /bin/cat'),
        Contender('tine', tine() + ' -- /bin/cat'),
        Contender('tine, 1 forker', tine('--forkers 1') + ' -- /bin/cat'),
        Contender('tine --spares 32', tine('--spares 32') + ' -- /bin/cat'),
    ]
    others = peers('/bin/cat')
    cgroups = cgroup_for_tine()
    if cgroups:
        contenders.append(Contender('tine --cgroup', tine('--cgroup', cgroups) + ' -- /bin/cat'))
    results = race_both(contenders + others, 8)
    if cgroups:
        os.rmdir(cgroups)
    done = table(
        'A program (cat) per connection, 8 connections kept going',
        results,
        'limits exec',
        'rate',
        'conns/s',
        racing.BY_LOAD,
    )
    ratio, text = as_ratio(ratios_of(results, 'tine', 'limits exec', 'rate'))
    done['values'] = {'program.exec': (ratio, text)}
    if others:
        against = {other.name: done['ratios'][other.name] for other in others}
        ordered = sorted(against, key=against.get, reverse=True)
        done['values']['program.peers'] = (
            ratio / max(against.values()),
            ', '.join(f'{name} {against[name]:.2f}' for name in ordered),
        )
    return done


def section_programs():
    """5,000 held programs: what they cost, and how far they slow further ones."""
    contenders = [limits('exec {port} 1 /bin/cat'), Contender('tine', tine('-c 20000') + ' -- /bin/cat')]
    growth = race(contenders, lambda one: grown(one, 5000, 8), racing.ARGS.rounds)
    memory = race(contenders, lambda one: racing.hold(one.port, 5000), 2)
    tables = [
        table(
            'Rate of programs with 5,000 held, as a part of the rate with none',
            growth,
            'limits exec',
            'ratio',
            'part',
            ('bare', 'held', 'bad'),
        ),
        table(
            'Memory of a held program (cat), both ends, 5,000 held',
            memory,
            'limits exec',
            'kib',
            'KiB',
            ('held',),
        ),
    ]
    held = min(one['held'] for one in memory['tine'])
    kib, _ = as_ratio([one['kib'] for one in memory['tine']])
    part, _ = as_ratio([one['ratio'] for one in growth['tine']])
    tables[1]['values'] = {
        'programs.held': (
            held,
            f'{held:,} of 5,000; {kib:.0f} KiB each, both ends, {tables[1]["ratios"]["tine"]:.2f} of '
            f'`limits exec`; rate {part:.2f} of that with none',
        )
    }
    return tables


def ends_after_half_close(server):
    """What the client receives from a program that answers only after the end of its input."""
    with server, socket.create_connection(('127.0.0.1', server.port), 5) as client:
        client.sendall(b'question')
        client.shutdown(socket.SHUT_WR)
        try:
            answer = client.makefile('rb').read()
        except OSError as error:
            return f'**{error}**'
    return {b'answer\n': 'arrives', b'': '**lost**'}.get(answer, 'garbled')


def lifetimes(port, notes, watched=15):
    """How long a program that never reads, and a descendant of it, live after their client's
    reset."""
    client = socket.create_connection(('127.0.0.1', port), 5)
    while not (found := list(notes.iterdir())):
        time.sleep(0.01)
    pids = [int(found[0].name), int(found[0].read_text())]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    client.close()
    start, ended = time.monotonic(), {}
    while time.monotonic() < start + watched and len(ended) < 2:
        for pid in pids:
            stat = pathlib.Path(f'/proc/{pid}/stat')
            if not stat.exists() or stat.read_text().rsplit(')', 1)[1].split()[0] == 'Z':
                ended.setdefault(pid, time.monotonic() - start)
        time.sleep(0.05)
    for pid in set(pids) - set(ended):
        os.kill(pid, signal.SIGKILL)
    return [
        f'ends after {ended[pid]:.1f} s' if pid in ended else f'**lives on** (watched for {watched} s)'
        for pid in pids
    ]


def section_ends():
    """A client that half-closes, and the processes of a client that resets its connection."""
    half, gone, notes = OUT / 'half.sh', OUT / 'gone.sh', OUT / 'gone'
    half.write_text('#!/bin/sh\ncat > /dev/null\nsleep 1\necho answer\n')
    gone.write_text(
        '#!/bin/sh\nsetsid sleep 60 > /dev/null 2>&1 &\n'
        f'echo $! > {notes}.$$\nmv {notes}.$$ {notes}/$$\nexec sleep 60\n'
    )
    for script in (half, gone):
        script.chmod(0o755)
    lines = {}
    for one in [Contender('tine', f'{tine()} -- {half}')] + peers(half):
        lines[one.name] = [ends_after_half_close(one)]
    for one in [Contender('tine', f'{tine()} -- {gone}')] + peers(gone):
        with one:
            shutil.rmtree(notes, ignore_errors=True)
            notes.mkdir()
            lines[one.name] += lifetimes(one.port, notes)
    shutil.rmtree(notes)
    return rows(
        'Both ends of a connection',
        [
            'server',
            'the answer after a half-close',
            'the program after a reset',
            'its descendant in a session of its own',
        ],
        [[name, *line] for name, line in lines.items()],
    )
