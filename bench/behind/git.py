"""The tests of git that start `git daemon`, from its sources, with the git that is installed."""

import os, pathlib, re, shutil, subprocess

from outside import fetch_source, installed, run, source_versions

from .servers import Served, served

NAME = 'git'
# Without variables of the connection: git-daemon copies its environment.
WARM = ['--warm-allow', 'variables']
TESTS = ['t5570-git-daemon', 't5700-protocol-v1', 't5702-protocol-v2', 't5811-proto-disable-git']
SHORT = []
USER = 4711
TIMEOUT = 600

# Only what the tests call is built: the helper, without libraries that it does not need.
WITHOUT = 'NO_CURL NO_EXPAT NO_GETTEXT NO_OPENSSL NO_PYTHON NO_TCLTK'.split()
HELPERS = ['t/helper/test-tool', 't/helper/test-fake-ssh', 'GIT-BUILD-OPTIONS']
CASE = re.compile(r'^(ok|not ok) (\d+)(?: - (.*?))?( # TODO known breakage| # skip (.*))?$', re.M)


def fetch(folder, apt):
    """Downloads the sources of the version that is installed, or of another revision of it, and
    builds what the tests call. Returns the package that is tested."""
    version = installed('git')
    upstream = version.rpartition('-')[0]
    others = [one for one in source_versions(apt, 'git') if one.rpartition('-')[0] == upstream]
    _, sources = fetch_source(folder, apt, 'git', [version, *others], 't/lib-git-daemon.sh')
    words = ['CFLAGS=-O0', *(f'{name}=1' for name in WITHOUT)]
    run('make', f'-j{os.cpu_count()}', *words, *HELPERS, cwd=sources)
    run('make', '-C', 'templates', cwd=sources)
    sources.rename(folder / 'git')
    run('chown', '-R', f'{USER}:{USER}', folder / 'git')
    return f'git {version}'


def cases(name, output):
    """The results of a test's cases, by its name and theirs."""
    found = {}
    for result, number, title, remark, skipped in CASE.findall(output):
        verdict = 'passed' if result == 'ok' else 'failed'
        if remark:
            verdict = 'skipped' if skipped else 'known to fail'
        found[f'{name} {number} {title or skipped}'.strip()] = verdict
    return found


class Run:
    """The suite with one kind of server."""

    def __init__(self, place, folder, tine, options):
        """`folder` has what was fetched, `place` is the run's own."""
        self.tests, self.place = folder / 'git' / 't', place
        self.logs = self.place / 'logs'
        for path in (self.place, self.logs):
            path.mkdir()
            os.chown(path, USER, USER)
        # Copies, since the user may not be able to read where the originals are.
        own = self.place / 'behind'
        shutil.copytree(pathlib.Path(__file__).parent, own)
        shutil.copy(tine, self.place / 'tine')
        words = ['/usr/bin/python3', own / 'git_daemon.py', self.place / 'tine', self.logs, *options, '--']
        self.daemon = ' '.join(map(str, words))

    def test(self, name):
        """Runs a test. Returns its cases with their results, what was served, and its output."""
        done = subprocess.run(
            ['sh', f'{name}.sh', '-v'],
            cwd=self.tests,
            env={
                'PATH': '/usr/bin:/bin',
                'HOME': str(self.place),
                'GIT_TEST_INSTALLED': '/usr/bin',
                'GIT_TEST_GIT_DAEMON': 'true',
                'TEST_OUTPUT_DIRECTORY': str(self.place),
                'LIB_GIT_DAEMON_COMMAND': self.daemon,
            },
            user=USER,
            group=USER,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            timeout=TIMEOUT,
        )
        found = cases(name, done.stdout)
        if done.returncode != 0:
            found[f'{name}, exit code'] = f'failed: {done.returncode}'
        total = Served()
        for log in self.logs.iterdir():
            total += served(log.read_text())
            log.unlink()
        return found, total, done.stdout
