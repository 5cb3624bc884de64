//! Listening sockets that a service manager passes (sd_listen_fds(3)).

use tine_sys::process::Alone;

use crate::error::Error;
use crate::net::handed;
use crate::net::listener::Listener;

/// The first passed descriptor (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// The sockets that are passed to this process, until a service takes them.
#[derive(Debug)]
pub struct InheritedSockets(Vec<(String, Listener)>);

impl InheritedSockets {
    /// The passed sockets. Removes the variables, so that no program inherits them.
    ///
    /// # Errors
    /// A descriptor is not a listening stream socket, or a variable is invalid.
    pub fn receive() -> Result<InheritedSockets, Error> {
        let variable = |name: &str| std::env::var(name).ok();
        let names = passed(
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
            std::process::id(),
        )?;
        remove_variables();
        let mut sockets = Vec::new();
        for (number, name) in (FIRST..).zip(names) {
            let socket = tine_sys::fd::inherited(number).map_err(|why| {
                let next = "pass the number of descriptors that LISTEN_FDS has, from 3 on";
                Error::system(format_args!("cannot use inherited descriptor {number} ('{name}')"), &why, next)
            })?;
            let listener = Listener::inherited(socket, &name)?;
            sockets.push((name, listener));
        }
        // Or to an older generation of this server, which hands them over.
        for (name, handed) in handed::take_all("fd:") {
            let listener = Listener::inherited(handed.socket, &name)?;
            sockets.push((name, listener));
        }
        Ok(InheritedSockets(sockets))
    }

    /// The names of the sockets that are not taken yet; several can have the same.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Takes the sockets of this name, or all of them.
    ///
    /// # Errors
    /// None has the name.
    pub(crate) fn take(&mut self, name: Option<&str>) -> Result<Vec<Listener>, Error> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(own, _)| name.is_none_or(|name| own == name));
        self.0 = left;
        match name.filter(|_| taken.is_empty()) {
            None => Ok(taken.into_iter().map(|(_, listener)| listener).collect()),
            Some(name) => {
                let others: Vec<&str> = self.names().collect();
                let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
                Err(Error::usage(
                    format_args!("no inherited socket has the name '{name}' (LISTEN_FDNAMES has: {others})"),
                    "name it in the service manager (FileDescriptorName=), or give an address",
                ))
            }
        }
    }
}

/// Removes the variables: they concern this process, not those that it starts.
fn remove_variables() {
    if let Ok(alone) = Alone::check() {
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            tine_sys::environment::remove(name, &alone);
        }
    }
}

/// The names of the passed descriptors, from the three variables and the id of this process.
fn passed(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Vec<String>, Error> {
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Ok(Vec::new());
    }
    let invalid = |text: &str| {
        Error::usage(
            format_args!("LISTEN_FDS is '{text}', not a number from 0 to 1024"),
            "unset it, or let the service manager set it (socket activation)",
        )
    };
    let count = count.unwrap_or("0");
    let number: usize = count.parse().ok().filter(|number| *number <= 1024).ok_or_else(|| invalid(count))?;
    let mut names = names.unwrap_or("").split(':').filter(|name| !name.is_empty());
    Ok((0..number).map(|_| names.next().unwrap_or("unknown").to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_passed_to_this_process() {
        let none: &[&str] = &[];
        for (pid, count, names, expected) in [
            (None, None, None, none),
            (Some("7"), Some("1"), None, none),
            (Some("x"), Some("1"), None, none),
            (Some("42"), None, None, none),
            (Some("42"), Some("0"), None, none),
            (Some("42"), Some("1"), None, &["unknown"]),
            (Some("42"), Some("3"), Some("http:https"), &["http", "https", "unknown"]),
        ] {
            assert_eq!(passed(pid, count, names, 42).expect("valid"), expected);
        }
        for count in ["-1", "x", "", "1000000"] {
            assert_eq!(passed(Some("42"), Some(count), None, 42).expect_err(count).exit_code(), 100);
        }
    }
}
