//! Replaces servers, and waits for it.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::{Folder, Server, ServerCommand, tine};

/// The id of the process that serves since the last replacement, of which there were this many.
pub fn replaced(server: &Server, number: usize) -> i32 {
    let last = server.log.wait_for("replaced", number).remove(number - 1);
    i32::try_from(last["pid"].as_i64().expect("a process id")).expect("a process id")
}

/// Replaces a server, and waits until the next generation serves. Returns its first process.
pub fn replace(server: &Server, number: usize) -> i32 {
    server.signal(Signal::USR2);
    replaced(server, number)
}

/// An executable script.
pub fn script(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
    path.display().to_string()
}

/// Two services with their files and a control socket.
pub fn services(name: &str) -> (Folder, Server, u16) {
    let folder = Folder::new(name);
    let text =
        "[services.a]\nlisten = '127.0.0.1:0'\n[services.b]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\n";
    let file = folder.write("tine.toml", text).display().to_string();
    let serve = ["serve", "--log", "json", "-1", "--config", &file, "--control", &folder.path("c.sock")];
    let server = ServerCommand::program(tine(), &serve).start();
    let port = server.log.port_of("b");
    (folder, server, port)
}
