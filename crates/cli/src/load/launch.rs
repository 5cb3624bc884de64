//! `--ssh-hosts`: starts agents by ssh(1). They dial out to the bus as any agent does, and end
//! after one run.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tine::cli::next_move;
use tine_bus::connect::{Bus, Secret};
use tine_sys::helper_command::end_with_this_thread;

use crate::error::Error;

/// Hosts of a file: one in a line; empty lines, and those that begin with `#`, are left out.
///
/// # Errors
/// A usage error if the file cannot be read, or has no host.
pub(super) fn hosts(file: &Path) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(file).map_err(|why| {
        let reason = tine_sys::reason(&why);
        Error::usage(format_args!("cannot read {}: {reason}", file.display()), next_move::of_file(&why))
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let hosts: Vec<String> = lines.map(str::to_owned).collect();
    match hosts.is_empty() {
        true => Err(Error::usage(format_args!("{} has no host", file.display()), "write one in a line")),
        false => Ok(hosts),
    }
}

/// The processes of ssh(1). They are killed when this is dropped, and with this process.
pub(super) struct Launched(Vec<Child>);

impl Launched {
    /// Starts an agent on each host, which ends by itself if no run takes it in time.
    ///
    /// # Errors
    /// A system error if ssh(1) cannot be started.
    pub(super) fn start(hosts: &[String], bus: &Bus, join_timeout: Duration) -> Result<Launched, Error> {
        let mut launched = Launched(Vec::new());
        for host in hosts {
            let mut command = Command::new("ssh");
            // Nobody is there to type a password.
            command.args(["-o", "BatchMode=yes", "--", host]).arg(agent(bus, join_timeout));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            end_with_this_thread(&mut command);
            let child = command
                .spawn()
                .map_err(|why| Error::system("cannot start ssh", &why, next_move::of_call(&why)))?;
            launched.0.push(child);
        }
        Ok(launched)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // A killed process ends at once, so the wait is short.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the command of an agent, for the shell of its host.
fn agent(bus: &Bus, join_timeout: Duration) -> String {
    let path = |option: &str, file: Option<&Path>| {
        file.map_or(String::new(), |file| format!(" {option} {}", quoted(&file.display().to_string())))
    };
    let file = |secret| Option::and_then(secret, Secret::file);
    format!(
        "exec tine load agent --once --join-timeout {}ms --bus {}{}{}{}",
        join_timeout.as_millis().max(1),
        quoted(&bus.url),
        path("--bus-credentials", file(bus.credentials.as_ref())),
        path("--bus-nkey", file(bus.nkey.as_ref())),
        path("--bus-ca", bus.ca.as_deref()),
    )
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_an_agent_has_the_bus_in_quotes() {
        let bus =
            Bus { url: "nats://a;b'c".into(), nkey: Some(Secret::File("/a b".into())), ..Bus::default() };
        assert_eq!(
            agent(&bus, Duration::from_secs(2)),
            r"exec tine load agent --once --join-timeout 2000ms --bus 'nats://a;b'\''c' --bus-nkey '/a b'"
        );
    }
}
