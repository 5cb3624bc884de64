//! The name to which a client of a Unix socket has bound its own end, for `REMOTE_ADDR`.
//!
//! Most clients bind none. The client chooses it, so nothing in it may be mistaken for anything
//! else: an IP address, the end of a variable, a line.

use std::os::fd::AsFd;

use rustix::net::getpeername;
use tine_sys::socket::{UnixName, unix_name};

/// The name of the client at the other end of a socket: a path that starts with `/`, or an abstract
/// name (unix(7)) after `@`, as systemd writes them (`REMOTE_ADDR`, systemd.exec(5)). Control
/// characters and backslashes are octal numbers (`\012`). `None` for a client without a name, and
/// for a relative path: only the client knows the directory, and it could read as an IP address.
pub(crate) fn of_client(socket: impl AsFd) -> Option<Vec<u8>> {
    match name(socket)? {
        UnixName::Path(path) => path.starts_with(b"/").then(|| escaped(&path)),
        UnixName::Abstract(name) => Some([b"@", &escaped(&name)[..]].concat()),
    }
}

/// The path to which the client at the other end of a socket has bound its own; `None` if to none.
pub fn path_of_client(socket: impl AsFd) -> Option<Vec<u8>> {
    match name(socket)? {
        UnixName::Path(path) => Some(path),
        UnixName::Abstract(_) => None,
    }
}

fn name(socket: impl AsFd) -> Option<UnixName> {
    unix_name(&getpeername(socket).ok()??)
}

fn escaped(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        0..0x20 | 0x7f | b'\\' => format!("\\{byte:03o}").into_bytes(),
        _ => vec![*byte],
    };
    name.iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};

    use super::*;

    /// What a server says of a client that binds this name before it connects.
    fn name_of_client(name: Option<SocketAddrUnix>) -> Option<Vec<u8>> {
        let stream = || socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let (listener, client) = (stream(), stream());
        // The kernel chooses a free abstract name.
        bind(&listener, &SocketAddrUnix::new_unnamed()).expect("a name");
        listen(&listener, 1).expect("a listener");
        let address = rustix::net::getsockname(&listener).expect("bound");
        name.iter().for_each(|name| bind(&client, name).expect("a name"));
        connect(&client, &address).expect("a listener");
        let server = rustix::net::accept(&listener).expect("a client");
        // The name is known also once the client has gone.
        drop(client);
        of_client(&server)
    }

    #[test]
    fn absolute_paths_and_abstract_names_only() {
        let directory = std::env::temp_dir().join(format!("tine-unix-name-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let start = directory.display().to_string();
        // sun_path has 108 bytes; the longest path has no zero byte at its end.
        let longest = "x".repeat(108 - start.len() - 1);
        for (file, shown) in [
            ("client", "client"),
            ("two words é", "two words é"),
            ("a\nREMOTE_ADDR=b", "a\\012REMOTE_ADDR=b"),
            ("\u{1b}[2J\\", "\\033[2J\\134"),
            (&longest, &longest),
        ] {
            let path = SocketAddrUnix::new(directory.join(file)).expect("a name");
            let found = name_of_client(Some(path)).map(|name| String::from_utf8(name).expect("UTF-8"));
            assert_eq!(found, Some(format!("{start}/{shown}")));
        }
        let pid = std::process::id();
        for (name, shown) in [
            (format!("tine-{pid}"), format!("@tine-{pid}")),
            (format!("tine\0-{pid}\n"), format!("@tine\\000-{pid}\\012")),
            (format!("/tine-{pid}"), format!("@/tine-{pid}")),
        ] {
            let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name");
            assert_eq!(name_of_client(Some(name)), Some(shown.into_bytes()));
        }
        assert_eq!(name_of_client(None), None);
        std::fs::remove_dir_all(directory).expect("our directory");
    }

    #[test]
    fn relative_paths_are_no_name() {
        // Relative to the directory of the tests' crate, and removed at once.
        let name = format!("tine-relative-{}", std::process::id());
        let address = SocketAddrUnix::new(name.as_str()).expect("a name");
        let found = name_of_client(Some(address));
        std::fs::remove_file(&name).expect("our socket");
        assert_eq!(found, None);
    }
}
