//! The options of `tcpserver`, as getopt(3) reads them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::ucspi::{self, Verbosity};

/// The usage message.
pub(super) const USAGE: &str = "tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ] \
[ -b backlog ] [ -l localname ] [ -t timeout ] host port program";

/// The options and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpserverOptions {
    pub verbosity: Verbosity,
    /// `-c`
    pub limit: usize,
    /// `-b`
    pub backlog: u32,
    /// `-x`: rules as `tcprules` compiles them.
    pub rules: Option<OsString>,
    /// `-X`: without the file, every client is allowed.
    pub rules_may_lack: bool,
    /// `-B`
    pub banner: Vec<u8>,
    /// `-u`, `-g`, and with `-U` the variables UID and GID. 0 stands for no change, as in
    /// tcpserver.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// `-1`
    pub prints_port: bool,
    /// `-l`
    pub local_name: Option<OsString>,
    /// `-h`, `-H`
    pub asks_names: bool,
    /// `-p`, `-P`
    pub is_paranoid: bool,
    /// `-r`, `-R`
    pub asks_ident: bool,
    /// `-t`, in seconds
    pub timeout: u64,
    /// `-d`, `-D`: whether written data is collected for a moment.
    pub delays: bool,
    pub host: String,
    pub port: String,
    pub program: Vec<OsString>,
}

impl TcpserverOptions {
    /// Parses the words after the command's name, with the environment for `-U`.
    ///
    /// # Errors
    /// A usage error.
    pub(crate) fn parse(
        words: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<TcpserverOptions, ()> {
        let mut options = TcpserverOptions::default();
        let mut words = words.peekable();
        ucspi::read(&mut words, b"cbxBuglt", |letter, value| match value {
            Some(value) => options.set(letter, value),
            None => options.flag(letter, &variable),
        })?;
        (options.host, options.port) = (ucspi::text(&mut words)?, ucspi::text(&mut words)?);
        options.program = words.collect();
        if options.program.is_empty() { Err(()) } else { Ok(options) }
    }

    fn flag(&mut self, letter: u8, variable: &impl Fn(&str) -> Option<String>) -> Result<(), ()> {
        match letter {
            b'v' => self.verbosity = Verbosity::Verbose,
            b'Q' => self.verbosity = Verbosity::Errors,
            b'q' => self.verbosity = Verbosity::Quiet,
            b'1' => self.prints_port = true,
            b'X' => self.rules_may_lack = true,
            b'h' => self.asks_names = true,
            b'H' => self.asks_names = false,
            b'p' => self.is_paranoid = true,
            b'P' => self.is_paranoid = false,
            b'r' => self.asks_ident = true,
            b'R' => self.asks_ident = false,
            b'd' => self.delays = true,
            b'D' => self.delays = false,
            // Linux ignores the source routes of clients by default (ip(7), accept_source_route).
            b'o' | b'O' => {}
            b'U' => {
                let id = |name: &str| variable(name).and_then(|id| id.parse().ok());
                self.uid = id("UID").filter(|id| *id != 0).or(self.uid);
                self.gid = id("GID").filter(|id| *id != 0).or(self.gid);
            }
            _ => return Err(()),
        }
        Ok(())
    }

    fn set(&mut self, letter: u8, value: OsString) -> Result<(), ()> {
        let number = || ucspi::number(Some(&value));
        match letter {
            b'c' => self.limit = number()?.clamp(1, 4_194_304) as usize,
            b'b' => self.backlog = number()?.max(1),
            b't' => self.timeout = number()?.into(),
            b'u' => self.uid = Some(number()?).filter(|id| *id != 0),
            b'g' => self.gid = Some(number()?).filter(|id| *id != 0),
            b'x' => self.rules = Some(value),
            b'B' => self.banner = value.into_vec(),
            b'l' => self.local_name = Some(value),
            _ => return Err(()),
        }
        Ok(())
    }
}

impl Default for TcpserverOptions {
    fn default() -> TcpserverOptions {
        TcpserverOptions {
            verbosity: Verbosity::Errors,
            limit: 40,
            backlog: 20,
            rules: None,
            rules_may_lack: false,
            banner: Vec::new(),
            uid: None,
            gid: None,
            prints_port: false,
            local_name: None,
            asks_names: true,
            is_paranoid: false,
            asks_ident: true,
            timeout: 26,
            delays: true,
            host: String::new(),
            port: String::new(),
            program: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<TcpserverOptions, ()> {
        let variable = |name: &str| match name {
            "UID" => Some("7".to_owned()),
            "GID" => Some("8".to_owned()),
            _ => None,
        };
        TcpserverOptions::parse(line.split_whitespace().map(OsString::from), variable)
    }

    #[test]
    fn options_of_known_scripts() {
        let program = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let base = |host: &str, port: &str, words: &[&str]| TcpserverOptions {
            host: host.into(),
            port: port.into(),
            program: program(words),
            ..TcpserverOptions::default()
        };
        let idiom = TcpserverOptions {
            asks_ident: false,
            asks_names: false,
            local_name: Some("0".into()),
            ..base("0", "25", &["qmail-smtpd"])
        };
        for (line, meant) in [
            ("0 25 cat", base("0", "25", &["cat"])),
            ("-RHl0 0 25 qmail-smtpd", idiom.clone()),
            ("-R -H -l 0 0 25 qmail-smtpd", idiom.clone()),
            ("-RH -l0 -- 0 25 qmail-smtpd", idiom.clone()),
            ("-hHrRl0 0 25 qmail-smtpd", idiom),
            (
                "-vc100 -b 50 -x rules.cdb -X 0 smtp sh -c x",
                TcpserverOptions {
                    verbosity: Verbosity::Verbose,
                    limit: 100,
                    backlog: 50,
                    rules: Some("rules.cdb".into()),
                    rules_may_lack: true,
                    ..base("0", "smtp", &["sh", "-c", "x"])
                },
            ),
            ("-U 0 1 p -v", TcpserverOptions { uid: Some(7), gid: Some(8), ..base("0", "1", &["p", "-v"]) }),
            ("-Uu9 -g 0 0 1 p", TcpserverOptions { uid: Some(9), ..base("0", "1", &["p"]) }),
            (
                "-qBhello -oOdD -pt5 -1 localhost 1 p",
                TcpserverOptions {
                    verbosity: Verbosity::Quiet,
                    banner: b"hello".to_vec(),
                    delays: false,
                    is_paranoid: true,
                    timeout: 5,
                    prints_port: true,
                    ..base("localhost", "1", &["p"])
                },
            ),
        ] {
            assert_eq!(parse(line), Ok(meant), "{line}");
        }
        for line in ["", "0", "0 0", "-z 0 0 p", "-c", "-c x 0 0 p", "-u nobody 0 0 p", "-v"] {
            assert_eq!(parse(line), Err(()), "{line}");
        }
    }
}
