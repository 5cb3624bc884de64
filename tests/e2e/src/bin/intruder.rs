//! A server whose handler does what an attacker who has taken it over could do: each line that a
//! client sends is an order, and the reply is one line, `ok …` or the error. It writes other memory
//! through `/proc/self/mem`, as code of a handler could through a stray pointer.
//!
//! Options: `--user NAME`, `--max-connections N`, `--per-source N`, `--spares N`, `--penalties` (1
//! h for a crash and for silence), `--all-limits` (access rules, rates, penalties and a delay
//! queue, none of which a test reaches).

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd,
    pidfd_open, set_dumpable_behavior,
};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tine::{
    AccessRules, Connection, HandlerError, Identity, LogFormat, Penalties, Rate, Server, WhenLimited,
};
use tine_e2e::{Random, procfs};

fn main() -> Result<(), tine::Error> {
    let mut server = Server::bind("127.0.0.1:0")?.print_ports(true).log_format(LogFormat::Json);
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        server = match option.as_str() {
            "--max-connections" => server.max_connections(number()),
            "--per-source" => server.max_connections_per_source(number()),
            "--spares" => server.spares(number()),
            "--user" => server.identity(Identity::of_user(&words.next().expect("a user"))?),
            "--penalties" => server.penalties("crash:1h noauth:1h".parse::<Penalties>()?),
            "--all-limits" => with_all_limits(server)?,
            _ => panic!("unknown option {option}"),
        };
    }
    server.run(handle)
}

/// Has the server make every table that it can have.
fn with_all_limits(server: Server) -> Result<Server, tine::Error> {
    let rules = AccessRules::new().allow("0.0.0.0/0")?.build();
    let rate: Rate = "1000000/s".parse()?;
    let delay = WhenLimited::Delay { max_clients: 10, timeout: Duration::from_secs(10) };
    Ok(server
        .access(rules.clone())
        .rate_per_source(rate)
        .rate_per_prefix(rate)
        .penalties(Penalties::default())
        .penalty_exempt(rules)
        .max_connections_per_source(1000)
        .max_connections_per_prefix(1000)
        .when_limited(delay))
}

fn handle(mut connection: Connection) -> Result<(), HandlerError> {
    while let Some(line) = read_line(&mut connection)? {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = match obey(&words) {
            Ok(reply) => format!("ok {reply}\n"),
            Err(error) => format!("{error}\n"),
        };
        connection.write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn read_line(connection: &mut Connection) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while connection.read(&mut byte)? == 1 {
        if byte == *b"\n" {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        line.push(byte[0]);
    }
    Ok(None)
}

/// Carries out an order.
fn obey(words: &[&str]) -> Result<String, Box<dyn Error>> {
    match words {
        ["pid"] => Ok(getpid().as_raw_nonzero().to_string()),
        ["fill", byte] => fill_shared_memory(&mut |bytes| bytes.fill(byte.parse().expect("a byte"))),
        ["randomize", seed] => {
            let mut random = Random::new(seed.parse()?);
            fill_shared_memory(&mut |bytes| bytes.copy_from_slice(&random.bytes(bytes.len())))
        }
        ["read", pid, address] => {
            open_memory(pid, false)?.read_exact_at(&mut [0; 8], address.parse()?)?;
            Ok(String::new())
        }
        ["write", pid, address] => {
            open_memory(pid, true)?.write_all_at(&[0xff; 8], address.parse()?)?;
            Ok(String::new())
        }
        ["signal", pid, number] => {
            let signal = Signal::from_named_raw(number.parse()?).ok_or("no such signal")?;
            kill_process(process(pid)?, signal)?;
            Ok(String::new())
        }
        ["take-descriptor", pid, number] => {
            let victim = pidfd_open(process(pid)?, PidfdFlags::empty())?;
            pidfd_getfd(&victim, number.parse()?, PidfdGetfdFlags::empty())?;
            Ok(String::new())
        }
        ["become-root", what] => become_root(what).map(|()| String::new()).map_err(Into::into),
        ["exit", code] => std::process::exit(code.parse()?),
        ["panic"] => panic!("on an order"),
        ["crash"] => {
            kill_process(getpid(), Signal::SEGV)?;
            Err("still running".into())
        }
        _ => Err("no such order".into()),
    }
}

fn process(pid: &str) -> Result<Pid, Box<dyn Error>> {
    Ok(Pid::from_raw(pid.parse()?).ok_or("0 is no process id")?)
}

/// Opens the memory of a process. After a change of user, the kernel keeps a process from opening
/// its own, which an attacker undoes first.
fn open_memory(pid: &str, write: bool) -> std::io::Result<File> {
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    OpenOptions::new().read(true).write(write).open(format!("/proc/{pid}/mem"))
}

/// Overwrites all memory that this process shares with others and can write. Returns the number of
/// bytes.
fn fill_shared_memory(fill: &mut dyn FnMut(&mut [u8])) -> Result<String, Box<dyn Error>> {
    let memory = open_memory("self", true)?;
    let mut written = 0;
    for mapping in procfs::mappings(getpid().as_raw_nonzero().get()) {
        if mapping.is_shared_and_writable() {
            let mut bytes = vec![0; usize::try_from(mapping.end - mapping.start)?];
            fill(&mut bytes);
            memory.write_all_at(&bytes, mapping.start)?;
            written += bytes.len();
        }
    }
    Ok(written.to_string())
}

/// Tries to become root in one of the ways that setresuid(2) and its relatives offer.
fn become_root(what: &str) -> Result<(), Errno> {
    use rustix::process::{Gid, Uid};
    let (root, wheel) = (Uid::ROOT, Gid::ROOT);
    match what {
        "user" => set_thread_res_uid(root, root, root),
        "effective-user" => set_thread_res_uid(None, root, None),
        "group" => set_thread_res_gid(wheel, wheel, wheel),
        "groups" => set_thread_groups(&[wheel]),
        _ => Err(Errno::INVAL),
    }
}
