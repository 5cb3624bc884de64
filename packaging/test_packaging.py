"""Builds the packages, installs each in a clean root of its own, and uses it there.

Run as root: python3 -m unittest discover packaging
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGES = ROOT / "target/packages"
# The exposure that `systemd-analyze security` gives to the units, at most, times ten.
MAX_EXPOSURE = 36
# What programs load that are started warm, below share/tine/warm.
WARM_HELPERS = {"tine_warm.py", "Tine/Warm.pm", "tine_warm.rb", "tine_warm.php", "tine_warm.lua", "tine-warm.sh"}


def run(*words, **options):
    """Runs a command that succeeds, and returns what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, **options)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(*words, **options):
    run(HERE / "build", "--profile", "dev", *words, **options)


def version():
    lines = (ROOT / "Cargo.toml").read_text().splitlines()
    return next(line for line in lines if line.startswith("version = ")).split('"')[1]


def warm_helpers(listing):
    """The helpers of warm programs that a listing of tar(1) has: their names and permissions."""
    found = re.findall(r"^(-\S+).*/share/tine/warm/(\S+)$", listing, re.MULTILINE)
    return {name: permissions for permissions, name in found}


def expect_licences(text):
    """A text with the licences of all crates: those that ask for it are passed on in full."""
    crates = dict(re.findall(r"^([\w-]+) \d\S*: ([^,\n]+), ", text, re.MULTILINE))
    for crate, licence, words in [
        ("async-nats", "Apache-2.0", "LICENSE-APACHE"),
        ("subtle", "BSD-3-Clause", "Neither the name of the copyright holder nor the names of"),
        ("untrusted", "ISC", "Copyright 2015-2016 Brian Smith."),
        ("clap", "MIT OR Apache-2.0", "The above copyright notice and this permission notice"),
    ]:
        assert crates.get(crate) == licence and words in text, (crate, crates.get(crate))
    # What is used while building only is not in the binary.
    assert len(crates) > 100 and "syn" not in crates and "unicode-ident" not in crates, sorted(crates)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, check):
    """Waits until a check is true: for 30 s, at most."""
    deadline = time.monotonic() + 30
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting until {what}")
        time.sleep(0.02)


def echo(port):
    """Whether a server on this port sends back what it receives."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").read() == b"hello\n"
    except ConnectionRefusedError:
        return False


class Process:
    """A process that ends with the test."""

    def __init__(self, *words, **options):
        self.child = subprocess.Popen(words, **{"stdin": subprocess.DEVNULL, **options})

    def __enter__(self):
        return self.child

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


class CleanRoot:
    """A minimal Debian of its own. Its processes are in a pid namespace, which ends with it."""

    def __enter__(self):
        archive = ROOT / "target/packages-root.tar"
        if not archive.exists():
            new = f"{archive}.new"
            run("mmdebstrap", "--quiet", "--format=tar", "--variant=essential", "--include=netcat-openbsd,passwd",
                "bookworm", new)
            os.rename(new, archive)
        self.folder = tempfile.mkdtemp(prefix="tine-root-")
        run("tar", "-C", self.folder, "-xf", archive)
        # What an installer writes.
        Path(self.folder, "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        # The first process keeps the namespaces, and reaps.
        script = (f"mount -t proc proc {self.folder}/proc && mount -t devtmpfs dev {self.folder}/dev && "
                  "ip link set lo up && echo ready && exec sleep 600")
        self.init = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net",
             "sh", "-c", script],
            stdout=subprocess.PIPE, text=True)
        assert self.init.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        self.pid = int(children[0])
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        self.init.wait()
        self.init.stdout.close()
        shutil.rmtree(self.folder)

    def words(self, *words):
        namespaces = ("--mount", "--pid", "--net")
        return ("nsenter", "--target", str(self.pid), *namespaces, "chroot", self.folder, *words)

    def run(self, *words):
        return run(*self.words(*words))


class DebianPackage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        build("deb")
        build("--version", f"{version()}+next", "deb")
        architecture = run("dpkg", "--print-architecture").strip()
        cls.first, cls.next = (PACKAGES / f"tine_{name}_{architecture}.deb"
                               for name in (version(), f"{version()}+next"))

    def test_it_is_installed_upgraded_under_load_and_removed(self):
        with CleanRoot() as root:
            for package in (self.first, self.next):
                shutil.copy(package, root.folder)
            root.run("dpkg", "--install", f"/{self.first.name}")
            root.run("tine", "check", "/etc/tine/tine.toml")
            serve = root.words("tine", "serve", "--name", "tine", "--config", "/etc/tine/tine.toml")
            with Process(*serve, stderr=subprocess.DEVNULL) as server:
                # The README's two commands, by the client of the package.
                said = wait_until("it serves", lambda: self.client(root))
                self.assertEqual(said, "hello\n")
                before = json.loads(root.run("tine", "status", "--json"))[0]["pid"]
                load = root.words("tine", "load", "crr", "--rate", "100", "-d", "6s", "127.0.0.1:9999")
                hold = root.words("tine", "load", "hold", "-c", "20", "--think", "100ms", "-d", "8s",
                                  "127.0.0.1:9999")
                silent = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
                with Process(*load, **silent) as new, Process(*hold, **silent) as held:
                    time.sleep(2)
                    root.run("dpkg", "--install", f"/{self.next.name}")
                    for loaded in (new, held):
                        report, _ = loaded.communicate(timeout=60)
                        self.assertEqual(loaded.returncode, 0, report)
                        self.assertIn("errors       0", report)
                after = json.loads(root.run("tine", "status", "--json"))[0]["pid"]
                self.assertNotEqual(before, after, "the server is replaced")
                root.run("dpkg", "--remove", "tine")
                self.assertEqual(server.wait(timeout=30), 0)
            self.assertTrue(Path(root.folder, "etc/tine/tine.toml").exists())
            root.run("dpkg", "--purge", "tine")
            left = [path for path in Path(root.folder).rglob("*tine*")
                    if "/proc/" not in str(path) and "dpkg" not in str(path) and path.suffix != ".deb"]
            self.assertEqual(left, [])

    @staticmethod
    def client(root):
        words = root.words("nc", "-N", "localhost", "9999")
        done = subprocess.run(words, input="hello\n", capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else None

    def test_its_manual_pages_and_completions_are_complete(self):
        files = run("dpkg-deb", "--contents", self.first)
        for command in ("tine", "tine-serve", "tine-load-crr", "tine-upgrade"):
            self.assertIn(f"/man1/{command}.1.gz", files)
        for file in ("bash-completion/completions/tine", "vendor-completions/_tine", "tine.fish",
                     "sysusers.d/tine.conf", "tmpfiles.d/tine.conf", "logrotate.d/tine", "examples/tine.toml"):
            self.assertIn(file, files)
        self.assertEqual(warm_helpers(files), dict.fromkeys(WARM_HELPERS, "-rw-r--r--"))
        run("logrotate", "--debug", HERE / "debian/logrotate")


def settings(unit, key):
    """The words that a unit sets a key to."""
    lines = Path(unit).read_text().splitlines()
    return [word for line in lines if line.startswith(f"{key}=") for word in line.split("=", 1)[1].split()]


def calls_of(*names):
    """The system calls of a filter, given as those of calls and of groups, which can be nested."""
    found = set()
    for name in names:
        if name.startswith("@"):
            lines = run("systemd-analyze", "--no-pager", "syscall-filter", name).splitlines()[1:]
            found |= calls_of(*(line.strip() for line in lines if line.strip() and "#" not in line))
        else:
            found.add(name)
    return found


class Units(unittest.TestCase):
    def setUp(self):
        # With a program that is there.
        self.folder = tempfile.mkdtemp(prefix="tine-units-")
        for unit in HERE.glob("systemd/*.s*"):
            text = unit.read_text().replace("/usr/bin/tine", "/bin/true")
            Path(self.folder, unit.name).write_text(text)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def units(self):
        return sorted(str(path) for path in Path(self.folder).iterdir())

    def test_they_are_verified(self):
        names = [Path(unit).name for unit in self.units()]
        self.assertEqual(names, ["tine-socket@.service", "tine-socket@.socket", "tine.service", "tine@.service"])
        for unit in self.units():
            instance = unit.replace("@.", "@9999.")
            if instance != unit:
                os.symlink(unit, instance)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", instance],
                                  capture_output=True, text=True, timeout=60)
            # A warning is no failure for it.
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), unit)

    def test_their_exposure_is_bounded(self):
        for unit in self.units():
            if unit.endswith(".service"):
                run("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={MAX_EXPOSURE}",
                    unit)

    def test_they_permit_the_calls_that_the_server_makes(self):
        sources = "".join(path.read_text() for path in (ROOT / "crates/sys/src").rglob("*.rs"))
        made = set(re.findall(r"SYS_([a-z0-9_]+)", sources))
        self.assertIn("seccomp", made)
        # Of programs that are started warm; what is planted into them is made by them.
        of_warm = {"ptrace", "kcmp"}
        made -= of_warm
        # They come with a file of its own, for those who want such jails.
        of_full_jails = {"mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname", "umount2"}
        for unit in self.units():
            if unit.endswith(".service"):
                filter = settings(unit, "SystemCallFilter")
                self.assertEqual(made - calls_of(*filter), of_full_jails & made, unit)
                permitted = calls_of(*filter, *settings(HERE / "systemd/full-jail.conf", "SystemCallFilter"))
                self.assertEqual((made | of_full_jails) - permitted, set(), unit)
                permitted = calls_of(*filter, *settings(HERE / "systemd/warm.conf", "SystemCallFilter"))
                self.assertEqual(of_warm - permitted, set(), unit)

    def test_they_permit_log_files_where_logrotate_finds_them(self):
        rotated = (HERE / "debian/logrotate").read_text().split("/*.log")[0]
        for unit in self.units():
            if unit.endswith(".service"):
                writable = [f"/var/log/{name}" for name in settings(unit, "LogsDirectory")]
                self.assertIn(rotated, writable, unit)

    def test_users_and_directories_are_valid(self):
        with tempfile.TemporaryDirectory() as root:
            Path(root, "etc").mkdir()
            run("systemd-sysusers", f"--root={root}", HERE / "systemd/sysusers.conf")
            self.assertIn("tine:", Path(root, "etc/passwd").read_text())
            Path(root, "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
            Path(root, "etc/group").write_text("root:x:0:\n")
            run("systemd-tmpfiles", "--create", f"--root={root}", HERE / "systemd/tmpfiles.conf")
            self.assertTrue(Path(root, "run/tine").is_dir())


class Archive(unittest.TestCase):
    def test_it_serves_where_it_is_unpacked(self):
        build("archive")
        name = f"tine-{version()}-{os.uname().machine}-linux"
        listing = run("tar", "-tvf", PACKAGES / f"{name}.tar.gz")
        self.assertEqual(warm_helpers(listing), dict.fromkeys(WARM_HELPERS, "-rw-r--r--"))
        with tempfile.TemporaryDirectory() as folder:
            run("tar", "-C", folder, "-xf", PACKAGES / f"{name}.tar.gz")
            tine = Path(folder, name, "bin/tine")
            self.assertIn(version(), run(tine, "--version"))
            expect_licences(run("gzip", "-dc", Path(folder, name, "share/doc/tine/licences.gz")))
            port = free_port()
            with Process(tine, "serve", "--control", "none", f"127.0.0.1:{port}", stderr=subprocess.DEVNULL) as server:
                wait_until("it serves", lambda: echo(port))
                server.terminate()
                self.assertEqual(server.wait(timeout=30), 0)


    def test_that_for_another_processor_runs_in_an_emulator(self):
        build("archive", env={**os.environ, "MACHINE": "aarch64"})
        name = f"tine-{version()}-aarch64-linux"
        with tempfile.TemporaryDirectory() as folder:
            run("tar", "-C", folder, "-xf", PACKAGES / f"{name}.tar.gz")
            tine = ("qemu-aarch64-static", Path(folder, name, "bin/tine"))
            self.assertIn(version(), run(*tine, "--version"))
            self.assertIn('max-connections = 1024', run(*tine, "check", ROOT / "docs/tine.toml"))
            port = free_port()
            build("archive")
            run("tar", "-C", folder, "-xf", PACKAGES / f"tine-{version()}-{os.uname().machine}-linux.tar.gz")
            native = Path(folder, f"tine-{version()}-{os.uname().machine}-linux", "bin/tine")
            with Process(native, "serve", "--control", "none", f"127.0.0.1:{port}", stderr=subprocess.DEVNULL):
                wait_until("it serves", lambda: echo(port))
                said = run(*tine, "client", f"127.0.0.1:{port}", input="hello\n")
                self.assertEqual(said, "hello\n")
            # The emulator has a thread of its own beside the program's.
            done = subprocess.run([*tine, "serve", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 100, done.stderr)
            self.assertIn("threads", done.stderr)


class Install(unittest.TestCase):
    def test_cargo_installs_it(self):
        with tempfile.TemporaryDirectory() as folder:
            run("cargo", "install", "--quiet", "--debug", "--locked", "--path", ROOT / "crates/cli",
                "--target-dir", ROOT / "target", "--root", folder, cwd=ROOT)
            self.assertIn(version(), run(Path(folder, "bin/tine"), "--version"))


class Image(unittest.TestCase):
    def test_it_runs_without_a_daemon_with_any_user_and_a_read_only_root(self):
        build("image")
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder, "bundle")
            run("umoci", "unpack", "--image", f"{PACKAGES / 'tine-image'}:{version()}", bundle)
            files = sorted(str(path.relative_to(bundle / "rootfs")) for path in (bundle / "rootfs").rglob("*"))
            self.assertEqual(files, ["licences", "tine"], "a binary, its licences, and nothing else")
            expect_licences((bundle / "rootfs/licences").read_text())
            config = json.loads((bundle / "config.json").read_text())
            self.assertEqual(config["process"]["args"][:2], ["/tine", "serve"])
            self.assertEqual(config["process"]["user"]["uid"], 65532)
            config["process"].update(terminal=False, user={"uid": 54321, "gid": 54321})
            config["process"]["args"] += [f"127.0.0.1:{port}"]
            config["root"]["readonly"] = True
            # The network of the test.
            config["linux"]["namespaces"] = [
                namespace for namespace in config["linux"]["namespaces"] if namespace["type"] != "network"]
            config["linux"].pop("resources", None)
            (bundle / "config.json").write_text(json.dumps(config))
            crun = f"crun --root {folder}/state --cgroup-manager=disabled"
            name = f"tine-{os.getpid()}"
            # crun does not start where both versions of cgroups are mounted.
            script = f"mount -t cgroup2 none /sys/fs/cgroup; exec {crun} run --bundle {bundle} {name}"
            own = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
            with Process(*own, stderr=subprocess.DEVNULL) as container:
                wait_until("it serves", lambda: echo(port))
                state = json.loads(run(*crun.split(), "state", name))
                status = Path(f"/proc/{state['pid']}/status").read_text().splitlines()
                self.assertIn("Uid:\t54321\t54321\t54321\t54321", status)
                # Process 1 stays when it is replaced.
                os.kill(state["pid"], signal.SIGUSR2)
                children = Path(f"/proc/{state['pid']}/task/{state['pid']}/children")
                wait_until("a new process serves", lambda: len(children.read_text().split()) == 1)
                self.assertTrue(echo(port))
                os.kill(state["pid"], signal.SIGTERM)
                self.assertEqual(container.wait(timeout=30), 0)


if __name__ == "__main__":
    unittest.main()
