"""What bench/imports and bench/suites share: programs of others, unpacked and run in namespaces of their own."""
import argparse, os, pathlib, subprocess, sys, tempfile

from racing import OUT, ROOT


def run(*words, check=True, **more):
    return subprocess.run([str(word) for word in words], check=check, text=True, capture_output=True, **more)


def unpack(names, folder, options=()):
    """Debian's packages with their scripts, each in a folder of its name. One that is not to be had is named."""
    for name in names:
        got = run('apt-get', *options, 'download', '-qq', name, cwd=folder, check=False)
        files = sorted(folder.glob(f'{name}_*.deb'))
        if not files:
            print(f'not to be had: {name} {got.stderr.strip()[:80]}', file=sys.stderr)
            continue
        run('dpkg-deb', '-x', files[0], folder / name)
        run('dpkg-deb', '-e', files[0], folder / name / 'DEBIAN')


def write(name, lines):
    """A table, on standard output and in bench/out."""
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text('\n'.join(lines) + '\n')
    print('\n'.join(lines))


def main(script, text, fetch, inside):
    """Calls `fetch(folder)`, then `inside(tine, folder)` in namespaces, whose number of failures decides the exit code."""
    parser = argparse.ArgumentParser(description=text.split('\n')[0])
    parser.add_argument('--tine', default=None, help='the command to test')
    parser.add_argument('--inside', default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    built = [ROOT / 'target' / 'x86_64-unknown-linux-gnu' / kind / 'tine' for kind in ('release', 'debug')]
    tine = args.tine or next((str(path) for path in built if path.exists()), None) or sys.exit('build tine first')
    if args.inside:
        sys.exit(min(inside(tine, pathlib.Path(args.inside)), 1))
    # Not on an overlay, so that another can be laid over it.
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as scratch:
        os.chmod(scratch, 0o755)
        fetch(pathlib.Path(scratch))
        spaces = ['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private']
        sys.exit(subprocess.run([*spaces, sys.executable, script, '--tine', tine, '--inside', scratch]).returncode)
