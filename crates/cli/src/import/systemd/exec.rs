//! The section `[Service]` of the service unit (systemd.service(5), systemd.exec(5),
//! systemd.kill(5)).

use super::environment::Environment;
use super::sandbox;
use super::unit::Assignment;
use super::words::{milliseconds, specify, split};
use crate::import::World;
use crate::import::service::{ImportedService, ServedBy};

/// What `[Service]` says about the standard streams.
#[derive(Default)]
struct Streams<'a> {
    input: Option<&'a str>,
    output: Option<&'a str>,
    error: Option<&'a str>,
}

/// Applies the lines of the section. `template` is the name of the unit without `@.service`.
///
/// # Errors
/// The reason why the service is left out.
pub(super) fn apply(
    lines: &[&Assignment],
    template: &str,
    world: &dyn World,
    service: &mut ImportedService,
) -> Result<(), String> {
    sandbox::check(lines)?;
    let environment = Environment::collect(lines, template, world, service)?;
    service.served_by = ServedBy::Program(program(lines, template, &environment, service)?);
    let mut streams = Streams::default();
    let mut has_kill_mode = false;
    for (at, line) in lines.iter().enumerate() {
        let (key, value) = (line.key.as_str(), line.value.as_str());
        let is_list = matches!(key, "UnsetEnvironment" | "SupplementaryGroups");
        if !is_list && lines[at + 1..].iter().any(|later| later.key == key) {
            continue;
        }
        has_kill_mode |= key == "KillMode";
        match key {
            "StandardInput" => streams.input = Some(value),
            "StandardOutput" => streams.output = Some(value),
            "StandardError" => streams.error = Some(value),
            _ => one(key, value, template, service)?,
        }
    }
    // systemd gives programs an environment of its own making.
    service.set_yes("clear-env");
    if !has_kill_mode {
        // systemd's default: everything in the cgroup of the connection.
        service.set("kill-mode", "all");
    }
    // As systemd starts a program of which its unit says nothing else.
    for (directive, key, value) in [("WorkingDirectory", "cwd", "/"), ("UMask", "umask", "0022")] {
        if !lines.iter().any(|line| line.key == directive) {
            service.set(key, value);
        }
    }
    service.set_list("env", environment.into_words());
    apply_streams(&streams, service)
}

/// The words of the only `ExecStart=`.
fn program(
    lines: &[&Assignment],
    template: &str,
    environment: &Environment,
    service: &mut ImportedService,
) -> Result<Vec<String>, String> {
    let starts: Vec<&str> =
        lines.iter().filter(|line| line.key == "ExecStart").map(|line| line.value.as_str()).collect();
    let [start] = starts[..] else {
        return Err(format!("its service has {} lines ExecStart=, and a program is one", starts.len()));
    };
    let command = start.trim_start_matches(['-', '@', ':']);
    let prefixes = &start[..start.len() - command.len()];
    if command.starts_with(['+', '!', '|']) {
        return Err("its ExecStart= has a prefix that leaves out its user or its sandbox".into());
    }
    let mut words = split(&specify(command, template)?)?;
    if words.is_empty() {
        return Err("its ExecStart= names no program".into());
    }
    if !prefixes.contains(':') {
        // The program itself is no variable.
        let rest = environment.expand(words.split_off(1))?;
        words.extend(rest);
    }
    if words.iter().any(|word| word == ";") {
        return Err("its ExecStart= has several commands".into());
    }
    if prefixes.contains('@') {
        if words.len() < 2 {
            return Err("its ExecStart= has @ and no name".into());
        }
        let name = words.remove(1);
        service.set("argv0", name);
    }
    Ok(words)
}

/// Applies a line that is not about the command, the streams or the environment.
fn one(key: &str, value: &str, template: &str, service: &mut ImportedService) -> Result<(), String> {
    match key {
        "User" => service.set("user", specify(value, template)?),
        "Group" => service.set("group", specify(value, template)?),
        "SupplementaryGroups" => {
            let groups = value.split_whitespace().collect::<Vec<_>>().join(",");
            service.set("supplementary-groups", groups);
        }
        "WorkingDirectory" if value == "~" => {
            return Err("WorkingDirectory=~ is the home of its user: write the directory".into());
        }
        "WorkingDirectory" => {
            service.set("cwd", specify(value.strip_prefix('-').unwrap_or(value), template)?);
        }
        "UMask" => service.set("umask", value),
        "Nice" => service.set("nice", value),
        "UnsetEnvironment" => service.set_list("unset-env", split(value)?),
        "RuntimeMaxSec" => {
            if let Some(time) = milliseconds(value)? {
                service.set("max-lifetime", format!("{time}ms"));
            }
        }
        "KillMode" => match value {
            "control-group" => service.set("kill-mode", "all"),
            "process" | "none" => service.set("kill-mode", "process"),
            "mixed" => {
                service.set("kill-mode", "all");
                service.note("KillMode=mixed: TERM goes to all processes of the connection");
            }
            other => return Err(format!("KillMode={other} is unknown")),
        },
        "KillSignal" | "RestartKillSignal" if matches!(value, "SIGTERM" | "TERM" | "15") => {}
        "ExecStartPre" | "ExecStartPost" | "ExecCondition" => {
            return Err(format!("it runs a command for each connection ({key}=): call it from a script"));
        }
        limit if limit.starts_with("Limit") => set_limit(limit, value, service)?,
        // They concern systemd's own view of the unit.
        "Environment" | "EnvironmentFile" | "ExecStart" | "Type" | "Restart" | "RemainAfterExit"
        | "SuccessExitStatus" | "SyslogIdentifier" | "CollectMode" | "TimeoutStartSec" | "TimeoutStopSec"
        | "TimeoutSec" | "SendSIGHUP" | "SendSIGKILL" | "GuessMainPID" | "IgnoreSIGPIPE" => {}
        other if sandbox::apply(other, value, service)? => {}
        other => service.note(format!("{other}={value}")),
    }
    Ok(())
}

/// A limit, whose key tine has in small letters.
fn set_limit(key: &str, value: &str, service: &mut ImportedService) -> Result<(), String> {
    const KEYS: [&str; 16] = [
        "limit-as",
        "limit-core",
        "limit-cpu",
        "limit-data",
        "limit-fsize",
        "limit-locks",
        "limit-memlock",
        "limit-msgqueue",
        "limit-nice",
        "limit-nofile",
        "limit-nproc",
        "limit-rss",
        "limit-rtprio",
        "limit-rttime",
        "limit-sigpending",
        "limit-stack",
    ];
    let name = key.trim_start_matches("Limit").to_ascii_lowercase();
    let known = KEYS.into_iter().find(|known| known.strip_prefix("limit-") == Some(&name));
    let known = known.ok_or_else(|| format!("{key}={value} is no limit that tine knows"))?;
    service.set(known, value);
    Ok(())
}

/// Maps the standard streams: the program of tine has the connection as input and output.
fn apply_streams(streams: &Streams, service: &mut ImportedService) -> Result<(), String> {
    match streams.input {
        Some("socket") => {}
        _ => {
            return Err(
                "its program takes the connection as descriptor 3 (no StandardInput=socket), not as \
                 standard input"
                    .into(),
            );
        }
    }
    let output_is_client = match streams.output {
        Some("socket" | "inherit") => true,
        None => {
            service.note(
                "StandardOutput= is the journal by default: here what the program writes to standard output goes to \
                 the client",
            );
            false
        }
        Some(other) => return Err(format!("its output goes elsewhere (StandardOutput={other})")),
    };
    match streams.error {
        None | Some("inherit") if output_is_client => service.set("stderr", "client"),
        Some("socket") => service.set("stderr", "client"),
        None | Some("inherit" | "journal" | "syslog" | "kmsg" | "journal+console" | "kmsg+console") => {
            service.set("stderr", "log");
        }
        Some("null") => service.set("stderr", "null"),
        Some(other) => service.note(format!("StandardError={other}")),
    }
    Ok(())
}
