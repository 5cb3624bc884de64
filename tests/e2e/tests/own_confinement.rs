//! The server's own processes are confined: what one of them can still do if it is taken over.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::Signal;
use tine_e2e::Folder;
use tine_e2e::server::built;

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It succeeds.
    Made,
    /// It is refused by this error.
    Refused(Errno),
    /// It ends the process.
    Killed,
}

use End::{Killed, Made, Refused};

impl End {
    fn of(status: ExitStatus) -> End {
        match (status.code(), status.signal()) {
            (Some(0), _) => Made,
            (Some(error), _) => Refused(Errno::from_raw_os_error(error)),
            (None, signal) => {
                assert_eq!(signal, Some(Signal::SYS.as_raw()), "{status:?}");
                Killed
            }
        }
    }
}

/// Attempts something in a process that is confined by these layers.
fn attempt(process: &str, layers: &str, attempt: &str) -> End {
    let folder = Folder::new(&format!("confined-{process}-{layers}-{attempt}").replace(' ', "-"));
    folder.write("old", "");
    let mut command = Command::new(built("confined"));
    command.args([process, layers]).arg(&folder.0).arg(attempt);
    End::of(command.status().expect("it is executed"))
}

/// The attempts that no process of the server with a filter may make.
const BY_NONE: [&str; 5] = ["socket", "execute", "fork", "signal", "code"];

/// Whatever this process attempts that is refused to all ends so. The control: without confinement,
/// it succeeds.
fn assert_confined(process: &str, expected: End) {
    for one in BY_NONE {
        assert_eq!(attempt(process, "none", one), Made, "{one}, not confined");
        assert_eq!(attempt(process, "all", one), expected, "{process}: {one}");
    }
}

/// What this process attempts with files ends so, with all layers, and by Landlock alone.
fn assert_files(process: &str, expected: [(&str, End, End); 4]) {
    for (one, with_all, without_filter) in expected {
        assert_eq!(attempt(process, "none", one), Made, "{one}, not confined");
        assert_eq!(attempt(process, "all", one), with_all, "{process}: {one}");
        let by_landlock = attempt(process, "all-but-the-filter", one);
        assert_eq!(by_landlock, without_filter, "{process}: {one}, by Landlock");
    }
}

/// A test for each process that opens no file.
macro_rules! without_files {
    ($($name:ident: $process:literal;)+) => {
        $(
            #[test]
            fn $name() {
                assert_confined($process, Killed);
                let denied = Refused(Errno::ACCESS);
                assert_files($process, ["open", "append", "read", "remove"].map(|one| (one, Killed, denied)));
            }
        )+
    };
}

without_files! {
    the_rejector: "rejector";
    the_delayer: "delayer";
    the_proxy_reader: "proxy reader";
    the_stderr_logger: "stderr logger";
    control_processes: "control process";
    the_observer: "observer";
}

#[test]
fn the_stderr_logger_uses_files_in_the_directory_of_crash_reports_only() {
    let process = "stderr logger with crash reports";
    assert_confined(process, Killed);
    let denied = Refused(Errno::ACCESS);
    assert_files(
        process,
        [("open", denied, denied), ("append", Made, Made), ("read", Made, Made), ("remove", Made, Made)],
    );
}

#[test]
fn the_log_writer_appends_to_files_in_the_directory_of_the_log_only() {
    assert_confined("log writer", Refused(Errno::PERM));
    let (denied, filtered) = (Refused(Errno::ACCESS), Refused(Errno::PERM));
    assert_files(
        "log writer",
        [
            ("open", denied, denied),
            ("append", Made, Made),
            ("read", denied, denied),
            ("remove", filtered, denied),
        ],
    );
}

#[test]
fn the_log_writer_of_a_daemon_makes_local_sockets_and_opens_no_file() {
    let process = "log writer of a daemon";
    assert_confined(process, Refused(Errno::PERM));
    assert_eq!(attempt(process, "all", "local socket"), Made);
    let (denied, filtered) = (Refused(Errno::ACCESS), Refused(Errno::PERM));
    assert_files(process, ["open", "append", "read", "remove"].map(|one| (one, filtered, denied)));
}

#[test]
fn the_connector_makes_internet_sockets_and_reads_files_only() {
    let process = "connector";
    for one in BY_NONE.into_iter().filter(|one| *one != "socket").chain(["local socket"]) {
        assert_eq!(attempt(process, "all", one), Killed, "{one}");
    }
    assert_eq!(attempt(process, "all", "socket"), Made);
    // What its user can read; `/proc` is its root directory.
    assert_files(
        process,
        [("open", Made, Made), ("append", Killed, Made), ("read", Made, Made), ("remove", Killed, Made)],
    );
}

#[test]
fn the_link_makes_internet_sockets_and_reads_the_files_of_the_resolver_only() {
    let refused = Refused(Errno::NOSYS);
    for one in BY_NONE.into_iter().filter(|one| *one != "socket").chain(["local socket"]) {
        assert_eq!(attempt("link", "all", one), refused, "{one}");
    }
    assert_eq!(attempt("link", "all", "socket"), Made);
    assert_eq!(attempt("link", "all", "thread"), Made);
    let denied = Refused(Errno::ACCESS);
    assert_files(
        "link",
        [
            ("open", denied, denied),
            ("append", refused, denied),
            ("read", Made, Made),
            ("remove", refused, denied),
        ],
    );
    // Whatever it connects to has one of the ports of the bus.
    for layers in ["all", "all-but-the-filter"] {
        assert_eq!(attempt("link", layers, "connect"), denied, "{layers}");
    }
    assert_eq!(attempt("link", "none", "connect"), Refused(Errno::CONNREFUSED));
}

#[test]
fn only_the_log_writer_makes_local_sockets() {
    for process in ["rejector", "stderr logger with crash reports", "observer"] {
        assert_eq!(attempt(process, "all", "local socket"), Killed, "{process}");
    }
    assert_eq!(attempt("log writer", "all", "local socket"), Refused(Errno::PERM));
}

#[test]
fn without_its_filter_a_process_signals_no_other() {
    // Landlock since Linux 6.12.
    for process in ["rejector", "log writer"] {
        assert_eq!(attempt(process, "all-but-the-filter", "signal"), Refused(Errno::PERM), "{process}");
        assert_eq!(attempt(process, "all-but-the-filter", "fork"), Made, "{process}");
    }
}
