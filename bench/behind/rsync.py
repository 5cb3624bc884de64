"""The tests of rsync that have a daemon or a remote shell, from its sources, with the program of
Debian's package of the same version."""

import pathlib, re, subprocess, sys

from outside import fetch_source, run, source_versions, unpack

from .servers import Broker

NAME = 'rsync'
WARM = []
DAEMON = ['batch-mode', 'chmod-option', 'daemon', 'daemon-gzip-download', 'daemon-gzip-upload']
# Their remote shell is a script that executes `rsync --server` on the same machine.
REMOTE = ['alt-dest', 'exclude-lsh', 'files-from', 'hardlinks', 'ssh-basic', '00-hello']
PROTOCOLS = ['', '29']
TESTS = [f'{name} {protocol}'.strip() for protocol in PROTOCOLS for name in DAEMON + REMOTE]
SHORT = DAEMON
TIMEOUT = 600

HELPERS = 'tls getgroups getfsdev testrun trimslash t_unsafe wildtest'.split()
RESULT = re.compile(r'^(PASS|FAIL|SKIP|XFAIL) +(\S+)(?: +\((.*)\))?$', re.M)
WITHOUT = 'openssl xxhash zstd lz4 md2man acl-support xattr-support'.split()


def fetch(folder, apt):
    """Downloads the newest sources that the archives have and that have this suite, and the program
    of their version, and builds the suite's helpers. Returns the package that is tested."""
    version, sources = fetch_source(folder, apt, 'rsync', source_versions(apt, 'rsync'), 'runtests.sh')
    unpack((f'rsync={version}',), folder)
    included = ['--with-included-popt', '--with-included-zlib']
    options = [f'--disable-{name}' for name in WITHOUT]
    run('./configure', 'CFLAGS=-O0 -w', *included, *options, cwd=sources)
    run('make', *HELPERS, cwd=sources)
    sources.rename(folder / 'sources')
    return f'rsync {version}'


def read_at_start(words):
    """The files that rsync reads before it uses the connection."""
    return [word.partition('=')[2] for word in words if word.startswith('--config=')]


class Run:
    """The suite with one kind of server."""

    def __init__(self, place, folder, tine, options):
        """`folder` has what was fetched, `place` is the run's own."""
        self.sources, self.place = folder / 'sources', place
        self.place.mkdir()
        self.broker = Broker(tine, options, self.place, read_at_start)
        program = folder / 'rsync/usr/bin/rsync'
        relay = pathlib.Path(__file__).with_name('relay.py')
        self.wrapper = self.place / 'rsync'
        self.wrapper.write_text(
            '#!/bin/sh\nfor word; do case $word in\n'
            f'  --daemon | --server) exec {sys.executable} {relay} {self.broker.path} {program} "$@" ;;\n'
            f'esac; done\nexec {program} "$@"\n'
        )
        self.wrapper.chmod(0o755)

    def test(self, name):
        """Runs a test. Returns its result, what was served, and its output."""
        script, _, protocol = name.partition(' ')
        done = subprocess.run(
            ['./runtests.sh', *([f'--protocol={protocol}'] if protocol else [])],
            cwd=self.sources,
            env={
                'PATH': '/usr/sbin:/usr/bin:/sbin:/bin',
                'HOME': str(self.place),
                'rsync_bin': str(self.wrapper),
                'scratchbase': str(self.place),
                'whichtests': f'{script}.test',
                'always_log': 'yes',
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            timeout=TIMEOUT,
        )
        return {name: verdict(done.stdout)}, self.broker.stop(), done.stdout


def verdict(output):
    """The result of a test."""
    words = {'PASS': 'passed', 'FAIL': 'failed', 'XFAIL': 'failed', 'SKIP': 'skipped'}
    found = RESULT.search(output)
    if not found:
        return 'failed: no result'
    return f'{words[found[1]]}: {found[3]}' if found[3] else words[found[1]]
