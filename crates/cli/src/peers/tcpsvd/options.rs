//! The options of `tcpsvd`, as getopt(3) reads them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::ucspi;

/// The usage message, after the name.
pub(super) const USAGE: &str =
    " [-Ehpv] [-u user] [-c n] [-C n:msg] [-b n] [-l name] [-i dir|-x cdb] [-t sec] host port prog";

/// Why options are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageError {
    /// `-V`
    Version,
    Other,
}

/// Where instructions for clients are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// `-i`
    Folder(PathBuf),
    /// `-x`: as `ipsvd-cdb` compiles them.
    Database(PathBuf),
}

/// A limit on the connections of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceLimit {
    pub(super) most: usize,
    /// What a client beyond the limit gets.
    pub(super) message: Vec<u8>,
}

/// The options and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpsvdOptions {
    /// `-v`, `-vv`
    pub(super) verbosity: u8,
    /// `-c`
    pub(super) limit: usize,
    /// `-C`
    pub(super) per_source: Option<SourceLimit>,
    pub(super) instructions: Option<Instructions>,
    /// `-t`, in seconds; 0 for never.
    pub(super) file_timeout: u64,
    /// `-u`
    pub(super) user: Option<String>,
    /// `-l`
    pub(super) local_name: Option<OsString>,
    /// `-E` omits the variables of the connection.
    pub(super) sets_variables: bool,
    /// `-b`
    pub(super) backlog: u32,
    /// `-h`
    pub(super) asks_names: bool,
    /// `-p`
    pub(super) is_paranoid: bool,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) program: Vec<OsString>,
}

impl TcpsvdOptions {
    /// Parses the words after the command's name.
    ///
    /// # Errors
    /// A usage error.
    pub(super) fn parse(words: impl Iterator<Item = OsString>) -> Result<TcpsvdOptions, UsageError> {
        let mut options = TcpsvdOptions::default();
        let mut words = words.peekable();
        let mut asks_version = false;
        let read = ucspi::read(&mut words, b"cCixulbt", |letter, value| match (letter, value) {
            (b'V', _) => {
                asks_version = true;
                Err(())
            }
            (letter, Some(value)) => options.set(letter, value),
            (letter, None) => options.flag(letter),
        });
        if asks_version {
            return Err(UsageError::Version);
        }
        let mut parsed = || {
            read?;
            (options.host, options.port) = (ucspi::text(&mut words)?, ucspi::text(&mut words)?);
            options.program = words.by_ref().collect();
            if options.program.is_empty() { Err(()) } else { Ok(()) }
        };
        parsed().map_err(|()| UsageError::Other)?;
        if let Some(limit) = &mut options.per_source {
            limit.most = limit.most.min(options.limit);
        }
        Ok(options)
    }

    fn flag(&mut self, letter: u8) -> Result<(), ()> {
        match letter {
            b'v' => self.verbosity = self.verbosity.saturating_add(1),
            b'E' => self.sets_variables = false,
            b'h' => self.asks_names = true,
            b'p' => (self.asks_names, self.is_paranoid) = (true, true),
            _ => return Err(()),
        }
        Ok(())
    }

    fn set(&mut self, letter: u8, value: OsString) -> Result<(), ()> {
        match letter {
            b'c' => self.limit = positive(value.as_bytes())?,
            b'C' => self.per_source = Some(source_limit(value.as_bytes())?),
            b'i' | b'x' if self.instructions.is_some() => return Err(()),
            b'i' => self.instructions = Some(Instructions::Folder(value.into())),
            b'x' => self.instructions = Some(Instructions::Database(value.into())),
            b'u' => self.user = Some(value.into_string().map_err(|_| ())?),
            b'l' => self.local_name = Some(OsString::from_vec(value.into_vec())),
            b'b' => self.backlog = ucspi::number(Some(&value))?.max(1),
            b't' => self.file_timeout = ucspi::number(Some(&value))?.into(),
            _ => return Err(()),
        }
        Ok(())
    }
}

impl Default for TcpsvdOptions {
    fn default() -> TcpsvdOptions {
        TcpsvdOptions {
            verbosity: 0,
            limit: 30,
            per_source: None,
            instructions: None,
            file_timeout: 0,
            user: None,
            local_name: None,
            sets_variables: true,
            backlog: 20,
            asks_names: false,
            is_paranoid: false,
            host: String::new(),
            port: String::new(),
            program: Vec::new(),
        }
    }
}

fn positive(text: &[u8]) -> Result<usize, ()> {
    match std::str::from_utf8(text).map_err(|_| ())?.parse::<u32>() {
        Ok(number @ 1..) => Ok(number as usize),
        _ => Err(()),
    }
}

/// `N` or `N:MESSAGE`, with the escapes of ipsvd-instruct(5): `\\\\`, `\\n`, `\\r`.
pub(super) fn source_limit(text: &[u8]) -> Result<SourceLimit, ()> {
    let (number, message) = match text.iter().position(|byte| *byte == b':') {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, &b""[..]),
    };
    Ok(SourceLimit { most: positive(number)?, message: unescaped(message) })
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'\\') => out.push(b'\\'),
            Some(other) => out.extend_from_slice(&[b'\\', other]),
            None => out.push(b'\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<TcpsvdOptions, UsageError> {
        TcpsvdOptions::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_of_the_documented_examples() {
        let base = |host: &str, port: &str, program: &[&str]| TcpsvdOptions {
            host: host.into(),
            port: port.into(),
            program: program.iter().map(OsString::from).collect(),
            ..TcpsvdOptions::default()
        };
        let limit = |most: usize, message: &[u8]| Some(SourceLimit { most, message: message.into() });
        for (line, meant) in [
            (
                "-l0 0 113 identd",
                TcpsvdOptions { local_name: Some("0".into()), ..base("0", "113", &["identd"]) },
            ),
            (
                "-vp -uqmaild -c20 -x./peers.cdb 192.168.2.1 25 smtpfront-qmail",
                TcpsvdOptions {
                    verbosity: 1,
                    asks_names: true,
                    is_paranoid: true,
                    user: Some("qmaild".into()),
                    limit: 20,
                    instructions: Some(Instructions::Database("./peers.cdb".into())),
                    ..base("192.168.2.1", "25", &["smtpfront-qmail"])
                },
            ),
            (
                "-vvp -c40 -C10 -l0 -i./peers 10.0.0.14 993 bincimap-up --ssl -- x",
                TcpsvdOptions {
                    verbosity: 2,
                    asks_names: true,
                    is_paranoid: true,
                    limit: 40,
                    per_source: limit(10, b""),
                    local_name: Some("0".into()),
                    instructions: Some(Instructions::Folder("./peers".into())),
                    ..base("10.0.0.14", "993", &["bincimap-up", "--ssl", "--", "x"])
                },
            ),
            (
                "-h -C10:421_limit\\r\\n\\\\\\x 0 25 x",
                TcpsvdOptions {
                    asks_names: true,
                    per_source: limit(10, b"421_limit\r\n\\\\x"),
                    ..base("0", "25", &["x"])
                },
            ),
            // As busybox' start scripts have it.
            (
                "-c 5 -C 9 -b 7 -E -t 60 -u root:1 -- :: ftp ftpd -w",
                TcpsvdOptions {
                    limit: 5,
                    per_source: limit(5, b""),
                    backlog: 7,
                    sets_variables: false,
                    file_timeout: 60,
                    user: Some("root:1".into()),
                    ..base("::", "ftp", &["ftpd", "-w"])
                },
            ),
        ] {
            assert_eq!(parse(line), Ok(meant), "{line}");
        }
        for line in
            ["", "0", "0 0", "-z 0 0 p", "-c 0 0 0 p", "-C 0 0 0 p", "-C x:y 0 0 p", "-i a -x b 0 0 p"]
        {
            assert_eq!(parse(line), Err(UsageError::Other), "{line}");
        }
        assert_eq!(parse("-vV"), Err(UsageError::Version));
    }
}
