//! The variables of a service: `Environment=`, `EnvironmentFile=`, and where `ExecStart=` uses them
//! (systemd.exec(5), systemd.service(5)).

use std::io;
use std::path::Path;

use super::unit::Assignment;
use super::words::{specify, split};
use crate::import::World;
use crate::import::service::ImportedService;

/// As systemd sets it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that systemd sets anew for each service or connection.
const OF_SYSTEMD: [&str; 9] = [
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LOGNAME",
    "MAINPID",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "SHELL",
    "USER",
];

/// The variables of a service, each once, in the order in which they are set.
#[derive(Debug)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Collects the variables. A file is read now.
    ///
    /// # Errors
    /// The reason why the service is left out.
    pub(super) fn collect(
        lines: &[&Assignment],
        template: &str,
        world: &dyn World,
        service: &mut ImportedService,
    ) -> Result<Environment, String> {
        let mut environment = Environment(vec![("PATH".into(), PATH.into())]);
        for line in lines.iter().filter(|line| line.key == "Environment") {
            for word in split(&specify(&line.value, template)?)? {
                if let Some((name, value)) = word.split_once('=') {
                    environment.set(name, value);
                }
            }
        }
        // They take precedence.
        for line in lines.iter().filter(|line| line.key == "EnvironmentFile") {
            environment.read(&specify(&line.value, template)?, world, service)?;
        }
        Ok(environment)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Reads a file. Behind a `-` it may be missing.
    fn read(&mut self, path: &str, world: &dyn World, service: &mut ImportedService) -> Result<(), String> {
        let name = path.strip_prefix('-').unwrap_or(path);
        let text = match world.read(Path::new(name)) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound && path != name => return Ok(()),
            Err(why) => return Err(format!("{name} (EnvironmentFile=) cannot be read: {}", why.kind())),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let assignment = line.split_once('=').and_then(|(key, value)| Some((key.trim(), plain(value)?)));
            let (key, value) = assignment.ok_or_else(|| {
                format!("{name}:{} is no plain NAME=VALUE: write the variables as `env`", number + 1)
            })?;
            self.set(key, value);
        }
        service.note(format!("{name} (EnvironmentFile=) is read once, here"));
        Ok(())
    }

    /// Replaces the variables in a command: `$NAME` as a word becomes words, `${NAME}` a part of
    /// one.
    ///
    /// # Errors
    /// The value is known only when a connection begins.
    pub(super) fn expand(&self, words: Vec<String>) -> Result<Vec<String>, String> {
        let mut result = Vec::new();
        for word in words {
            match word.strip_prefix('$').filter(|name| !name.starts_with(['$', '{'])) {
                Some(name) => result.extend(split(self.value(name)?)?),
                None => result.push(self.replaced(&word)?),
            }
        }
        Ok(result)
    }

    fn replaced(&self, word: &str) -> Result<String, String> {
        let mut result = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            result.push_str(before);
            rest = after;
            if let Some(after) = after.strip_prefix('$') {
                result.push('$');
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            {
                result.push_str(self.value(name)?);
                rest = after;
            } else {
                result.push('$');
            }
        }
        Ok(result + rest)
    }

    /// The value of a variable. One that is not set is empty.
    fn value(&self, name: &str) -> Result<&str, String> {
        if let Some((_, value)) = self.0.iter().find(|(other, _)| other == name) {
            return Ok(value);
        }
        match OF_SYSTEMD.contains(&name) || name.ends_with("_DIRECTORY") {
            true => Err(format!("ExecStart= uses {name}, which systemd sets: write its value")),
            false => Ok(""),
        }
    }

    /// `NAME=VALUE`, for the key `env`.
    pub(super) fn into_words(self) -> Vec<String> {
        self.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// A value without escapes, within quotes or not. `None` for others.
fn plain(value: &str) -> Option<&str> {
    let value = value.trim();
    let inside = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let value = inside('"').or_else(|| inside('\'')).unwrap_or(value);
    (!value.contains(['"', '\'', '\\', '`'])).then_some(value)
}
