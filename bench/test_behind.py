"""Tests of behind/: python3 -m unittest discover bench"""

import os, pathlib, socket, subprocess, sys, tempfile, threading, unittest

from behind import git, git_daemon, openssh, rsync, servers
from behind.compare import Comparison, row
from behind.servers import Broker, Served

# Stands in place of tine: it listens, prints its port, and writes a log as the server does. Each
# connection gets back what it has sent, in upper case, after its end.
SERVER = r"""#!{python}
import json, socket, signal, sys
log = open(sys.argv[sys.argv.index('--log-file') + 1], 'w')
if 'refused' in sys.argv:
    print('not today', file=sys.stderr)
    sys.exit(111)
def end(*_):
    log.write(json.dumps({{'event': 'stop'}}) + '\n')
    log.close()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
start = {{'start': 'warm'}} if '--warm' in sys.argv else {{}}
while True:
    client, _ = listener.accept()
    with client, client.makefile('rb') as reader:
        client.sendall(reader.read().upper())
        log.write(json.dumps({{'event': 'end', **start}}) + '\n')
        log.flush()
"""


class Behind(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.tine = self.folder / 'tine'
        self.tine.write_text(SERVER.format(python=sys.executable))
        self.tine.chmod(0o755)

    def broker(self, *options, read=lambda words: words[1:]):
        broker = Broker(self.tine, options, self.folder, read)
        self.addCleanup(broker.close)
        return broker

    def relay(self, broker, *words, given=b'', **more):
        script = pathlib.Path(servers.__file__).with_name('relay.py')
        command = [sys.executable, script, broker.path, *words]
        return subprocess.run(command, input=given, capture_output=True, timeout=60, **more)


class Servers(Behind):
    def test_counts_the_connections_that_ended_by_their_start(self):
        log = '{"event":"accept"}\n{"event":"end","start":"warm"}\n{"event":"end","start":"cold"}\n'
        self.assertEqual(servers.served(log + '{"event":"end"}\n'), Served(1, 2))
        self.assertEqual(servers.served(''), Served(0, 0))

    def test_relays_both_directions_and_the_end_of_standard_input(self):
        broker = self.broker('--warm')
        given = os.urandom(1 << 20).lower()
        done = self.relay(broker, 'program', given=given)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, given.upper(), b''))
        self.assertEqual(broker.stop(), Served(1, 0))
        self.assertEqual(broker.stop(), Served(0, 0))

    def test_standard_input_and_output_can_be_non_blocking(self):
        broker = self.broker()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with ours, theirs:
            script = pathlib.Path(servers.__file__).with_name('relay.py')
            relay = subprocess.Popen([sys.executable, script, broker.path, 'program'], stdin=theirs, stdout=theirs)
            theirs.close()
            given = b'a' * (4 << 20)
            sender = threading.Thread(target=lambda: (ours.sendall(given), ours.shutdown(socket.SHUT_WR)))
            sender.start()
            with ours.makefile('rb') as reader:
                self.assertEqual(reader.read(), given.upper())
            sender.join()
            self.assertEqual(relay.wait(60), 0)

    def test_a_command_keeps_its_server_until_what_it_reads_or_inherits_changes(self):
        broker = self.broker()
        config = self.folder / 'config'
        for content, environment, made in [('1', {}, 1), ('1', {}, 1), ('2', {}, 2), ('2', {'A': 'b'}, 3)]:
            config.write_text(content)
            self.relay(broker, 'program', str(config), env={**os.environ, **environment})
            self.assertEqual(broker.made, made, (content, environment))
        self.relay(broker, 'program', str(config), 'more')
        self.assertEqual(broker.made, 4)
        self.assertEqual(broker.stop(), Served(0, 5))

    def test_a_server_that_does_not_start_fails_the_relay_with_its_error(self):
        done = self.relay(self.broker(), 'refused')
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'tine ends with 111: not today', done.stderr)


class Compare(unittest.TestCase):
    def faults(self, cold, warm, cold_served=Served(0, 1), warm_served=Served(1, 0)):
        return Comparison().add('test', (cold, cold_served), (warm, warm_served))

    def test_equal_results_have_no_fault(self):
        both = {'one': 'passed', 'two': 'skipped'}
        self.assertEqual(self.faults(both, dict(both)), [])

    def test_each_difference_is_a_fault(self):
        cold, warm = {'one': 'passed', 'two': 'passed'}, {'one': 'failed', 'three': 'passed'}
        expected = [
            'one: cold passed, warm failed',
            'two: cold passed, warm missing',
            'three: cold missing, warm passed',
        ]
        self.assertEqual(self.faults(cold, warm), expected)

    def test_connections_that_are_served_otherwise_are_faults(self):
        both = {'one': 'passed'}
        for served, expected in [
            ((Served(1, 1), Served(1, 0)), ['1 copies in the cold run']),
            ((Served(0, 1), Served(1, 2)), ['2 executions in the warm run']),
            ((Served(0, 0), Served(1, 0)), ['no connection in the cold run']),
            ((Served(0, 1), Served(0, 0)), ['no copy in the warm run']),
            ((Served(0, 2), Served(1, 0)), ['2 connections in the cold run, 1 in the warm one']),
        ]:
            self.assertEqual(self.faults(both, both, *served), expected)

    def test_a_case_that_fails_in_both_runs_is_a_fault(self):
        self.assertEqual(self.faults({'one': 'failed: 1'}, {'one': 'failed: 1'}), ['one: fails in both runs'])
        self.assertEqual(self.faults({'one': 'skipped'}, {'one': 'skipped'}), ['no case passes'])

    def test_the_row_counts_cases_and_copies(self):
        found = Comparison()
        cold = {'one': 'passed', 'two': 'passed', 'three': 'skipped'}
        found.add('a', (cold, Served(0, 3)), ({**cold, 'two': 'failed'}, Served(3, 0)))
        found.add('b', ({'b': 'passed'}, Served(0, 1)), ({'b': 'passed'}, Served(1, 0)))
        self.assertEqual(row('git', 'git 1', found), '| git | git 1 | 2 | 4 | 3 | 2 | 1 | 4 |')


class Suites(unittest.TestCase):
    def test_results_of_git(self):
        output = 'ok 1 - a # b\nsome output\nnot ok 2 - c\nok 3 # skip d (missing PERL)\nnot ok 4 - e # TODO known breakage\n'
        expected = {'t1 1 a # b': 'passed', 't1 2 c': 'failed', 't1 3 d (missing PERL)': 'skipped'}
        expected['t1 4 e'] = 'known to fail'
        self.assertEqual(git.cases('t1', output), expected)

    def test_results_of_rsync(self):
        for output, expected in [
            ('PASS    daemon\n', 'passed'),
            ('log\nFAIL    daemon\n', 'failed'),
            ('SKIP    acls (no setfacl)\n', 'skipped: no setfacl'),
            ('nothing\n', 'failed: no result'),
        ]:
            self.assertEqual(rsync.verdict(output), expected)

    def test_results_of_openssh(self):
        for code, output, expected in [
            (0, 'ok connect\n', 'passed'),
            (1, 'failed connect\n', 'failed: 1'),
            (0, 'SKIPPED: no name server\n', 'skipped: no name server'),
            (1, 'SKIPPED: no name server\n', 'failed: 1'),
            (0, '', 'failed: no result'),
        ]:
            self.assertEqual(openssh.verdict(code, output), expected)

    def test_files_that_programs_read_at_the_start(self):
        with tempfile.NamedTemporaryFile('w') as config:
            config.write('Port 1\n  HostKey /key\nhostcertificate /cert\nBanner /banner\n')
            config.flush()
            words = ['/usr/sbin/sshd', '-i', '-f', config.name]
            self.assertEqual(openssh.read_at_start(words), [config.name, '/key', '/cert'])
        self.assertEqual(openssh.read_at_start(['/usr/sbin/sshd', '-i']), [])
        self.assertEqual(rsync.read_at_start(['rsync', '--daemon', '--config=/a', '.']), ['/a'])

    def test_the_arguments_of_git_daemon(self):
        given = ['--listen=127.0.0.1', '--port=5570', '--reuseaddr', '--verbose', '--pid-file=/pid']
        expected = ['/exec/git-daemon', '--inetd', '--log-destination=stderr', '--verbose', '/repo']
        found = git_daemon.program([*given, '/repo'], '/exec')
        self.assertEqual(found, (5570, '/pid', expected))

    def test_no_test_is_both_chosen_and_excluded(self):
        self.assertEqual(set(openssh.TESTS) & set(openssh.EXCLUDED), set())
        self.assertLessEqual(set(openssh.SHORT), set(openssh.TESTS))
        self.assertLessEqual(set(rsync.SHORT), set(rsync.TESTS))


if __name__ == '__main__':
    unittest.main()
