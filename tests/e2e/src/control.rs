//! The commands about a running server.

use std::process::Command;

use serde_json::Value;

use crate::{Folder, Server, ServerCommand, run, tine};

/// A server with a control socket of its own, and its files.
pub struct Controlled {
    /// Its files; the control socket is `c.sock`.
    pub folder: Folder,
    /// The server.
    pub server: Server,
}

impl Controlled {
    /// Starts `tine serve` with these options, and a program if there is one.
    #[must_use]
    pub fn serve(name: &str, options: &[&str], program: &[&str]) -> Controlled {
        let folder = Folder::new(name);
        let (socket, state) = (folder.path("c.sock"), folder.path("state"));
        let mut words = vec!["--control", &socket, "--state-directory", &state];
        words.extend(options);
        let mut command = ServerCommand::serve(words);
        if !program.is_empty() {
            command.command().arg("--").args(program);
        }
        let server = command.start();
        Controlled { folder, server }
    }

    /// Runs a command about the server. Returns its exit code, standard output and standard error.
    pub fn tine(&self, words: &[&str]) -> (i32, String, String) {
        run(&mut self.command(words))
    }

    /// A command about the server.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(tine());
        command.args(words).args(["--control", &self.folder.path("c.sock")]);
        command
    }

    /// Runs a command that succeeds, and returns its standard output.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn done(&self, words: &[&str]) -> String {
        let (code, out, err) = self.tine(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out
    }

    /// Runs a command that prints an array of JSON.
    ///
    /// # Panics
    /// If it does not succeed, or prints something else.
    #[must_use]
    pub fn json(&self, words: &[&str]) -> Vec<Value> {
        let out = self.done(&[words, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{words:?}: {why}: {out}"))
    }

    /// The status of the only service.
    #[must_use]
    pub fn status(&self) -> Value {
        self.json(&["status"]).remove(0)
    }
}
