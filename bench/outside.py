"""What bench/imports and bench/suites share: Debian packages that are unpacked, not installed, and
run in namespaces of their own."""

import argparse, os, pathlib, subprocess, sys, tempfile

from racing import OUT, ROOT


def run(*words, check=True, **more):
    return subprocess.run([str(word) for word in words], check=check, text=True, capture_output=True, **more)


def unpack(names, folder, options=()):
    """Downloads Debian packages and unpacks each, with its maintainer scripts, into a folder of its
    name. Reports a package that cannot be downloaded."""
    for name in names:
        got = run('apt-get', *options, 'download', '-qq', name, cwd=folder, check=False)
        files = sorted(folder.glob(f'{name}_*.deb'))
        if not files:
            print(f'cannot download {name}: {got.stderr.strip()[:80]}', file=sys.stderr)
            continue
        run('dpkg-deb', '-x', files[0], folder / name)
        run('dpkg-deb', '-e', files[0], folder / name / 'DEBIAN')


def write(name, lines):
    """Writes a table to standard output and to bench/out."""
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text('\n'.join(lines) + '\n')
    print('\n'.join(lines))


def main(script, text, fetch, inside):
    """Calls `fetch(folder)`, then `inside(tine, folder)` in namespaces. The exit code is 1 if that
    returns failures, their number."""
    parser = argparse.ArgumentParser(description=text.split('\n')[0])
    parser.add_argument('--tine', default=None, help='the command to test')
    parser.add_argument('--inside', default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    built = [path for kind in ('release', 'debug') for path in ROOT.glob(f'target/*/{kind}/tine')]
    tine = (
        args.tine
        or next(map(str, built), None)
        or sys.exit('tine is not built; run cargo build, or use --tine')
    )
    if args.inside:
        sys.exit(min(inside(tine, pathlib.Path(args.inside)), 1))
    # Not on an overlay file system, since `inside` mounts others on top.
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as scratch:
        os.chmod(scratch, 0o755)
        fetch(pathlib.Path(scratch))
        spaces = [
            'unshare',
            '--mount',
            '--net',
            '--pid',
            '--fork',
            '--kill-child',
            '--mount-proc',
            '--propagation',
            'private',
        ]
        sys.exit(
            subprocess.run([*spaces, sys.executable, script, '--tine', tine, '--inside', scratch]).returncode
        )
