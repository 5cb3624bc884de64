//! The tools of s6 and s6-networking (skarnet.org/software/s6-networking/).

pub(super) mod access;
pub(super) mod ipcserver;
mod rules;
pub(super) mod tcpserver;

use std::ffi::OsString;
use std::iter::Peekable;

use tine::Identity;

use super::ucspi::{self, Verbosity};
use super::{Failure, Plan, cdb, client, ident, listener};
use crate::exit;

/// The options that `s6-tcpserver` and `s6-ipcserver` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    /// `-q`, `-Q`, `-v`
    verbosity: Verbosity,
    /// `-1`
    announces: bool,
    /// `-d`, `-D`: bind at once again.
    reuses: bool,
    /// `-c`
    pub(crate) limit: usize,
    /// `-C`
    pub(crate) per_source: usize,
    /// `-b`
    pub(crate) backlog: u32,
    /// `-u`, `-g`, `-G`, and with `-U` the variables UID, GID and GIDLIST.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            verbosity: Verbosity::Errors,
            announces: false,
            reuses: true,
            limit: 40,
            per_source: 40,
            backlog: 4096,
            uid: None,
            gid: None,
            groups: None,
        }
    }
}

impl ServerOptions {
    /// Reads the options, and gives those of one tool alone to `other`.
    pub(crate) fn read(
        words: &mut Peekable<impl Iterator<Item = OsString>>,
        with_value: &[u8],
        variable: impl Fn(&str) -> Option<String>,
        mut other: impl FnMut(u8, Option<OsString>) -> Result<(), ()>,
    ) -> Result<ServerOptions, ()> {
        let mut options = ServerOptions::default();
        let with_value = [b"cCbugG", with_value].concat();
        ucspi::read(words, &with_value, |letter, value| {
            let number = || ucspi::number(value.as_ref());
            match letter {
                b'q' => options.verbosity = Verbosity::Quiet,
                b'Q' => options.verbosity = Verbosity::Errors,
                b'v' => options.verbosity = Verbosity::Verbose,
                b'1' => options.announces = true,
                b'd' => options.reuses = true,
                b'D' => options.reuses = false,
                b'c' => options.limit = number()?.max(1) as usize,
                b'C' => options.per_source = number()?.max(1) as usize,
                b'b' => options.backlog = number()?,
                b'u' => options.uid = Some(number()?).filter(|id| *id != 0),
                b'g' => options.gid = Some(number()?).filter(|id| *id != 0),
                b'G' => options.groups = Some(groups(value.as_ref().and_then(|list| list.to_str()))?),
                b'U' => options.take_ids(&variable)?,
                letter => other(letter, value)?,
            }
            Ok(())
        })?;
        options.per_source = options.per_source.min(options.limit);
        Ok(options)
    }

    /// `-U`
    fn take_ids(&mut self, variable: &impl Fn(&str) -> Option<String>) -> Result<(), ()> {
        let id = |name: &str| match variable(name) {
            Some(text) => text.parse::<u32>().map(Some).map_err(|_| ()),
            None => Ok(None),
        };
        self.uid = id("UID")?.filter(|id| *id != 0);
        self.gid = id("GID")?.filter(|id| *id != 0);
        self.groups = variable("GIDLIST").map(|list| groups(Some(&list))).transpose()?;
        Ok(())
    }

    /// The user and groups of programs.
    fn identity(&self, tool: &str) -> Result<Option<Identity>, Failure> {
        listener::identity(self.uid, self.gid, self.groups.clone()).map_err(|what| {
            fatal(tool, exit::SYSTEM, format!("unable to set {what}: Operation not permitted"))
        })
    }
}

/// `GID,GID,…`
fn groups(list: Option<&str>) -> Result<Vec<u32>, ()> {
    let list = list.ok_or(())?;
    let ids = list.split(',').filter(|id| !id.is_empty());
    ids.map(|id| id.parse().map_err(|_| ())).collect()
}

/// An error after which a tool ends.
fn fatal(tool: &str, code: u8, text: impl std::fmt::Display) -> Failure {
    Failure::new(code, format!("{tool}: fatal: {text}"))
}

/// A usage error of a tool.
fn usage(tool: &str, text: &str) -> Failure {
    Failure::new(exit::USAGE, format!("{tool}: usage: {tool} {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_options() {
        let read = |line: &str| {
            let mut words = line.split_whitespace().map(OsString::from).peekable();
            let variable = |name: &str| match name {
                "UID" => Some("7".to_owned()),
                "GID" => Some("8".to_owned()),
                "GIDLIST" => Some("8,9".to_owned()),
                _ => None,
            };
            ServerOptions::read(&mut words, b"", variable, |_, _| Err(()))
        };
        let base = ServerOptions::default;
        for (line, meant) in [
            ("", base()),
            (
                "-vD1",
                ServerOptions { verbosity: Verbosity::Verbose, reuses: false, announces: true, ..base() },
            ),
            ("-vqQd", base()),
            ("-c 5 -C9 -b 20", ServerOptions { limit: 5, per_source: 5, backlog: 20, ..base() }),
            ("-c 0 -C 0", ServerOptions { limit: 1, per_source: 1, ..base() }),
            ("-u 1 -g 0 -G 3,4", ServerOptions { uid: Some(1), groups: Some(vec![3, 4]), ..base() }),
            ("-U", ServerOptions { uid: Some(7), gid: Some(8), groups: Some(vec![8, 9]), ..base() }),
        ] {
            assert_eq!(read(line), Ok(meant), "{line}");
        }
        for line in ["-z", "-c", "-c x", "-G a"] {
            assert_eq!(read(line), Err(()), "{line}");
        }
    }
}
