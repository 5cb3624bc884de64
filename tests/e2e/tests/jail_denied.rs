//! Full jails where a step of them is denied, as by the filter of a container or an old kernel:
//! nobody is served with less than was said. Each row is a test.

use std::path::Path;

use serde_json::Value;
use tine_e2e::environment::warnings;
use tine_e2e::filters::{run_under, under};
use tine_e2e::names::pid;
use tine_e2e::{Server, ServerCommand, procfs};

/// What comes of a jail.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Connections are served, in a jail without these layers, each of which a warning names.
    Without(&'static [&'static str]),
    /// The server does not start; the line that says so contains this.
    Refused(&'static str),
}

use Expected::{Refused, Without};

const FULL: Expected = Without(&[]);

/// What a full jail has and a light one has not.
const LIGHT: Expected = Without(&["namespaces", "root"]);

/// A test for each row: the calls, a jail that is required, one that is automatic.
macro_rules! rows {
    ($($name:ident: $calls:literal, $required:expr, $automatic:expr;)+) => {
        $(
            #[test]
            fn $name() {
                for error in ["EPERM", "ENOSYS"] {
                    let filter = format!("{error}:{}", $calls);
                    check(&filter, &["--jail"], $required);
                    check(&filter, &["--jail=auto", "--user", "nobody"], $automatic);
                }
            }
        )+
    };
}

rows! {
    attach_filter: "attach-filter", FULL, FULL;
    attach_filter_and_landlock: "attach-filter,landlock_restrict_self", Refused("landlock.scope"),
        Without(&["landlock.scope", "landlock.net", "client-socket"]);
    bounding_set: "bounding-set", Refused("drop of capabilities"), Without(&["namespaces", "root", "capabilities"]);
    capget: "capget", Refused("drop of capabilities"), Without(&["namespaces", "root", "capabilities"]);
    capset: "capset", Refused("capset"), Without(&["namespaces", "root", "capabilities"]);
    chdir: "chdir", Refused("namespaces"), LIGHT;
    clone3: "clone3", FULL, FULL;
    close_range: "close_range", FULL, FULL;
    dumpable: "dumpable", Refused("PR_SET_DUMPABLE"), LIGHT;
    getrandom: "getrandom", FULL, FULL;
    landlock_add_rule: "landlock_add_rule", FULL, FULL;
    landlock_create_ruleset: "landlock_create_ruleset", Refused("landlock.scope"),
        Without(&["landlock.scope", "landlock.net"]);
    landlock_restrict_self: "landlock_restrict_self", Refused("landlock.scope"),
        Without(&["landlock.scope", "landlock.net"]);
    memfd_create: "memfd_create", FULL, FULL;
    mount: "mount", Refused("private mounts"), LIGHT;
    mount_setattr: "mount_setattr", Refused("mount_setattr"), LIGHT;
    move_mount: "move_mount", Refused("move_mount"), LIGHT;
    namespaces_of_clone: "namespaces", Refused("fork into a room"), LIGHT;
    // The filter of the test has set the bit itself.
    no_new_privileges: "no-new-privileges", Refused("no_new_privs"),
        Without(&["namespaces", "root", "no-new-privileges", "seccomp"]);
    open_tree: "open_tree", Refused("open_tree"), LIGHT;
    pidfd_open: "pidfd_open", Refused("pidfd_open"), LIGHT;
    pidfd_send_signal: "pidfd_send_signal", FULL, FULL;
    pivot_root: "pivot_root", Refused("pivot_root"), LIGHT;
    process_name: "process-name", FULL, FULL;
    seccomp: "seccomp", Refused("seccomp"), Without(&["seccomp", "client-socket"]);
    // Without a change of user, there is no light jail for root either.
    setresgid: "setresgid", Refused("change of user"), Refused("cannot change to");
    setresuid: "setresuid", Refused("change of user"), Refused("cannot change to");
    sethostname: "sethostname", Refused("sethostname"), LIGHT;
    setns: "setns", Refused("setns"), LIGHT;
    statfs: "statfs", FULL, FULL;
    umount2: "umount2", Refused("umount of the old root"), LIGHT;
    unshare: "unshare", Refused("unshare of a user namespace"), LIGHT;
    // In a light jail, Landlock decides about files.
    rules_of_a_light_jail: "unshare,landlock_add_rule", Refused("unshare of a user namespace"),
        Without(&["namespaces", "root", "landlock.fs"]);
    landlock_of_a_light_jail: "unshare,landlock_restrict_self", Refused("unshare of a user namespace"),
        Without(&["namespaces", "root", "landlock.fs", "landlock.scope"]);
    nothing_of_a_jail: "unshare,landlock_restrict_self,seccomp,bounding-set",
        Refused("unshare of a user namespace"),
        Without(&["namespaces", "root", "capabilities", "seccomp", "landlock.fs", "landlock.scope"]);
}

/// Only in a full jail can root serve connections, as other users.
#[test]
fn an_automatic_jail_of_root_names_what_it_lacks() {
    let words = ["serve", "--control", "none", "127.0.0.1:0", "--jail=auto"];
    let (code, out, err) = run_under(&["EPERM:pivot_root"], &words);
    assert_eq!((code, out.as_str()), (100, ""), "{err}");
    assert!(err.contains("namespaces") && err.contains("pivot_root"), "{err}");
    assert!(err.contains("--user nobody"), "{err}");
}

/// Where the groups of the server stay, they would be those of the connections.
#[test]
fn groups_that_cannot_be_given_up_end_the_start() {
    for error in ["EPERM", "ENOSYS"] {
        let filter = format!("{error}:setgroups");
        let start = |groups: &str| {
            let words = ["setpriv", groups, "--"].map(Into::into).into_iter();
            ServerCommand::wrapped(words.chain(under(&[&filter])), ["--control", "none", "--jail"])
        };
        let (code, out, err) = tine_e2e::run(start("--groups=4").command());
        assert_eq!((code, out.as_str()), (111, ""), "{err}");
        assert!(err.contains("change of user"), "{err}");
        let mut command = start("--clear-groups");
        command.command().args(["--", "id", "-G"]);
        let groups = command.start().connect().read_text();
        // That of its slot alone. Another forker can have claimed the first slot for the client.
        let group = groups.trim_end().parse::<u32>();
        assert!(group.as_ref().is_ok_and(|group| (524_288..525_312).contains(group)), "{groups}");
    }
}

fn check(filter: &str, options: &[&str], expected: Expected) {
    let without = match expected {
        Refused(part) => return assert_refused(filter, options, part),
        Without(layers) => layers,
    };
    let start = |program: &[&str]| {
        let options = [&["--control", "none"], options].concat();
        let mut command = ServerCommand::wrapped(under(&[filter]), options);
        if !program.is_empty() {
            command.command().arg("--").args(program);
        }
        let server = command.start();
        server.log.wait_for("listen", 1);
        server
    };
    let server = start(&["sh", "-c", SCRIPT]);
    let layers = Layers::told_by(&server);
    assert_eq!(layers.missing(), without, "{filter} {options:?}");
    check_program(&server, &layers, filter);
    let server = start(&[]);
    assert_eq!(Layers::told_by(&server).missing(), without, "{filter} {options:?}");
    check_handler(&server, &layers, filter);
}

fn assert_refused(filter: &str, options: &[&str], part: &str) {
    let serve = ["serve", "--control", "none", "127.0.0.1:0"];
    let (code, out, err) = run_under(&[filter], &[&serve[..], options].concat());
    assert_eq!((code, out.as_str()), (111, ""), "{filter} {options:?}: {err}");
    let line = err.lines().last().unwrap_or_default();
    let (what, next) = line.split_once("; ").unwrap_or_default();
    assert!(what.contains(part), "{filter} {options:?}: no '{part}' in {err}");
    assert!(!next.is_empty(), "{filter} {options:?}: no next move in {err}");
}

/// The layers that a server has told in its log.
struct Layers(Vec<Value>);

impl Layers {
    /// Asserts that each that is missing has a warning, with its next move.
    fn told_by(server: &Server) -> Layers {
        let layers = Layers(server.log.of("jail"));
        let texts = warnings(server);
        for layer in layers.missing() {
            let start = format!("the jail does without {layer}: ");
            let text = texts.iter().find(|text| text.starts_with(&start));
            assert!(text.is_some_and(|text| text.contains("; ")), "{layer}: {texts:?}");
        }
        layers
    }

    fn is_on(&self, name: &str) -> bool {
        self.0.iter().any(|layer| layer["layer"] == name && layer["state"] == "on")
    }

    fn missing(&self) -> Vec<&str> {
        let missing = self.0.iter().filter(|layer| layer["state"] != "on");
        missing.filter_map(|layer| layer["layer"].as_str()).collect()
    }
}

/// Says what it can do, once it has the number of another process of its user.
const SCRIPT: &str = r#"
    echo ready; read -r other
    tr -d '\t ' < /proc/self/status
    for kind in user pid mnt net ipc uts cgroup; do echo "$kind:$(readlink /proc/self/ns/$kind)"; done
    { touch /tmp/.tine-test-$$ && rm /tmp/.tine-test-$$ && echo writes-tmp:yes
      touch /usr/.tine-test-$$ && echo writes-usr:yes
      ls -d /var/log && echo sees-machine:yes
      kill -0 "$other" && echo signals:yes
      unshare -U true && echo makes-namespace:yes; } 2> /dev/null
    echo "number:$$"
"#;

/// Checks what a program in the jail can do against what is said to be in force.
fn check_program(server: &Server, layers: &Layers, filter: &str) {
    let mut other = server.connect();
    other.read_line();
    let other_pid = pid(&server.log.wait_for("accept", 1)[0]);
    let mut client = server.connect();
    client.read_line();
    let told = client.send(format!("{other_pid}\n")).half_close().read_text();
    let value = |key: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    };
    check_status(&value, layers, filter);
    assert_eq!(value("writes-usr"), "", "{filter}: {told}");
    if layers.is_on("namespaces") {
        assert_eq!(value("number"), "2", "{filter}: {told}");
        assert_eq!(value("signals"), "", "{filter}: {told}");
    }
    if layers.is_on("root") {
        assert_eq!(value("sees-machine"), "", "{filter}: {told}");
        assert_eq!(value("writes-tmp"), "yes", "{filter}: {told}");
    } else {
        assert_eq!(value("sees-machine"), "yes", "the attempt succeeds otherwise: {told}");
    }
    if layers.is_on("seccomp") {
        assert_eq!(value("makes-namespace"), "", "{filter}: {told}");
    }
    if layers.is_on("landlock.fs") {
        assert_eq!(value("writes-tmp"), "", "{filter}: {told}");
    }
    if layers.is_on("landlock.scope") {
        assert_eq!(value("signals"), "", "{filter}: {told}");
    }
    if ["namespaces", "landlock.scope"].iter().all(|layer| !layers.is_on(layer)) {
        assert_eq!(value("signals"), "yes", "the attempt succeeds otherwise: {told}");
    }
}

/// Checks the process of a handler, as the kernel shows it outside.
fn check_handler(server: &Server, layers: &Layers, filter: &str) {
    let mut client = server.connect();
    client.echo("x");
    let process = pid(&server.log.wait_for("accept", 1)[0]);
    let value = |key: &str| match key {
        "user" | "pid" | "mnt" | "net" | "ipc" | "uts" | "cgroup" => namespace(&process.to_string(), key),
        key => procfs::status(process, key).replace(['\t', ' '], ""),
    };
    check_status(&value, layers, filter);
    client.finish();
}

fn namespace(process: &str, kind: &str) -> String {
    let link = std::fs::read_link(Path::new("/proc").join(process).join("ns").join(kind));
    link.expect("a namespace").display().to_string()
}

/// Checks what the kernel shows of a process, by a line of its status or a kind of namespaces.
fn check_status(value: &impl Fn(&str) -> String, layers: &Layers, filter: &str) {
    if layers.is_on("namespaces") {
        for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let own = value(kind);
            assert!(own.starts_with(kind) && own != namespace("self", kind), "{filter}: {kind}: {own}");
        }
    }
    if layers.is_on("no-new-privileges") {
        assert_eq!(value("NoNewPrivs"), "1", "{filter}");
    }
    // Whether they can be gained again or not.
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{filter}: {set}");
    }
    // A light jail is made by a process that may not change the set; there, nothing that is
    // executed gains privileges.
    if ["namespaces", "capabilities"].iter().all(|layer| layers.is_on(layer)) {
        assert_eq!(value("CapBnd"), "0000000000000000", "{filter}");
    }
    if layers.is_on("seccomp") {
        assert_eq!(value("Seccomp"), "2", "{filter}");
        // One is that of the test.
        let filters: u32 = value("Seccomp_filters").parse().expect("a number");
        assert!(filters > 1, "{filter}: {filters}");
    }
}
