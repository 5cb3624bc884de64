//! The image `pwn.red/jail`: variables of its environment, from a Dockerfile or a file with one in
//! each line.

mod variables;

use std::path::Path;
use std::rc::Rc;

use super::amounts;
use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem};
use crate::config::Position;
use variables::{LineFault, Variable};

/// Devices that a full jail has, too.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// The numbers that the image takes for variables that are not set. For those of limits, 0 is none.
const DEFAULT_TIME: u64 = 20;
const DEFAULT_PROCESSES: u64 = 5;
const DEFAULT_MEMORY: u64 = 5 << 20;
const DEFAULT_PROCESSOR_TIME: u64 = 100;
const DEFAULT_PORT: u16 = 5000;

/// Where the image has the root of each jail, and in it the program.
const ROOT: &str = "/srv";
const PROGRAM: &str = "/app/run";
const DIRECTORY: &str = "/app";

/// The smallest `/tmp` of a full jail.
const SMALLEST_TMP: u64 = 4 << 10;

/// Imports the text of a Dockerfile or of a file of variables. The service has the name of the
/// file's folder.
pub fn import(text: &str, file: &Path) -> ImportedFile {
    let mut import = ImportedFile::default();
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let position = |line: usize| Position::new(Rc::from(file), line);
    let read = if text.contains('\0') {
        Err((1, "it contains a zero byte".to_owned()))
    } else {
        variables::read(text)
    };
    let made = read.and_then(|variables| one(&variables, &folder, position(1)));
    import.items.push(match made {
        Ok(service) => ImportedItem::Served(service),
        Err((line, why)) => ImportedItem::Left(position(line), folder, why),
    });
    import.finish()
}

fn one(variables: &[Variable], name: &str, position: Position) -> Result<ImportedService, LineFault> {
    let program = ServedBy::Program(vec![PROGRAM.into()]);
    let mut service = ImportedService::new(name, position, program);
    let settings = Settings(variables);
    let port = settings.number("JAIL_PORT")?.unwrap_or(DEFAULT_PORT.into());
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| settings.fault("JAIL_PORT", "is no port"))?;
    service.listen.push(port.to_string());
    service.set("jail", "full");
    service.set("private-network", "loopback");
    service.set("root-directory", ROOT);
    service.note(format!(
        "{ROOT} of the image: export it, as docs/jails.md describes, and set root-directory to it"
    ));
    service.note("/jail/hook.sh: if the image has one, it is not executed");
    service.set("cwd", DIRECTORY);
    service.set("stderr", "client");
    settings.limits(&mut service)?;
    settings.environment(&mut service);
    settings.calls(&mut service)?;
    settings.rest(&mut service)?;
    Ok(service)
}

/// The variables that are set.
struct Settings<'v>(&'v [Variable]);

impl Settings<'_> {
    fn get(&self, name: &str) -> Option<&Variable> {
        // One without a value is as one that is not set.
        self.0.iter().find(|variable| variable.name == name && !variable.value.is_empty())
    }

    fn fault(&self, name: &str, why: &str) -> LineFault {
        let found = self.get(name);
        let value = found.map_or("", |variable| variable.value.as_str());
        (found.map_or(1, |variable| variable.line), format!("{name}={value} {why}"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, LineFault> {
        let Some(variable) = self.get(name) else { return Ok(None) };
        let number: Result<u32, _> = variable.value.parse();
        number.map(|number| Some(number.into())).map_err(|_| self.fault(name, "is no number"))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, LineFault> {
        let Some(variable) = self.get(name) else { return Ok(None) };
        amounts::bytes(&variable.value).map(Some).ok_or_else(|| self.fault(name, "is no size"))
    }

    /// Limits, of which 0 is none.
    fn limits(&self, service: &mut ImportedService) -> Result<(), LineFault> {
        let number = |name, default| self.number(name).map(|number| number.unwrap_or(default));
        match number("JAIL_TIME", DEFAULT_TIME)? {
            0 => {}
            seconds => service.set("max-lifetime", format!("{seconds}s")),
        }
        for (name, key) in
            [("JAIL_CONNS", "max-connections"), ("JAIL_CONNS_PER_IP", "max-connections-per-source")]
        {
            match number(name, 0)? {
                0 => {}
                most => service.set(key, most.to_string()),
            }
        }
        match number("JAIL_PIDS", DEFAULT_PROCESSES)? {
            0 => {}
            processes => service.set("tasks-max", processes.to_string()),
        }
        match self.size("JAIL_MEM")?.unwrap_or(DEFAULT_MEMORY) {
            0 => {}
            bytes => service.set("memory-max", amounts::size(bytes)),
        }
        match number("JAIL_CPU", DEFAULT_PROCESSOR_TIME)? {
            0 => {}
            milliseconds => {
                let (share, is_rounded) = amounts::share(milliseconds);
                if is_rounded {
                    service.note(format!("JAIL_CPU={milliseconds}: cpu-quota is in whole percents"));
                }
                service.set("cpu-quota", share);
            }
        }
        match self.size("JAIL_TMP_SIZE")?.unwrap_or(0) {
            0 => service.note("JAIL_TMP_SIZE=0: a full jail always has a /tmp that can be written, of 16M"),
            bytes => service.set("private-tmp", amounts::size(bytes.max(SMALLEST_TMP))),
        }
        Ok(())
    }

    fn environment(&self, service: &mut ImportedService) {
        service.set_yes("clear-env");
        let own = |variable: &Variable| {
            let name = variable.name.strip_prefix("JAIL_ENV_").filter(|name| !name.is_empty())?;
            Some(format!("{name}={}", variable.value))
        };
        service.set_list("env", self.0.iter().filter_map(own).collect());
    }

    /// System calls that are allowed, too.
    fn calls(&self, service: &mut ImportedService) -> Result<(), LineFault> {
        let Some(variable) = self.get("JAIL_SYSCALLS") else { return Ok(()) };
        let calls: Vec<&str> =
            variable.value.split(',').map(str::trim).filter(|call| !call.is_empty()).collect();
        let is_name = |call: &&str| call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !calls.iter().all(is_name) {
            return Err(self.fault("JAIL_SYSCALLS", "has a word that is no system call"));
        }
        if !calls.is_empty() {
            service.set_list("system-call-filter", vec![calls.join(" ")]);
        }
        Ok(())
    }

    /// Names what has no equivalent.
    fn rest(&self, service: &mut ImportedService) -> Result<(), LineFault> {
        if let Some(difficulty) = self.number("JAIL_POW")?.filter(|difficulty| *difficulty > 0) {
            service.note(format!("JAIL_POW={difficulty}: clients are served without a proof of work"));
        }
        for variable in self.0 {
            let (name, value) = (variable.name.as_str(), variable.value.as_str());
            match name {
                "JAIL_DEV" => {
                    let devices = value.split(',').map(str::trim).filter(|device| !device.is_empty());
                    let others: Vec<&str> = devices.filter(|device| !DEVICES.contains(device)).collect();
                    if !others.is_empty() {
                        service.note(format!("JAIL_DEV: a full jail has no /dev/{}", others.join(", /dev/")));
                    }
                }
                "JAIL_READ_ONLY" if value == "true" => {}
                "JAIL_READ_ONLY" => {
                    service.note(format!("{name}={value}: the root of a full jail is to read"))
                }
                "JAIL_TIME" | "JAIL_CONNS" | "JAIL_CONNS_PER_IP" | "JAIL_PIDS" | "JAIL_MEM" | "JAIL_CPU"
                | "JAIL_POW" | "JAIL_PORT" | "JAIL_SYSCALLS" | "JAIL_TMP_SIZE" => {}
                _ if name.starts_with("JAIL_ENV_") => {}
                _ if name.starts_with("JAIL_") => {
                    service.note(format!("{name}={value}: an unknown variable"))
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
