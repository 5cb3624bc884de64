//! Configurations of nsjail: a message of protocol buffers as text. A server of it, `mode: LISTEN`,
//! becomes a service in a full jail.

mod fields;
mod limits;
mod mounts;
mod notes;
mod paths;
mod users;

use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;

use super::amounts;
use super::service::{ImportedService, ServedBy};
use super::textproto::{self, At, TextFault};
use super::{ImportedFile, ImportedItem};
use crate::config::Position;
use fields::Fields;

/// What nsjail can do with a program, by its numbers.
const MODES: [&str; 4] = ["LISTEN", "ONCE", "RERUN", "EXECVE"];

/// What nsjail takes for fields that are not there. Those of limits are in `limits.rs`.
const DEFAULT_TIME_LIMIT: u64 = 600;
const DEFAULT_NICE_LEVEL: i32 = 19;

/// Imports the text of a configuration. The service has its name, or that of the file.
pub fn import(text: &str, file: &Path) -> ImportedFile {
    let mut import = ImportedFile::default();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let position = Position::new(Rc::from(file), 1);
    let item = match one(text, &stem, &position) {
        Ok(service) => ImportedItem::Served(service),
        Err(TextFault { at, what }) => {
            ImportedItem::Left(position, stem, format!("{}:{at}: {what}", file.display()))
        }
    };
    import.items.push(item);
    import.finish()
}

fn one(text: &str, stem: &str, position: &Position) -> Result<ImportedService, TextFault> {
    let message = textproto::parse(text)?;
    let fields = Fields::new(&message, At { line: 1, column: 1 });
    let name = fields.text("name")?.filter(|name| !name.is_empty()).unwrap_or(stem);
    let mut service = ImportedService::new(name, position.clone(), ServedBy::BuiltIn("discard"));
    listen(fields, &mut service)?;
    program(fields, &mut service)?;
    service.set("jail", "full");
    network(fields, &mut service)?;
    let mounts = mounts::read(fields, &mut service)?;
    paths::apply(&mounts, fields.flag("mount_proc", false)?, &mut service)?;
    users::apply(fields, &mut service)?;
    environment(fields, &mut service)?;
    cgroups(fields, &mut service)?;
    limits::apply(fields, &mut service)?;
    notes::apply(fields, &mut service);
    Ok(service)
}

/// The address, and how many connections there are of how long.
fn listen(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    let mode = fields.choice("mode", &MODES)?.unwrap_or("ONCE");
    let port = fields.number("port")?.unwrap_or(0);
    let at = fields.one("port")?.map_or(fields.at, |field| field.at);
    let port = u16::try_from(port).map_err(|_| at.fault(format!("{port} is no port")))?;
    let address = match fields.text("bindhost")? {
        None => None,
        Some(text) => {
            let at = fields.one("bindhost")?.map_or(fields.at, |field| field.at);
            let address: IpAddr =
                text.parse().map_err(|_| at.fault(format!("bindhost: {text} is no address")))?;
            Some(address)
        }
    };
    service.listen.push(match (port, address) {
        (0, _) => "127.0.0.1:0".to_owned(),
        (port, Some(IpAddr::V6(address))) => match address.to_ipv4_mapped() {
            Some(address) => format!("{address}:{port}"),
            None if address.is_unspecified() => port.to_string(),
            None => format!("[{address}]:{port}"),
        },
        (port, Some(IpAddr::V4(address))) => format!("{address}:{port}"),
        (port, None) => port.to_string(),
    });
    if port == 0 {
        let what = if mode == "LISTEN" { "without port" } else { "has no port" };
        service.note(format!("mode: {mode} {what}: set `listen`, as 127.0.0.1:0 is any free port"));
    } else if mode != "LISTEN" {
        service.note(format!("mode: {mode} serves no clients: here each client gets a program of its own"));
    }
    for (field, key) in [("max_conns", "max-connections"), ("max_conns_per_ip", "max-connections-per-source")]
    {
        if let Some(most) = fields.number(field)?.filter(|most| *most > 0) {
            service.set(key, most.to_string());
        }
    }
    match fields.number("time_limit")?.unwrap_or(DEFAULT_TIME_LIMIT) {
        0 => {}
        seconds => service.set("max-lifetime", format!("{seconds}s")),
    }
    Ok(())
}

/// The program and its streams.
fn program(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    let missing = "it names no program (exec_bin): nsjail takes it from its command line, add it here";
    let program = fields.within("exec_bin")?.ok_or_else(|| fields.at.fault(missing))?;
    let path = program.text("path")?.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| program.at.fault("exec_bin has no path"))?;
    let mut words = vec![path.to_owned()];
    words.extend(program.texts("arg")?);
    service.served_by = ServedBy::Program(words);
    if let Some(name) = program.text("arg0")? {
        service.set("argv0", name);
    }
    if program.flag("exec_fd", false)? {
        service.note("exec_bin.exec_fd: true: the program has to exist in the jail");
    }
    for field in program.all() {
        if !["path", "arg", "arg0", "exec_fd"].contains(&field.name.as_str()) {
            service.note(format!("exec_bin.{}: an unknown field", field.name));
        }
    }
    if fields.flag("silent", false)? {
        let why = "silent: true takes the connection from the program: leave it out";
        return Err(fields.one("silent")?.map_or(fields.at, |field| field.at).fault(why));
    }
    let to_null = fields.flag("stderr_to_null", false)?;
    service.set("stderr", if to_null { "null" } else { "client" });
    service.set("cwd", fields.text("cwd")?.unwrap_or("/"));
    match fields.signed("nice_level")?.unwrap_or(DEFAULT_NICE_LEVEL) {
        0 => {}
        level => service.set("nice", level.to_string()),
    }
    Ok(())
}

fn network(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    let (is_own, without_loopback) = (fields.flag("clone_newnet", true)?, fields.flag("iface_no_lo", false)?);
    let network = match (is_own, without_loopback) {
        (false, _) => "no",
        (true, true) => "yes",
        (true, false) => "loopback",
    };
    service.set("private-network", network);
    Ok(())
}

fn environment(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    if !fields.flag("keep_env", false)? {
        service.set_yes("clear-env");
    }
    // One without `=` has the value that the server has, in tine, too.
    service.set_list("env", fields.texts("envar")?);
    Ok(())
}

fn cgroups(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    let set = |name| fields.number(name).map(|number| number.filter(|number| *number > 0));
    if let Some(bytes) = set("cgroup_mem_max")? {
        service.set("memory-max", amounts::size(bytes));
    }
    if let Some(processes) = set("cgroup_pids_max")? {
        service.set("tasks-max", processes.to_string());
    }
    if let Some(milliseconds) = set("cgroup_cpu_ms_per_sec")? {
        let (share, is_rounded) = amounts::share(milliseconds);
        if is_rounded {
            service.note(format!("cgroup_cpu_ms_per_sec: {milliseconds}: cpu-quota is in whole percents"));
        }
        service.set("cpu-quota", share);
    }
    Ok(())
}

#[cfg(test)]
mod paths_tests;
#[cfg(test)]
mod tests;
