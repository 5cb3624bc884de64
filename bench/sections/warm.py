"""Programs that are started warm: their rates beside those of execution."""

import os, pathlib, re, socket, subprocess, threading, time

import racing
from racing import OUT, ROOT, Contender, as_ratio, available, limits, race, ratios_of, table, tine

HELPERS = ROOT / 'share' / 'warm'

# Each reads a line and writes it.
SCRIPTS = {
    'dash.sh': 'read -r a\necho "$a"\n',
    'bash.sh': 'read -r a\necho "$a"\n',
    'bare.pl': '$a = <STDIN>; print $a;\n',
    'perl.pl': 'use JSON::PP; use POSIX; use Socket;\n$a = <STDIN>; print $a;\n',
    'helped.pl': f"""use lib "{HELPERS}"; use JSON::PP; use POSIX; use Socket; use Tine::Warm;
Tine::Warm::ready(); $a = <STDIN>; print $a; Tine::Warm::done();
""",
    'bare.py': 'import sys\nsys.stdout.write(sys.stdin.readline())\n',
    'python.py': 'import sys, json, re, http.server\nsys.stdout.write(sys.stdin.readline())\n',
    'helped.py': f"""import sys, json, re, http.server
sys.path.insert(0, "{HELPERS}")
import tine_warm
tine_warm.ready(); sys.stdout.write(sys.stdin.readline()); tine_warm.done()
""",
    'ruby.rb': 'require "json"; require "socket"; require "set"\n$stdout.write($stdin.gets)\n',
    'helped.rb': f"""require "json"; require "socket"; require "set"; require "{HELPERS}/tine_warm"
TineWarm.ready; $stdout.write($stdin.gets); TineWarm.done
""",
    'php.php': '<?php $a = fgets(STDIN); fwrite(STDOUT, $a);\n',
    'helped.php': f"""<?php require "{HELPERS}/tine_warm.php";
Tine\\Warm\\ready(); $a = fgets(STDIN); echo $a; Tine\\Warm\\done();
""",
    'lua.lua': 'io.write(io.read("L"))\n',
}

UNSET = '--warm-allow variables'
RUBY = '--warm-allow eventfd,timer'
RUBY_UNSET = '--warm-allow eventfd,timer,variables'

# Name, what it needs to be copied, its command, and the part of the aim, if there is one.
ECHOING = [
    ('cat', '', '/bin/cat'),
    ('dash', '', 'dash {out}/dash.sh'),
    ('bash', UNSET, 'bash {out}/bash.sh'),
    ('Perl, bare', UNSET, 'perl {out}/bare.pl'),
    ('Perl', UNSET, 'perl {out}/perl.pl'),
    ('Perl, helper', '', 'perl {out}/helped.pl'),
    ('Python, bare', UNSET, '/usr/bin/python3 {out}/bare.py'),
    ('Python', UNSET, '/usr/bin/python3 {out}/python.py'),
    ('Python, helper', '', '/usr/bin/python3 {out}/helped.py'),
    ('Ruby', RUBY_UNSET, 'ruby {out}/ruby.rb'),
    ('Ruby, helper', RUBY, 'ruby {out}/helped.rb'),
    ('PHP', UNSET, 'php {out}/php.php'),
    ('PHP, helper', '', 'php {out}/helped.php'),
    ('Lua', '', 'lua5.4 {out}/lua.lua'),
]

# Programs with a protocol: what the client sends, and how much of the answer it waits for.
SPEAKING = [
    ('busybox httpd -i', '', 'busybox httpd -i -h {out}/www', b'GET /index.html HTTP/1.0\r\n\r\n', None),
    ('sshd -i', '', '/usr/sbin/sshd -i -h {out}/host_key', b'', b'SSH-2.0-'),
    ('rsync --daemon', '', 'rsync --daemon --config={out}/rsyncd.conf', b'', b'@RSYNCD: '),
    ('git daemon', UNSET, None, None, None),
]


def prepare():
    """Writes the scripts, and what the programs with a protocol serve."""
    for name, text in SCRIPTS.items():
        (OUT / name).write_text(text)
    (OUT / 'www').mkdir(exist_ok=True)
    (OUT / 'www' / 'index.html').write_text('hello\n')
    (OUT / 'rsyncd.conf').write_text(f'use chroot = no\n[files]\npath = {OUT}/www\n')
    if not (OUT / 'host_key').exists():
        command = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(OUT / 'host_key')]
        subprocess.run(command, check=True)
    repository = OUT / 'repository.git'
    if not repository.exists():
        subprocess.run(['git', 'init', '-q', '--bare', str(repository)], check=True)
    (repository / 'git-daemon-export-ok').touch()


def speaking():
    """The programs with a protocol. That of `git daemon` is named itself: git waits for it."""
    path = subprocess.run(['git', '--exec-path'], capture_output=True, text=True).stdout.strip()
    name = f'{OUT}/repository.git'
    line = f'git-upload-pack {name}\0host=localhost\0'.encode()
    request = f'{len(line) + 4:04x}'.encode() + line
    git = ('git daemon', UNSET, f'{path}/git-daemon --inetd --base-path=/ {OUT}', request, b'00')
    return SPEAKING[:-1] + [git]


def contenders(warm, command):
    command = command.format(out=OUT)
    servers = [
        Contender('execution', tine() + f' -- {command}'),
        Contender('warm', tine('--warm', warm) + f' -- {command}'),
        Contender('tcpserver', f'tcpserver -RHl0 -c 1000 -b 4096 127.0.0.1 {{port}} {command}'),
    ]
    return available(servers)


def exchange(port, request, expected, until, counts):
    """One client: connects, sends, and reads to the end, or to what it waits for."""
    while time.monotonic() < until:
        try:
            with socket.create_connection(('127.0.0.1', port), 10) as client:
                client.sendall(request)
                answer = b''
                while expected is None or not answer.startswith(expected):
                    if not (piece := client.recv(65536)):
                        break
                    answer += piece
                good = answer.startswith(expected) if expected else b'hello' in answer
        except OSError:
            good = False
        counts.append(good)


def speak(port, request, expected):
    """Four such clients: their rate."""
    counts, begin = [], time.monotonic()
    clients = [
        threading.Thread(target=exchange, args=(port, request, expected, begin + racing.ARGS.seconds, counts))
        for _ in range(4)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return {'rate': sum(counts) / (time.monotonic() - begin), 'bad': counts.count(False)}


def echo(one):
    return racing.crr(one.port, 4, racing.ARGS.seconds)


def against_execution(name, servers, measure, lines):
    """Races the servers of a program, and adds the line of the table. Returns the ratios."""
    results = race(servers, measure, racing.ARGS.rounds)
    cells = []
    for server in ('execution', 'warm', 'tcpserver'):
        rates = sorted(one['rate'] for one in results.get(server, []))
        cells.append(f'{rates[len(rates) // 2]:,.0f}' if rates else '')
    bad = sum(one['bad'] for rounds in results.values() for one in rounds)
    ratio, text = as_ratio(ratios_of(results, 'warm', 'execution', 'rate'))
    lines.append([name, *cells, text, bad])
    print('| ' + ' | '.join(map(str, lines[-1])) + ' |', flush=True)
    return ratio, text


def section_warm():
    prepare()
    lines, ratios = [], {}
    for name, warm, command in ECHOING:
        ratios[name] = against_execution(name, contenders(warm, command), echo, lines)
    for name, warm, command, request, expected in speaking():
        measure = lambda one, request=request, expected=expected: speak(one.port, request, expected)
        ratios[name] = against_execution(name, contenders(warm, command), measure, lines)
    head = ['program', 'execution/s', 'warm/s', 'tcpserver/s', 'warm against execution', 'bad']
    done = [racing.rows('Programs started warm, 4 connections kept going', head, lines)]
    wanted = ['dash', 'bash', 'Perl', 'Perl, helper', 'Ruby', 'Ruby, helper', 'Python', 'Python, helper']
    wanted += ['PHP', 'PHP, helper']
    values = ', '.join(f'{name} {ratios[name][0]:.1f}' for name in wanted)
    done[0]['values'] = {'warm.programs': (min(ratios[name][0] for name in wanted), values)}
    return done + [of_cat(), beside_spares(), in_a_jail()]


def of_cat():
    servers = [
        limits('exec {port} 1 /bin/cat'),
        Contender('tine', tine() + ' -- /bin/cat'),
        Contender('tine --warm', tine('--warm') + ' -- /bin/cat'),
        Contender('tine --warm, 1 forker', tine('--warm', '--forkers 1') + ' -- /bin/cat'),
    ]
    results = race(servers, lambda one: racing.crr(one.port, 8, racing.ARGS.seconds), racing.ARGS.rounds)
    done = table(
        'cat, 8 connections kept going', results, 'limits exec', 'rate', 'conns/s', ('p50', 'p99', 'bad')
    )
    done['values'] = {'warm.cat': as_ratio(ratios_of(results, 'tine --warm', 'limits exec', 'rate'))}
    return done


def beside_spares():
    """The time to the reply, one client at a time: a copy needs no process made in advance."""
    servers = [
        Contender('tine', tine() + ' -- /bin/cat'),
        Contender('tine --spares 8', tine('--spares 8') + ' -- /bin/cat'),
        Contender('tine --warm', tine('--warm') + ' -- /bin/cat'),
    ]
    results = race(servers, lambda one: racing.crr(one.port, 1, racing.ARGS.seconds), racing.ARGS.rounds)
    return table('cat, 1 connection at a time', results, 'tine', 'p50', 'us', ('rate', 'p99', 'bad'))


def in_a_jail():
    """A copy in a full jail beside an execution without one."""
    servers = [
        Contender('tine', tine('--user nobody') + ' -- /bin/cat'),
        Contender('tine --jail=full', tine('--user nobody', '--jail=full') + ' -- /bin/cat'),
        Contender('tine --jail=full --warm', tine('--user nobody', '--jail=full', '--warm') + ' -- /bin/cat'),
        Contender(
            'tine --jail=full --jail-init no',
            tine('--user nobody', '--jail=full', '--jail-init no') + ' -- /bin/cat',
        ),
        Contender(
            'tine --jail=full --jail-init no --warm',
            tine('--user nobody', '--jail=full', '--jail-init no', '--warm') + ' -- /bin/cat',
        ),
    ]
    results = race(servers, echo, racing.ARGS.rounds)
    done = table('cat in a full jail', results, 'tine', 'rate', 'conns/s', ('p50', 'p99', 'bad'))
    ratio = as_ratio(ratios_of(results, 'tine --jail=full --warm', 'tine', 'rate'))
    done['values'] = {'warm.jail': ratio}
    return done


def left_behind(server, template):
    """What the server and its template hold."""
    of_server = racing.holdings(server)
    rollup = pathlib.Path(f'/proc/{template}/smaps_rollup').read_text()
    of_template = int(re.search(r'^Pss_Anon:\s+(\d+)', rollup, re.M)[1])
    descriptors = len(os.listdir(f'/proc/{template}/fd'))
    return of_server['processes'], of_server['descriptors'] + descriptors, of_server['private_kib'], of_template


def section_warm_many():
    """100,000 connections to copies of one template: what they leave behind."""
    server = Contender('tine --warm', tine('--warm', '--forkers 1', '--warm-renew 1000000,1d') + ' -- /bin/cat')
    with server:
        racing.crr(server.port, 8, 1)
        supervisor = server.process.pid
        children = pathlib.Path(f'/proc/{supervisor}/task/{supervisor}/children').read_text().split()
        names = {int(pid): pathlib.Path(f'/proc/{pid}/comm').read_text().strip() for pid in children}
        template = next(pid for pid, name in names.items() if name == 'cat')
        before = left_behind(server, template)
        served, bad = 0, 0
        while served < 100_000:
            figures = racing.crr(server.port, 8, 5)
            served, bad = served + 5 * figures['rate'], bad + figures['bad']
        after = left_behind(server, template)
    lines = [
        ['before', *before, ''],
        [f'after {served:,} connections', *after, bad],
    ]
    head = ['', 'processes', 'descriptors', 'private KiB of the server', 'KiB of the template', 'bad']
    return racing.rows('What 100,000 connections to copies of one template leave behind', head, lines)
