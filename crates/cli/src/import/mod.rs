//! Configurations of other super-servers, as `tine.toml`: what has an equivalent is written down, what has none is named beside it.

mod addresses;
pub mod inetd;
mod service;
pub mod xinetd;

use std::fmt;

use service::Service;
use tine::Address;

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

    /// Gives services of the same name others, and leaves those out whose address another one has: `tcp` and `tcp6` often
    /// have a line each, where here one service has both.
    fn tell_apart(mut self) -> Import {
        let mut names: Vec<String> = Vec::new();
        let mut taken: Vec<(Address, String)> = Vec::new();
        for item in &mut self.items {
            let Item::Served(service) = item else { continue };
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
