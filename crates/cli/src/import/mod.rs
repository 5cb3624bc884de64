//! Configurations of other super-servers, as `tine.toml`: what has an equivalent is written down, what has none is named beside it.

mod addresses;
pub mod inetd;
mod service;
pub mod xinetd;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use service::Service;
use tine::Address;

use crate::config::Config;

/// What has to be looked up for it.
pub trait World {
    /// The text of a file that another one names.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, file: &Path) -> io::Result<String>;

    /// The files in a folder, in the order of their names.
    ///
    /// # Errors
    /// It cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// The addresses of a host; none if there is no such host.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;

    /// The port of a TCP service by its name.
    fn port(&self, name: &str) -> Option<u16>;
}

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: String,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What became of a service of the file.
#[derive(Debug)]
enum Item {
    /// It has an equivalent.
    Served(Service),
    /// It has none, or is not to run: its name, and why.
    Left(Place, String, String),
}

/// A file, imported.
#[derive(Debug, Default)]
pub struct Import {
    items: Vec<Item>,
    /// What concerns no service in particular.
    notes: Vec<String>,
}

impl Import {
    /// How many services are served, how many are not, and how much else has no equivalent.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let served = self.served().count();
        let notes = self.notes.len() + self.served().map(|service| service.notes.len()).sum::<usize>();
        (served, self.items.len() - served, notes)
    }

    fn served(&self) -> impl Iterator<Item = &Service> {
        self.items.iter().filter_map(|item| match item {
            Item::Served(service) => Some(service),
            Item::Left(..) => None,
        })
    }

    /// Leaves out what cannot be read as it stands, and those whose address another one has: `tcp` and `tcp6` often have a line
    /// each, where here one service has both. Gives services of the same name others.
    fn finish(mut self) -> Import {
        let mut names: Vec<String> = Vec::new();
        let mut taken: Vec<(Address, String)> = Vec::new();
        for item in &mut self.items {
            let Item::Served(service) = item else { continue };
            if let Err(error) = Config::parse(&service.to_string(), Path::new("")) {
                let why = error.to_string();
                // What is wrong, without a line of a file that nobody has.
                let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
                *item = Item::Left(service.place.clone(), service.name.clone(), why);
                continue;
            }
            let addresses: Vec<Address> =
                service.listen.iter().filter_map(|address| address.parse().ok()).collect();
            let other = taken.iter().find(|(address, _)| addresses.contains(address));
            if let Some((address, other)) = other {
                let why = format!("{other} serves {address} already");
                *item = Item::Left(service.place.clone(), service.name.clone(), why);
                continue;
            }
            taken.extend(addresses.into_iter().map(|address| (address, service.place.to_string())));
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

/// The configuration, with a comment for each thing that has no equivalent.
impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            comment(f, note)?;
        }
        for item in &self.items {
            match item {
                Item::Served(service) => write!(f, "\n{service}")?,
                Item::Left(place, name, why) => {
                    writeln!(f)?;
                    comment(f, &format!("{place}: {name} is left out: {why}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A line that says something to people. What a file says cannot end it.
fn comment(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(f, "# {line}")
}
