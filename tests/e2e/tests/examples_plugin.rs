//! The example `plugin`. It is the only program here that is linked dynamically.

use std::path::Path;
use std::process::Command;

use tine_e2e::examples::check_length;
use tine_e2e::programs::succeeds;
use tine_e2e::{Folder, Server, ServerCommand};

/// Compiles the plugin, and puts it in place of the one that is there.
fn install(folder: &Folder, factor: u32) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/plugin.c");
    let (new, path) = (folder.path("new.so"), folder.path("plugin.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o", &new, &format!("-DFACTOR={factor}")]);
    succeeds(cc.arg(source));
    // Processes that have loaded the old file keep it.
    std::fs::rename(new, &path).expect("a file");
    path
}

fn start(plugin: &str) -> Server {
    check_length("plugin", 120);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a folder");
    let target = root.join("target/dynamic");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(&root)
        .args(["build", "--quiet", "-p", "tine", "--example", "plugin", "--target-dir"])
        .arg(&target);
    let flags = "target.\"cfg(target_env = \\\"gnu\\\")\".rustflags=[\"-Ctarget-feature=-crt-static\"]";
    succeeds(cargo.args(["--config", flags, "--config", "profile.dev.debug=false"]));
    let folder = std::fs::read_dir(&target).expect("a folder").flatten().map(|entry| entry.path());
    let built = folder.map(|folder| folder.join("debug/examples/plugin")).find(|path| path.exists());
    ServerCommand::program(built.expect("an example"), &["127.0.0.1:0", plugin]).start()
}

#[test]
fn a_plugin_is_replaced_between_connections_and_crashes_alone() {
    let folder = Folder::new("plugin");
    let path = install(&folder, 1);
    let server = start(&path);
    let mut first = server.connect();
    first.send("four\n").expect("4\n");
    install(&folder, 10);
    let mut second = server.connect();
    second.send("four\n").expect("40\n");
    first.send("seventy\n").expect("7\n");

    for (line, signal) in [("abort", "ABRT"), ("segfault", "SEGV")] {
        server.connect().send(format!("{line}\n")).expect_closed();
        server.log.wait_for_line(signal, |line| line.contains(&format!("signal {signal}")));
        second.send("four\n").expect("40\n");
    }

    // Without a plugin, a connection ends; the next one finds it again.
    std::fs::remove_file(&path).expect("a file");
    server.connect().expect_closed();
    install(&folder, 100);
    server.connect().send("four\n").expect("400\n");
    first.send("four\n").expect("4\n");
}
