"""Reload and upgrade under load: what clients and connections notice of them."""

import json, os, random, signal, socket, subprocess, time

import racing
from racing import OUT, rows

# Replacements in a row, and new processes that are killed.
TIMES = 20
KILLS = 50
# New connections each second, and held ones.
RATE = 2000
HELD = 500

CONFIGURATION = """control = '{socket}'
state-directory = 'none'
quiet = true
upgrade-timeout = '5s'
[services.echo]
listen = '127.0.0.1:{port}'
max-connections = {maximum}
"""


class Replaced:
    """A server with a configuration, which is replaced."""

    def __init__(self, port):
        self.socket, self.file = OUT / 'replace.sock', OUT / 'replace.toml'
        self.port, self.maximum = port, 4096
        self.write()
        words = [racing.ARGS.tine, 'serve', '--config', self.file]
        self.process = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL)

    def write(self, more=''):
        text = CONFIGURATION.format(socket=self.socket, port=self.port, maximum=self.maximum)
        self.file.write_text(text + more)

    def command(self, *words):
        words = [racing.ARGS.tine, *words, '--control', self.socket]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def expect(self, code, *words):
        command = self.command(*words)
        _, text = command.communicate()
        if command.returncode != code:
            raise SystemExit(f'{words}: {command.returncode} instead of {code}: {text}')

    def change(self):
        """Another configuration each time."""
        self.maximum += 1
        self.write()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def reloads(server):
    for _ in range(TIMES):
        server.change()
        server.expect(0, 'reload')
        time.sleep(0.3)


def upgrades(server):
    for _ in range(TIMES):
        server.expect(0, 'upgrade')
        time.sleep(0.3)


def failures(server):
    """A configuration and binaries that are broken, and one that hangs."""
    server.write('nonsense')
    server.expect(100, 'reload')
    server.write()
    server.expect(111, 'upgrade', '/bin/false')
    server.expect(100, 'upgrade', '/no/such/file')
    hanging = OUT / 'hanging'
    hanging.write_text('#!/bin/sh\nexec sleep 60\n')
    hanging.chmod(0o755)
    server.expect(111, 'upgrade', str(hanging))


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return [int(child) for child in file.read().split()]


def stat_field(pid, number):
    """A field of /proc/PID/stat, by its number in proc_pid_stat(5), beyond the name."""
    with open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[number - 3]


def is_executed(pid, parent):
    """Whether a child has executed a binary: its arguments are at another address (arg_start)."""
    try:
        return stat_field(pid, 48) != stat_field(parent, 48)
    except FileNotFoundError:
        return False


def kills(server):
    """The new process is killed at a random moment of its start, before it serves."""
    killed = 0
    while killed < KILLS:
        command = [racing.ARGS.tine, 'status', '--json', '--control', server.socket]
        supervisor = json.loads(subprocess.check_output(command))[0]['pid']
        serving = int(stat_field(supervisor, 4))
        before = set(children(serving))
        command = server.command('upgrade')
        new = None
        while new is None and command.poll() is None:
            found = set(children(serving)) - before
            new = next((pid for pid in found if is_executed(pid, serving)), None)
        time.sleep(random.uniform(0, 0.03))
        # Stopped, the old process cannot leave accepting to one that is being killed.
        os.kill(serving, signal.SIGSTOP)
        if new in children(serving):
            os.kill(new, signal.SIGKILL)
        os.kill(serving, signal.SIGCONT)
        _, text = command.communicate()
        killed += 'signal KILL' in text


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def session(pid):
    """The processes of a session, without those that wait to be reaped."""
    found = []
    for entry in os.listdir('/proc'):
        try:
            if entry.isdigit() and stat_field(entry, 6) == str(pid) and stat_field(entry, 3) != 'Z':
                found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def kills_of_the_old():
    """The first process is killed at a random moment of an upgrade: all of the server must end, and
    leave its address. Returns how many servers did not."""
    stayed = 0
    for _ in range(KILLS):
        server = Replaced(free_port())
        while server.command('status').wait():
            if server.process.poll() is not None:
                raise SystemExit('the server does not start')
        command = server.command('upgrade')
        time.sleep(random.uniform(0, 0.08))
        server.process.kill()
        server.process.wait()
        command.communicate()
        until = time.monotonic() + 5
        while (left := session(server.process.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        stayed += bool(left)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    return stayed


def loaded(seconds, server):
    """Starts both loads: new connections at a rate, and held ones that talk."""
    address = f'127.0.0.1:{server.port}'
    common = ['--json', '-', '-d', f'{seconds}s', address]
    new = [racing.ARGS.tine, 'load', 'crr', '--rate', str(RATE), '-c', '2000', *common]
    held = [racing.ARGS.tine, 'load', 'hold', '-c', str(HELD), '--think', '500ms', *common]
    return [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for words in (new, held)
    ]


def section_replace():
    """Each kind of replacement, with new connections at 2,000/s and 500 held ones that talk."""
    lines, lost = [], 0
    for name, act, seconds in (
        (f'{TIMES} reloads', reloads, 25),
        (f'{TIMES} upgrades', upgrades, 25),
        ('broken configuration and binaries, one that hangs', failures, 30),
        (f'{KILLS} × kill -9 of the new process', kills, 30),
    ):
        server = Replaced(free_port())
        time.sleep(1)
        clients = loaded(seconds, server)
        time.sleep(2)
        act(server)
        reports = [json.loads(client.communicate()[0])['summary'] for client in clients]
        server.stop()
        new, held = reports
        states = [report['states'] for report in reports]
        bad = [sum(count for state, count in one.items() if state != 'ok') for one in states]
        lost += sum(bad)
        lines.append(
            [name, f'{states[0].get("ok", 0):,}', str(bad[0]), f'{states[1].get("ok", 0)}', str(bad[1])]
            + [f'{new["latency_ns"][which] / 1e6:.1f}' for which in ('p50', 'p99', 'max')]
        )
    done = rows(
        f'Reload and upgrade under {RATE:,} connections/s with {HELD} held connections that talk',
        ['what', 'served', 'not served', 'held', 'cut', 'p50 ms', 'p99 ms', 'max ms'],
        lines,
    )
    stayed = kills_of_the_old()
    done['text'] = f'{KILLS} × kill -9 of the old process: {KILLS - stayed} servers ended as a whole.'
    if stayed:
        raise SystemExit(f'{stayed} of {KILLS} servers left processes behind')
    done['values'] = {'replace.lost': (lost, f'{lost} clients refused, reset, unanswered or cut')}
    return done
