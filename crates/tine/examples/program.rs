//! Step 4: a program behind a port. Each client gets its bytes back in upper case, from a `tr` of
//! its own.
//!
//! `cargo run -p tine --example program`, then `echo hello | nc -N localhost 9999`

use std::time::Duration;

use tine::{KillMode, Program, Resource, Server, Stderr};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    let program = Program::new(["tr", "a-z", "A-Z"])
        .clear_env(true)
        .env("PATH", "/usr/bin:/bin")
        .limit(Resource::As, 256 << 20, 256 << 20)
        .limit(Resource::Cpu, 10, 20)
        .stderr(Stderr::Log)
        .kill_mode(KillMode::All);
    Server::bind(&address)?
        .max_connections(200)
        .idle_timeout(Duration::from_secs(300))
        .print_ports(true)
        .run_program(program)
}
