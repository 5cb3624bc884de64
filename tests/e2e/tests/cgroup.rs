//! With `--cgroup`, nobody whom a program started hides: not in a session of its own, with no parent and
//! nothing of its environment.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::names::{CGROUP_CLEANER, outcome};
use tine_e2e::{Folder, Server, ServerCommand, kill, procfs, run, tine, wait_until};

/// What leaves a process behind that nobody can tell it by: a daemon as in the books, without environment.
const HIDE: &str = "(env -i /usr/bin/setsid -f sleep 1009 >/dev/null 2>&1 </dev/null)";

/// A directory of cgroups that a test may use, as it would be delegated to a server.
struct Delegated {
    path: PathBuf,
    mounted: Option<Folder>,
}

impl Delegated {
    fn new(name: &str) -> Delegated {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("there are mounts");
        let there = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
        });
        // What exists may be read-only, as in a container.
        let writable = there.filter(|mount| fs::create_dir(mount.join("tine-probe")).is_ok());
        let (mount, mounted) = match writable {
            Some(mount) => (mount, None),
            None => {
                let folder = Folder::new(&format!("cgroup-{name}"));
                let done = Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&folder.0).status();
                assert!(done.is_ok_and(|done| done.success()), "no cgroup v2 hierarchy can be mounted");
                (folder.0.clone(), Some(folder))
            }
        };
        let _ = fs::remove_dir(mount.join("tine-probe"));
        let path = mount.join(format!("tine-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup");
        Delegated { path, mounted }
    }

    fn shell(&self, options: &[&str], script: &str) -> Server {
        self.program(options, &["sh", "-c", script])
    }

    fn program(&self, options: &[&str], program: &[&str]) -> Server {
        let path = self.path.to_str().expect("in ASCII");
        Server::program(&[options, &["--cgroup", path]].concat(), program)
    }

    /// Everybody in it.
    fn members(&self) -> BTreeSet<i32> {
        members(&self.path)
    }

    fn named(&self, name: &str) -> usize {
        self.members().into_iter().filter_map(procfs::process).filter(|one| one.name == name).count()
    }
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn members(of: &Path) -> BTreeSet<i32> {
    let own = fs::read_to_string(of.join("cgroup.procs")).unwrap_or_default();
    let inside = folders(of);
    own.lines().filter_map(|pid| pid.parse().ok()).chain(inside.iter().flat_map(|one| members(one))).collect()
}

fn remove(path: &Path) {
    folders(path).iter().for_each(|inside| remove(inside));
    let _ = fs::remove_dir(path);
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        wait_until("they have ended", || self.members().is_empty().then_some(()));
        remove(&self.path);
        if let Some(folder) = &self.mounted {
            let _ = Command::new("umount").arg(&folder.0).status();
        }
    }
}

#[test]
fn a_detached_daemon_ends_when_its_client_disconnects() {
    let cgroups = Delegated::new("gone");
    let server = cgroups.shell(&[], &format!("{HIDE}; read -r what && exec tail -f /dev/null; exit 0"));
    let mut other = server.connect();
    let mut client = server.connect();
    client.send("stay\n");
    wait_until("both hide", || (cgroups.named("sleep") == 2).then_some(()));
    client.reset();
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "client gone");
    assert_eq!(cgroups.named("sleep"), 1, "the other's lives");
    other.half_close();
    assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "exit 0");
    // Which is kill-mode `process`: it goes on until the server stops.
    assert_eq!(cgroups.named("sleep"), 1);
    stop(server);
    assert_eq!((cgroups.members(), folders(&cgroups.path)), (BTreeSet::new(), Vec::new()));
}

#[test]
fn with_kill_mode_all_a_detached_daemon_ends_with_its_program() {
    let cgroups = Delegated::new("all");
    for mode in [&["--spares", "2"][..], &["--pty"], &[]] {
        let server = cgroups.shell(&[mode, &["--kill-mode", "all"]].concat(), &format!("{HIDE}; echo done"));
        for number in 1..=3 {
            assert_eq!(server.connect().read_to_end(), b"done\n");
            assert_eq!(outcome(&server.log.wait_for("end", number)[number - 1]), "exit 0");
            assert_eq!(cgroups.named("sleep"), 0, "{mode:?}");
        }
        stop(server);
    }
}

#[test]
fn a_new_connection_never_shares_a_cgroup_with_a_surviving_daemon() {
    let cgroups = Delegated::new("place");
    // The first client says `hide`; the second takes its place, and resets.
    let script = format!(
        "read -r what; [ \"$what\" = hide ] && {{ {HIDE}; exit; }}; echo stays; exec tail -f /dev/null"
    );
    let server = cgroups.shell(&["--max-connections", "1", "--forkers", "1"], &script);
    server.connect().send("hide\n").read_to_end();
    server.log.wait_for("end", 1);
    let mut second = server.connect();
    second.send("x\n").expect("stays\n");
    wait_until("the first one's has hidden", || (cgroups.named("sleep") == 1).then_some(()));
    second.reset();
    assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "client gone");
    assert_eq!(cgroups.named("sleep"), 1, "the first one's lives on");
    // Once it has ended its cgroup goes, too.
    let hidden = cgroups.members().into_iter().next().expect("it lives");
    let place = || folders(&folders(&cgroups.path)[0]);
    assert_eq!(place().len(), 2);
    kill(hidden, Signal::KILL);
    wait_until("its cgroup is removed", || (place().len() == 1).then_some(()));
    stop(server);
}

#[test]
fn killing_the_supervisor_kills_every_process_in_its_cgroups() {
    let cgroups = Delegated::new("killed");
    let server = cgroups.shell(&[], &format!("{HIDE}; cat"));
    let _client = server.connect();
    wait_until("it hides", || (cgroups.named("sleep") == 1).then_some(()));
    kill(server.pid(), Signal::KILL);
    wait_until("all is gone", || folders(&cgroups.path).is_empty().then_some(()));
    assert_eq!(cgroups.members(), BTreeSet::new());
}

#[test]
fn the_cgroup_cleaner_is_restarted_and_the_next_server_removes_leftover_cgroups() {
    let cgroups = Delegated::new("warden");
    let server = cgroups.shell(&[], &format!("{HIDE}; exec cat"));
    let _client = server.connect();
    wait_until("it hides", || (cgroups.named("sleep") == 1).then_some(()));
    let warden = || server.named(CGROUP_CLEANER).first().map(|one| one.pid);
    let first = wait_until("there is a warden", warden);
    kill(first, Signal::KILL);
    let second = wait_until("there is another", || warden().filter(|pid| *pid != first));
    // Both at once: nobody is left to do it.
    kill(second, Signal::STOP);
    kill(server.pid(), Signal::KILL);
    kill(second, Signal::KILL);
    wait_until("the server is gone", || server.processes().iter().all(|one| one.is_zombie()).then_some(()));
    assert_eq!(cgroups.named("sleep"), 1);
    let next = cgroups.program(&[], &["cat"]);
    assert_eq!(cgroups.named("sleep"), 0);
    assert_eq!(folders(&cgroups.path).len(), 1);
    stop(next);
}

#[test]
fn a_program_of_another_user_cannot_leave_its_cgroup() {
    let cgroups = Delegated::new("user");
    let root = cgroups.path.join("cgroup.procs");
    for mode in [&[][..], &["--spares", "1"], &["--pty"]] {
        let script =
            format!("id -u; echo 0 2>/dev/null >{} || echo stays; cat /proc/self/cgroup", root.display());
        let server = cgroups.shell(&[mode, &["--user", "nobody"]].concat(), &script);
        let text = String::from_utf8(server.connect().read_to_end()).expect("text");
        let (_, nobody, _) = run(Command::new("id").args(["-u", "nobody"]));
        let text = text.replace('\r', "");
        assert!(text.starts_with(&format!("{}stays\n", nobody)), "{mode:?}: {text}");
        assert!(text.contains(&format!("/tine.{}/slot-", server.pid())), "{mode:?}: {text}");
        stop(server);
    }
}

#[test]
fn an_invalid_cgroup_directory_keeps_the_server_from_starting() {
    for (path, why) in [("/tmp", "no directory of cgroups"), ("/no/such", "no such file")] {
        let output = Command::new(tine())
            .args(["serve", "--cgroup", path, "127.0.0.1:0", "--", "cat"])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(100), "{text}");
        assert!(text.contains(why) && text.contains("Delegate=yes"), "{text}");
    }
}

#[test]
fn a_connection_whose_cgroup_cannot_be_entered_ends_with_an_error_in_the_log() {
    let cgroups = Delegated::new("full");
    let server = cgroups.program(&[], &["cat"]);
    fs::write(cgroups.path.join("cgroup.max.descendants"), "1").expect("set");
    assert_eq!(server.connect().read_to_end(), b"");
    let end = server.log.wait_for("end", 1).remove(0);
    let how = outcome(&end);
    assert!(how.contains("cannot execute") && how.contains("its cgroup"), "{how}");
    fs::write(cgroups.path.join("cgroup.max.descendants"), "max").expect("set");
    let mut client = server.connect();
    client.echo("again\n");
    drop(client);
    stop(server);
}

#[test]
fn a_restarted_service_kills_what_is_left_in_its_cgroups() {
    let cgroups = Delegated::new("many");
    let folder = Folder::new("cgroup-many");
    let text = format!(
        "[services.hider]\nlisten = '127.0.0.1:0'\nprogram = ['sh', '-c', '''{HIDE}; echo here; cat''']\ncgroup = '{}'\nkill-mode = 'all'\n",
        cgroups.path.display()
    );
    let file = folder.write("tine.toml", &text);
    let config = file.to_str().expect("in ASCII");
    let server =
        ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", config]).start();
    let mut client = server.connect();
    client.expect("here\n");
    wait_until("it hides", || (cgroups.named("sleep") == 1).then_some(()));
    let supervisor = || procfs::children(server.pid()).first().map(|child| child.pid);
    let first = supervisor().expect("there is one");
    kill(first, Signal::KILL);
    wait_until("there is another", || supervisor().filter(|pid| *pid != first));
    let mut client = server.connect();
    client.expect("here\n");
    wait_until("the second hides", || (cgroups.named("sleep") == 1).then_some(()));
    assert_eq!(folders(&cgroups.path).len(), 1, "the first one's are gone");
    client.half_close();
    assert_eq!(client.read_to_end(), b"");
    wait_until("nobody hides", || (cgroups.named("sleep") == 0).then_some(()));
    stop(server);
    assert_eq!(folders(&cgroups.path).len(), 0);
}
