"""What the benches share: contenders that are started afresh, races in a rotated order, tables of medians and ratios,
the yardsticks and how they are built."""
import argparse, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / 'bench' / 'out'
ARGS = None


class Contender:
    """A server: a name, and its command with {port} in it."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = 9999 if '{port}' not in self.command else probe.getsockname()[1]
        words = self.command.replace('{port}', str(self.port)).split()
        self.process = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f'{self.name} does not listen')
                time.sleep(0.01)
        time.sleep(0.3)  # for spares and pools to fill up; nothing announces that in the peers
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


def processes(session):
    """The processes of a session, by their ids. They come and go meanwhile."""
    found = []
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and int(pathlib.Path(f'/proc/{name}/stat').read_text().rsplit(')', 1)[1].split()[3]) == session:
                found.append(int(name))
        except (OSError, IndexError):
            pass
    return found


def tool(name):
    return str(OUT / name)


def crr(port, connections, seconds, nul=False):
    """Rate, median and 99th percentile in microseconds, and what went wrong."""
    env = dict(os.environ, **({'NUL': '1'} if nul else {}))
    text = subprocess.run([tool('crr'), str(port), str(seconds), '1', str(connections)], env=env,
                          capture_output=True, text=True).stdout
    found = re.match(r'(\d+) conns/s err=(\d+) mismatch=(\d+) p50=(\d+)us p90=\d+us p99=(\d+)us', text)
    rate, errors, wrong, p50, p99 = map(int, found.groups())
    return {'rate': rate, 'p50': p50, 'p99': p99, 'bad': errors + wrong}


def race(contenders, measure, rounds):
    results = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        at = turn % len(contenders)
        for contender in contenders[at:] + contenders[:at]:
            with contender:
                results[contender.name].append(measure(contender))
    return results


def table(title, results, base, key, unit, extra=()):
    """A table with the median of `key`, its range, and the ratio to `base`."""
    lines = [f'### {title}', '', f'| server | median {unit} | range | against {base} |' +
             ''.join(f' {name} |' for name in extra), '| --- | --- | --- | --- |' + ' --- |' * len(extra)]
    ratios = {}
    for name, rounds in results.items():
        values = [one[key] for one in rounds]
        ratio = statistics.median(a[key] / b[key] for a, b in zip(rounds, results[base]) if b[key])
        ratios[name] = round(ratio, 3)
        more = ''.join(f' {statistics.median(one[column] for one in rounds):g} |' for column in extra)
        lines.append(f'| {name} | {statistics.median(values):,.1f} | {min(values):,.1f} … {max(values):,.1f} | {ratio:.2f} |{more}')
    print('\n'.join(lines) + '\n', flush=True)
    return {'title': title, 'lines': lines, 'ratios': ratios, 'rounds': results}


def tine(*options):
    return f'{ARGS.tine} serve --log off ' + ' '.join(options) + ' 127.0.0.1:{port}'


def build():
    OUT.mkdir(exist_ok=True)
    source = pathlib.Path(ARGS.yardsticks)
    if not source.is_dir():
        sys.exit(f'there are no yardsticks in {source}; say where they are (--yardsticks DIR)')
    for name in ('crr', 'hold', 'stream', 'limits'):
        subprocess.run(['gcc', '-O2', '-w', '-static', '-o', tool(name), source / f'{name}.c'], check=True)
    subprocess.run(['gcc', '-O2', '-w', '-o', tool('tutorial_server'), source / 'tutorial_server.c'], check=True)
    subprocess.run(['gcc', '-O2', '-w', '-static', '-nostdlib', '-nostartfiles', '-fno-stack-protector',
                    '-fno-asynchronous-unwind-tables', '-Wl,-z,noseparate-code,-z,norelro', '-o', tool('tiny'),
                    source / 'tiny.c'], check=True)
    if ARGS.tine is None:
        subprocess.run(['cargo', 'build', '--release', '--quiet', '--bin', 'tine'], cwd=ROOT, check=True)
        host = re.search(r'host: (\S+)', subprocess.run(['rustc', '-vV'], capture_output=True, text=True).stdout)[1]
        shutil.copy(ROOT / 'target' / host / 'release' / 'tine', OUT / 'tine')
        ARGS.tine = tool('tine')



def load(port, *options, mode='crr', host='127.0.0.1'):
    """The report of `tine load`, with its exit code; one without figures where it says that the measurement is invalid."""
    done = subprocess.run([str(ARGS.tine), 'load', mode, f'{host}:{port}', '--json', '-', *map(str, options)],
                          capture_output=True, text=True)
    return {'code': done.returncode, **(json.loads(done.stdout) if done.stdout else {'error': done.stderr})}


def loaded_crr(port, connections, seconds, nul=False):
    """As `crr`, by `tine load` with the same load: rate, median, 99th percentile in microseconds, and what went wrong."""
    report = load(port, '-p', 1, '-c', connections, '-d', f'{seconds:g}s', '--close', 'rst', '--message', 'abcdefghi' + (r'\0' if nul else r'\n'))
    summary = report['summary']
    return {'rate': summary['rate'], 'p50': summary['latency_ns']['p50'] / 1000, 'p99': summary['latency_ns']['p99'] / 1000,
            'bad': summary['errors'], 'invalid': report['validity']['reasons'], 'cpu_ns': summary['client_cpu_ns_per_done']}


def arguments(description, sections, more=()):
    """Reads the command line, builds what is needed, and runs the sections that were asked for."""
    global ARGS
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--yardsticks', default=ROOT.parent / 'shared' / 'yardsticks')
    parser.add_argument('--tine')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2)
    parser.add_argument('sections', nargs='*', metavar='SECTION')
    ARGS = parser.parse_args()
    for name in ARGS.sections:
        if name not in list(sections) + list(more):
            parser.error(f'there is no section {name}')
    build()
    return ARGS.sections or list(sections)


def write(name, done):
    """Writes results for people and for programs."""
    cpu = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')), '?')
    head = f'{time.strftime("%Y-%m-%d")}, {os.cpu_count()} processors ({cpu}), Linux {os.uname().release}, {ARGS.rounds} rounds of {ARGS.seconds:g} s\n'
    (OUT / f'{name}.md').write_text('\n\n'.join([head] + ['\n'.join(one['lines']) for one in done]) + '\n')
    (OUT / f'{name}.json').write_text(json.dumps(done, indent=1))
