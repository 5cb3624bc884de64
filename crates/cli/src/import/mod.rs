//! Configurations of other super-servers and jails as `tine.toml`, with comments about what has no
//! equivalent.

mod addresses;
mod amounts;
#[cfg(test)]
mod folder;
pub mod inetd;
pub mod nsjail;
pub mod redpwn;
pub mod run;
mod service;
pub mod systemd;
mod textproto;
pub mod xinetd;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use service::ImportedService;

use crate::config::overlap::Claim;
use crate::config::{Config, Position};

/// The files, hosts and ports that a configuration refers to.
pub trait World {
    /// The text of a file that another one names.
    ///
    /// # Errors
    /// The file or folder cannot be read.
    fn read(&self, file: &Path) -> io::Result<String>;

    /// The files in a folder, in the order of their names.
    ///
    /// # Errors
    /// The file or folder cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// The addresses of a host; none if there is no such host.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;

    /// The port of a TCP service by its name.
    fn port(&self, name: &str) -> Option<u16>;
}

/// Whether the files of TCP wrappers have a rule (hosts_access(5)).
fn has_wrapper_rules(world: &dyn World) -> bool {
    let is_rule = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    ["/etc/hosts.allow", "/etc/hosts.deny"].iter().any(|file| match world.read(Path::new(file)) {
        Ok(text) => text.lines().any(is_rule),
        // A file that cannot be read may have some.
        Err(why) => why.kind() != io::ErrorKind::NotFound,
    })
}

/// The result for a service of the file.
#[derive(Debug)]
enum ImportedItem {
    /// It has an equivalent.
    Served(ImportedService),
    /// It has no equivalent, or is disabled: its name, and the reason.
    Left(Position, String, String),
}

/// An imported file.
#[derive(Debug, Default)]
pub struct ImportedFile {
    items: Vec<ImportedItem>,
    /// What concerns the file as a whole.
    notes: Vec<String>,
}

impl ImportedFile {
    /// The numbers of imported services, of services left out, and of notes.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let served = self.served().count();
        let notes = self.notes.len() + self.served().map(|service| service.notes.len()).sum::<usize>();
        (served, self.items.len() - served, notes)
    }

    fn served(&self) -> impl Iterator<Item = &ImportedService> {
        self.items.iter().filter_map(|item| match item {
            ImportedItem::Served(service) => Some(service),
            ImportedItem::Left(..) => None,
        })
    }

    /// Leaves out invalid services, and those whose address another service has: `tcp` and `tcp6`
    /// often have a line each, and one service of tine has both. Renames services that have the
    /// same name.
    fn finish(mut self) -> ImportedFile {
        let mut names: Vec<String> = Vec::new();
        let mut taken: Vec<(Claim, String)> = Vec::new();
        for item in &mut self.items {
            let ImportedItem::Served(service) = item else { continue };
            let parsed = Config::parse(&service.to_string(), Path::new(""));
            let claims = parsed.and_then(|mut config| {
                let args = &mut config.services[0].args;
                args.addresses.extend(service.also_claims.iter().cloned());
                Claim::of(args)
            });
            let claims = match claims {
                Ok(claims) => claims,
                Err(error) => {
                    let why = error.to_string();
                    // The reason without the position, which is in the text made here.
                    let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
                    *item = ImportedItem::Left(service.position.clone(), service.name.clone(), why);
                    continue;
                }
            };
            let other = taken.iter().find(|(claim, _)| claims.iter().any(|own| own.excludes(claim)));
            if let Some((claim, other)) = other {
                let why = format!("{other} serves {} already", claim.address());
                *item = ImportedItem::Left(service.position.clone(), service.name.clone(), why);
                continue;
            }
            taken.extend(claims.into_iter().map(|claim| (claim, service.position.to_string())));
            let mut name = service.name.clone();
            let mut number = 2;
            while names.contains(&name) {
                name = format!("{}-{number}", service.name);
                number += 1;
            }
            names.push(name.clone());
            service.name = name;
        }
        self
    }
}

/// What an import prints, which a server accepts if it has a service. For tests: the notes are
/// short.
#[cfg(test)]
fn printed(import: &ImportedFile) -> String {
    let shown = import.to_string();
    let parsed = Config::parse(&shown, Path::new("tine.toml"));
    assert_eq!(parsed.is_ok(), import.counts().0 == 1, "{shown}");
    shown.replace("#   has no equivalent: ", "# ")
}

/// The configuration, with a comment for each thing that has no equivalent.
impl fmt::Display for ImportedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            comment(f, note)?;
        }
        for item in &self.items {
            match item {
                ImportedItem::Served(service) => write!(f, "\n{service}")?,
                ImportedItem::Left(position, name, why) => {
                    writeln!(f)?;
                    comment(f, &format!("{position}: {name} is left out: {why}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A comment. Text of the file cannot end it.
fn comment(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(f, "# {line}")
}
