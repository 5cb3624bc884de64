"""What bench/imports, bench/suites and bench/warm-suites share: Debian packages that are unpacked,
not installed, their sources, and namespaces of their own."""

import argparse, functools, os, pathlib, re, subprocess, sys, tempfile

from racing import OUT, ROOT


def run(*words, check=True, **more):
    """Runs a command. If it has to succeed and does not, its output is shown."""
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True, **more)
    if check and done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    return done


def unpack(names, folder, options=()):
    """Downloads Debian packages, NAME or NAME=VERSION, and unpacks each, with its maintainer
    scripts, into a folder of its name. Reports a package that cannot be downloaded."""
    for package in names:
        name = package.partition('=')[0]
        got = run('apt-get', *options, 'download', '-qq', package, cwd=folder, check=False)
        files = sorted(folder.glob(f'{name}_*.deb'))
        if not files:
            print(f'cannot download {name}: {got.stderr.strip()[:80]}', file=sys.stderr)
            continue
        run('dpkg-deb', '-x', files[0], folder / name)
        run('dpkg-deb', '-e', files[0], folder / name / 'DEBIAN')


def source_options(folder):
    """Reads the lists of the sources that the machine's archives have, into the folder. Returns the
    options with which apt uses them."""
    lists, parts = folder / 'lists', folder / 'parts'
    (lists / 'partial').mkdir(parents=True)
    parts.mkdir()
    for file in [
        pathlib.Path('/etc/apt/sources.list'),
        *sorted(pathlib.Path('/etc/apt/sources.list.d').glob('*')),
    ]:
        text = file.read_text() if file.is_file() else ''
        if file.suffix == '.sources':
            (parts / file.name).write_text(re.sub(r'^Types:.*$', 'Types: deb-src', text, flags=re.M))
        elif file.suffix == '.list' and text.strip():
            (parts / file.name).write_text(re.sub(r'^deb ', 'deb-src ', text, flags=re.M))
    words = ['-q', '-o', 'Dir::Etc::SourceList=/dev/null', '-o', f'Dir::Etc::SourceParts={parts}']
    words += ['-o', f'Dir::State::Lists={lists}']
    run('apt-get', *words, 'update')
    return words


def installed(package):
    """The version of a package that is installed."""
    return run('dpkg-query', '--show', '--showformat=${Version}', package).stdout


def source_versions(options, name):
    """The versions of a package whose sources the archives list, the newest first."""
    text = run('apt-cache', *options, 'showsrc', '--only-source', name).stdout
    return sorted(set(re.findall(r'^Version: (\S+)$', text, re.M)), key=functools.cmp_to_key(older))


def older(one, other):
    """Negative if the first version is the newer one."""
    newer = run('dpkg', '--compare-versions', one, 'gt', other, check=False).returncode == 0
    return -1 if newer else 1


def fetch_source(folder, options, name, versions, file):
    """Downloads the sources of a package, and unpacks those of its author: of the first of the
    versions that the archives still have, and that has this file. Returns the version and the
    folder."""
    for version in versions:
        place = folder / f'{name}-source' / version.replace(':', '_')
        place.mkdir(parents=True, exist_ok=True)
        words = ['apt-get', *options, 'source', '--download-only', f'{name}={version}']
        if run(*words, cwd=place, check=False).returncode != 0:
            print(f'no sources of {name} {version} in the archives', file=sys.stderr)
            continue
        run('tar', 'xf', next(place.glob('*.orig.tar.*[!c]')), cwd=place)
        sources = next(path for path in place.iterdir() if path.is_dir())
        if (sources / file).exists():
            return version, sources
    sys.exit(f'no sources of {name} with {file} in the archives')


def write(name, lines):
    """Writes a table to standard output and to bench/out."""
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text('\n'.join(lines) + '\n')
    print('\n'.join(lines))


def built():
    """The command that was built last."""
    target = pathlib.Path(os.environ.get('CARGO_TARGET_DIR', ROOT / 'target'))
    found = [path for kind in ('release', 'debug') for path in target.glob(f'*/{kind}/tine')]
    if not found:
        sys.exit('tine is not built; run cargo build, or use --tine')
    return str(max(found, key=lambda path: path.stat().st_mtime))


def in_namespaces(words):
    """The exit code of a script of Python that runs with mount, network and process namespaces of
    its own. Their first process is a shell: it reaps the processes that others leave behind, which
    a suite takes for running until then."""
    spaces = ['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
    spaces += ['--propagation', 'private']
    init = ['sh', '-c', '"$@"; exit "$?"', 'sh']
    return subprocess.run([*spaces, *init, sys.executable, *words]).returncode


def main(script, text, fetch, inside):
    """Calls `fetch(folder)`, then `inside(tine, folder)` in namespaces. The exit code is 1 if that
    returns failures, their number."""
    parser = argparse.ArgumentParser(description=text.split('\n')[0])
    parser.add_argument('--tine', default=None, help='the command to test')
    parser.add_argument('--inside', default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    tine = args.tine or built()
    if args.inside:
        sys.exit(min(inside(tine, pathlib.Path(args.inside)), 1))
    # Not on an overlay file system, since `inside` mounts others on top.
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as scratch:
        os.chmod(scratch, 0o755)
        fetch(pathlib.Path(scratch))
        sys.exit(in_namespaces([script, '--tine', tine, '--inside', scratch]))
