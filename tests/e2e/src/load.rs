//! Runs `tine load`, and servers that misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::{network, run, tine};

/// The result of a load.
#[derive(Debug)]
pub struct Loaded {
    /// The exit code.
    pub code: i32,
    /// The report, from JSON.
    pub report: Value,
    /// The standard error.
    pub err: String,
}

/// Returns the command `tine load`.
#[must_use]
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(tine());
    command.arg("load").args(words);
    command
}

/// Runs `tine load` to its end, and reads its report.
///
/// # Panics
/// If it prints no report.
#[must_use]
pub fn load(words: &[&str]) -> Loaded {
    let (code, out, err) = run(command(words).args(["--json", "-"]));
    let report = serde_json::from_str(&out).unwrap_or_else(|why| panic!("no report ({why}): {out}{err}"));
    Loaded { code, report, err }
}

impl Loaded {
    /// Returns the number of connections that ended in a state.
    #[must_use]
    pub fn state(&self, name: &str) -> u64 {
        self.report["summary"]["states"][name].as_u64().unwrap_or(0)
    }

    /// Returns the number of connections that ended in any state.
    #[must_use]
    pub fn ended(&self) -> u64 {
        let states = self.report["summary"]["states"].as_object().expect("states");
        states.values().filter_map(Value::as_u64).sum()
    }

    /// Returns a number of the report, by its JSON pointer.
    ///
    /// # Panics
    /// If there is no number.
    #[must_use]
    pub fn number(&self, path: &str) -> f64 {
        let found = self.report.pointer(path).and_then(Value::as_f64);
        found.unwrap_or_else(|| panic!("no number at {path} in {}", self.report))
    }

    /// Checks that there were no errors, and that the ends of connections add up.
    ///
    /// # Panics
    /// If not, and if the load was in the network of other tests: their overflowing queues would
    /// make it invalid ([`network::own`]).
    pub fn expect_sound(&self) {
        assert!(network::is_own(), "the counters of the network are those of this test alone");
        assert_eq!(self.code, 0, "{} {}", self.err, self.report["validity"]);
        assert_eq!(self.number("/summary/errors"), 0.0, "{}", self.report["summary"]);
        self.expect_sum();
    }

    /// Checks that the ends of connections and exchanges add up to those planned.
    ///
    /// # Panics
    /// If not.
    pub fn expect_sum(&self) {
        assert_eq!(self.ended() as f64, self.number("/summary/connections"), "{}", self.report["summary"]);
        let exchanges = self.report["findings"]["exchanges"].as_object().expect("exchanges");
        let sum: u64 = exchanges.values().filter_map(Value::as_u64).sum();
        assert_eq!(sum, 2 * exchanges["planned"].as_u64().expect("a number"), "{exchanges:?}");
    }

    /// Checks that so many exchanges were planned, and nine of ten of them done: how many are in
    /// flight when the time is over depends on the machine.
    ///
    /// # Panics
    /// If not.
    pub fn expect_done(&self, planned: u64) {
        let exchanges = &self.report["findings"]["exchanges"];
        let done = exchanges["done"].as_u64().expect("a number");
        assert!(exchanges["planned"] == planned && 10 * done >= 9 * planned, "{planned}: {exchanges}");
    }
}

/// Starts a server in threads of this process, one for each connection. Returns its address. It
/// runs to the end of the test.
///
/// # Panics
/// If it cannot listen.
pub fn server(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    serve_on(listener, serve);
    address
}

/// Serves the connections of a listener in threads of this process, to the end of the test.
pub fn serve_on(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + Copy + 'static,
) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Errors of connections are expected in many tests.
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
}

/// Echoes bytes after `change`, which gets them with their offset in the stream.
///
/// # Errors
/// Those of the stream.
pub fn echo_through(mut stream: TcpStream, change: impl Fn(u64, &mut Vec<u8>)) -> std::io::Result<()> {
    let mut offset = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut bytes = buffer[..length].to_vec();
        change(offset, &mut bytes);
        stream.write_all(&bytes)?;
        offset += length as u64;
    }
}
