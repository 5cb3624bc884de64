"""What the benchmarks share: servers that are started afresh for each measurement, races in a
rotated order, tables of medians and ratios, the clients that load a server, and how all of it is
built."""

import argparse, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess, sys, time

import promises

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / 'bench' / 'out'
YARDSTICKS = ROOT / 'bench' / 'yardsticks'
ARGS = None


class Contender:
    """A server: a name, and its command line with {port} in it."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        words = self.command.replace('{port}', str(self.port)).split()
        self.process = subprocess.Popen(
            words,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    self.__exit__()
                    sys.exit(f'{self.name} does not listen')
                time.sleep(0.01)
        time.sleep(0.3)  # Spares and pools fill up; the peers do not announce when they have.
        return self

    def __exit__(self, *_):
        session = self.process.pid
        self.process.terminate()
        time.sleep(0.1)
        for pid in processes(session):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        time.sleep(0.2)


def available(contenders):
    """The contenders whose program is installed or could be built."""
    return [one for one in contenders if shutil.which(one.command.split()[0])]


def processes(session):
    """The ids of the processes in a session. Processes that end meanwhile are left out."""
    found = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            stat = pathlib.Path(f'/proc/{name}/stat').read_text()
            if int(stat.rsplit(')', 1)[1].split()[3]) == session:
                found.append(int(name))
        except (OSError, IndexError):
            pass
    return found


def tool(name):
    """The path of a program that was built for the benchmarks."""
    return str(OUT / name)


def tine(*options):
    """The command line of `tine serve` with these options, for a contender."""
    return f'{ARGS.tine} serve --log off ' + ' '.join(options) + ' 127.0.0.1:{port}'


def limits(model):
    """The yardstick of a process model."""
    return Contender(f'limits {model.split()[0]}', f'{tool("limits")} {model}')


def crr(port, connections, seconds, nul=False):
    """A run of the yardstick `crr`: rate, median and 99th percentile in microseconds, errors."""
    env = dict(os.environ, **({'NUL': '1'} if nul else {}))
    text = subprocess.run(
        [tool('crr'), str(port), str(seconds), '1', str(connections)], env=env, capture_output=True, text=True
    ).stdout
    found = re.match(r'(\d+) conns/s err=(\d+) mismatch=(\d+) p50=(\d+)us p90=\d+us p99=(\d+)us', text)
    rate, errors, wrong, p50, p99 = map(int, found.groups())
    return {'rate': rate, 'p50': p50, 'p99': p99, 'bad': errors + wrong}


def load(port, *options, mode='crr', host='127.0.0.1'):
    """The report of `tine load` and its exit code. An invalid measurement has no figures in it."""
    done = subprocess.run(
        [str(ARGS.tine), 'load', mode, f'{host}:{port}', '--json', '-', *map(str, options)],
        capture_output=True,
        text=True,
    )
    return {'code': done.returncode, **(json.loads(done.stdout) if done.stdout else {'error': done.stderr})}


def loaded_crr(port, connections, seconds, nul=False):
    """The same load as that of `crr`, by `tine load`; the same figures."""
    report = load(
        port,
        '-p',
        1,
        '-c',
        connections,
        '-d',
        f'{seconds:g}s',
        '--close',
        'rst',
        '--message',
        'abcdefghi' + (r'\0' if nul else r'\n'),
    )
    summary = report['summary']
    return {
        'rate': summary['rate'],
        'p50': summary['latency_ns']['p50'] / 1000,
        'p99': summary['latency_ns']['p99'] / 1000,
        'bad': summary['errors'],
        'invalid': report['validity']['reasons'],
        'cpu_ns': summary['client_cpu_ns_per_done'],
    }


def hold(port, number, seconds=0):
    """A run of the yardstick `hold`: connections held, KiB for each, both ends together."""
    text = subprocess.run(
        [tool('hold'), str(port), str(number), str(seconds)], capture_output=True, text=True
    ).stdout
    found = re.match(r'(\d+)/(\d+) held, setup (\d+)/s, ([\d.-]+) KiB', text)
    return {'held': int(found[1]), 'kib': float(found[4])}


def holdings(server):
    """What a server's supervisor and forkers hold: processes, descriptors, memory in KiB
    ("private": without the pages of the program's file)."""
    time.sleep(1)
    supervisor = server.process.pid
    children = pathlib.Path(f'/proc/{supervisor}/task/{supervisor}/children').read_text().split()
    pids = [supervisor, *map(int, children)]
    rollups = [pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text() for pid in pids]

    def kib(key):
        return sum(int(re.search(rf'^{key}:\s+(\d+)', text, re.M)[1]) for text in rollups)

    return {
        'processes': len(pids),
        'descriptors': sum(len(os.listdir(f'/proc/{pid}/fd')) for pid in pids),
        'pss_kib': kib('Pss'),
        'private_kib': kib('Pss_Anon') + kib('Pss_Shmem'),
    }


def turns(contenders, rounds):
    """Each contender once in each round, in an order that rotates: (round, contender)."""
    for turn in range(rounds):
        at = turn % len(contenders)
        for contender in contenders[at:] + contenders[:at]:
            yield turn, contender


def race(contenders, measure, rounds):
    """What `measure` returns for each contender, by its name, in each round."""
    results = {contender.name: [] for contender in contenders}
    for _, contender in turns(contenders, rounds):
        with contender:
            results[contender.name].append(measure(contender))
    return results


# What `tine load` measures of the same server, started afresh for it: further columns of a race.
BY_LOAD = ('p50', 'p99', 'bad', 'load rate', 'load p50', 'load/crr')


def race_both(contenders, connections):
    """A race in which `crr` and `tine load` measure each server, in alternating order."""
    results = {contender.name: [] for contender in contenders}
    for turn, one in turns(contenders, ARGS.rounds):
        figures = {}
        for client in (crr, loaded_crr) if turn % 2 else (loaded_crr, crr):
            with one:
                figures[client] = client(one.port, connections, ARGS.seconds, nul=one.name == 'textbook')
        yardstick, ours = figures[crr], figures[loaded_crr]
        results[one.name].append(
            {
                **yardstick,
                'bad': yardstick['bad'] + ours['bad'],
                'load rate': ours['rate'],
                'load p50': ours['p50'],
                'load/crr': ours['rate'] / max(yardstick['rate'], 1),
                'load invalid': ours['invalid'],
            }
        )
    return results


def ratios_of(results, name, base, key):
    """A contender's figure against another's, in each round."""
    return [a[key] / b[key] for a, b in zip(results[name], results[base]) if b[key]]


def as_ratio(ratios):
    """A ratio for docs/promises.md: the number that is compared, and the text."""
    middle = statistics.median(ratios)
    return middle, f'{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})'


def rows(title, head, lines, **more):
    """A table of a section's report; printed at once, as a run takes long."""
    table = [f'### {title}', '', '| ' + ' | '.join(head) + ' |', '|' + ' --- |' * len(head)]
    table += ['| ' + ' | '.join(map(str, line)) + ' |' for line in lines]
    print('\n'.join(table) + '\n', flush=True)
    return {'title': title, 'lines': table, **more}


def table(title, results, base, key, unit, extra=()):
    """The table of a race: the median of `key`, its range, the median of its ratios to `base`."""
    lines, ratios = [], {}
    for name, rounds in results.items():
        values = [one[key] for one in rounds]
        ratios[name] = round(statistics.median(ratios_of(results, name, base, key)), 3)
        lines.append(
            [
                name,
                f'{statistics.median(values):,.1f}',
                f'{min(values):,.1f} … {max(values):,.1f}',
                f'{ratios[name]:.2f}',
                *(f'{statistics.median(one[column] for one in rounds):g}' for column in extra),
            ]
        )
    return rows(
        title,
        ['server', f'median {unit}', 'range', f'against {base}', *extra],
        lines,
        ratios=ratios,
        rounds=results,
    )


def note(section, text):
    """Adds a line below a section's table."""
    section['lines'] += ['', text]
    print(text + '\n', flush=True)


def build():
    """Builds the yardsticks, and tine unless --tine names it."""
    subprocess.run(
        ['make', '-s', '-B', '-C', YARDSTICKS, f'OUT={OUT}', f'FROM={ARGS.yardsticks.resolve()}'], check=True
    )
    if ARGS.tine is None:
        ARGS.tine = build_tine()


def build_tine():
    """Builds tine. Returns the path of a copy that another build does not change."""
    subprocess.run(['cargo', 'build', '--release', '--quiet', '--bin', 'tine'], cwd=ROOT, check=True)
    version = subprocess.run(['rustc', '-vV'], capture_output=True, text=True, check=True).stdout
    host = re.search(r'host: (\S+)', version)[1]
    target = pathlib.Path(os.environ.get('CARGO_TARGET_DIR', ROOT / 'target'))
    OUT.mkdir(exist_ok=True)
    shutil.copy(target / host / 'release' / 'tine', OUT / 'tine')
    return tool('tine')


def machine():
    """The machine of a measurement, as docs/promises.md names it."""
    names = (line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    return f'{os.cpu_count()} CPUs ({next(names, os.uname().machine)}), Linux {os.uname().release.split("-")[0]}'


def arguments(description, sections, more=()):
    """Reads the command line, builds what is needed, and returns the sections to run."""
    global ARGS
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--yardsticks',
        metavar='DIR',
        type=pathlib.Path,
        default=YARDSTICKS,
        help='take the C programs that are in DIR from there',
    )
    parser.add_argument('--tine', metavar='PATH', help='the command to measure (built by default)')
    parser.add_argument('--rounds', metavar='N', type=int, default=5)
    parser.add_argument('--seconds', metavar='S', type=float, default=2, help='of each measurement')
    parser.add_argument(
        '--write',
        action='store_true',
        help='record the values in bench/promises.toml and write docs/promises.md',
    )
    parser.add_argument('--machine', metavar='TEXT', default=machine(), help='its name, for --write')
    parser.add_argument(
        '--check',
        action='store_true',
        help='measure nothing; check that docs/promises.md is what --write would write',
    )
    parser.add_argument('sections', nargs='*', metavar='SECTION')
    ARGS = parser.parse_args()
    for name in ARGS.sections:
        if name not in list(sections) + list(more):
            parser.error(f'there is no section {name}')
    if ARGS.check:
        sys.exit(promises.check())
    if not ARGS.yardsticks.is_dir():
        parser.error(f'{ARGS.yardsticks} is not a directory')
    build()
    return ARGS.sections or list(sections)


def write(name, done):
    """Writes the results as Markdown and as JSON, and with --write the values of promises."""
    head = f'{time.strftime("%Y-%m-%d")}, {ARGS.machine}, {ARGS.rounds} rounds of {ARGS.seconds:g} s\n'
    (OUT / f'{name}.md').write_text('\n\n'.join([head] + ['\n'.join(one['lines']) for one in done]) + '\n')
    (OUT / f'{name}.json').write_text(json.dumps(done, indent=1))
    if ARGS.write:
        values = {id: value for one in done for id, value in one.get('values', {}).items()}
        promises.record(values, time.strftime('%Y-%m-%d'), ARGS.machine)
