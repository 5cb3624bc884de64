"""The regression suite of OpenSSH, as Debian packages it: the tests in which the client starts
`sshd -i` as its proxy command. In the others, sshd listens by itself, or there is none."""

import os, pathlib, re, shutil, subprocess, sys

from outside import installed, unpack

from .servers import Broker

NAME = 'openssh'
WARM = []
SHORT = ['authinfo', 'envpass', 'exit-status-signal', 'forcecommand']
PROGRAM = '/usr/sbin/sshd'
TIMEOUT = 900

TESTS = """
agent agent-restrict allow-deny-users authinfo banner cert-file cert-hostkey cert-userkey
channel-timeout connect-privsep connection-timeout dhgex envpass exit-status exit-status-signal
forcecommand forward-control host-expand hostkey-rotate integrity kextype keys-command
keytype knownhosts knownhosts-command limit-keytype localcommand multipubkey percent portnum
principals-command proto-version rekey scp3 stderr-after-eof stderr-data transfer
try-ciphers yes-head
""".split()

# The other tests that have a proxy command, and why they do not run.
NO_ADDRESS = 'expects that sshd knows no address of its client, as over a pipe'
OTHER_CLIENT = 'is for the client of another package'
EXCLUDED = {
    'addrmatch': 'starts no connection: `sshd -T` alone',
    'agent-pkcs11': 'needs a PKCS#11 library of another package',
    'cfgmatch': NO_ADDRESS,
    'cfgmatchlisten': NO_ADDRESS,
    'cipher-speed': 'measures rates',
    'hostbased': 'needs an ssh-keysign and host keys that are installed',
    'hostkey-agent': NO_ADDRESS,
    'key-options': NO_ADDRESS,
    'proto-mismatch': 'expects the exit code of sshd, which no connection carries',
    'proxy-connect': NO_ADDRESS,
    'putty-ciphers': OTHER_CLIENT,
    'putty-kex': OTHER_CLIENT,
    'putty-transfer': OTHER_CLIENT,
    'sshfp-connect': 'needs a name server with records of its own',
}

# A line of a configuration that names a file which sshd reads before it looks at the connection.
READ = re.compile(r'^\s*(?:HostKey|HostCertificate|Include)\s+(\S+)', re.I | re.M)


def fetch(folder, _):
    """Downloads the tests of the version that is installed, or of another revision of it, and
    unpacks them. Returns the package that is tested."""
    version = installed('openssh-server')
    for package in (f'openssh-tests={version}', 'openssh-tests'):
        unpack((package,), folder)
        if (folder / 'openssh-tests').is_dir():
            return f'openssh-server {version}'
    sys.exit('openssh-tests cannot be downloaded; run apt-get update')


def read_at_start(words):
    """The files that sshd reads before it uses the connection."""
    if '-f' not in words:
        return []
    config = pathlib.Path(words[words.index('-f') + 1])
    return [str(config), *READ.findall(config.read_text())]


class Run:
    """The suite with one kind of server."""

    def __init__(self, place, folder, tine, options):
        """`folder` has what was fetched, `place` is the run's own."""
        self.place = place
        self.place.mkdir()
        self.broker = Broker(tine, options, self.place, read_at_start)
        self.tests = self.place / 'regress'
        shutil.copytree(folder / 'openssh-tests/usr/lib/openssh/regress', self.tests, symlinks=True)
        wrapper = self.place / 'sshd'
        relay = pathlib.Path(__file__).with_name('relay.py')
        wrapper.write_text(
            '#!/bin/sh\nfor word; do\n'
            f'  [ "$word" = -i ] && exec {sys.executable} {relay} {self.broker.path} {PROGRAM} "$@"\n'
            f'done\nexec {PROGRAM} "$@"\n'
        )
        wrapper.chmod(0o755)

    def test(self, name):
        """Runs a test. Returns its cases with their results, what was served, and its output."""
        at = str(self.tests)
        environment = {
            'PATH': '/usr/sbin:/usr/bin:/sbin:/bin',
            'HOME': os.environ.get('HOME', '/'),
            'BUILDDIR': at,
            'OBJ': at,
            'TEST_SHELL': 'sh',
            'TEST_SSH_SSH': '/usr/bin/ssh',
            'TEST_SSH_SSHD': str(self.place / 'sshd'),
            'TEST_SSH_SFTPSERVER': '/usr/lib/openssh/sftp-server',
            'TEST_SSH_IPV6': 'yes',
            'TEST_SSH_ECC': 'yes',
            'TEST_SSH_UNSAFE_PERMISSIONS': '1',
            'SUDO': '',
        }
        with open('/dev/zero', 'rb') as zero:
            done = subprocess.run(
                ['sh', f'{at}/test-exec.sh', at, f'{at}/{name}.sh'],
                cwd=at,
                env=environment,
                stdin=zero,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
                timeout=TIMEOUT,
            )
        return {name: verdict(done.returncode, done.stdout)}, self.broker.stop(), done.stdout


def verdict(code, output):
    """The result of a test."""
    if code != 0:
        return f'failed: {code}'
    if skipped := re.search(r'^SKIPPED: (.*)$', output, re.M):
        return f'skipped: {skipped[1]}'
    return 'passed' if re.search(r'^ok ', output, re.M) else 'failed: no result'
