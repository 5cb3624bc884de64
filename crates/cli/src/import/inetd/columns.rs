//! The columns of a line that hold more than one value: flags, user, and the path of a Unix socket.

use crate::import::service::{ImportedService, ServedBy};

/// `nowait`, with limits: `nowait.MAX` or `nowait:MAX` (OpenBSD, NetBSD, GNU, Debian),
/// `nowait/CHILDREN/PER-MINUTE/CHILDREN-PER-ADDRESS` (FreeBSD; 0 for no limit).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Connections a minute, beyond which inetd switches the service off for ten minutes.
    per_minute: Option<u32>,
    children: Option<u32>,
    per_address_and_minute: Option<u32>,
    per_address: Option<u32>,
}

impl Flags {
    pub(super) fn parse(text: &str) -> Result<Flags, String> {
        let bad = || format!("{text} is neither wait nor nowait with a limit");
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        if text.starts_with("wait") {
            return Err("its program accepts for itself (wait)".into());
        }
        let limits = text.strip_prefix("nowait").ok_or_else(bad)?;
        let mut flags = Flags::default();
        if let Some(limits) = limits.strip_prefix('/') {
            let all = limits.split('/').map(number).collect::<Result<Vec<u32>, String>>()?;
            let at = |index: usize| all.get(index).copied().filter(|most| *most > 0);
            (flags.children, flags.per_address_and_minute, flags.per_address) = (at(0), at(1), at(2));
            if all.len() > 3 {
                return Err(bad());
            }
        } else if let Some(most) = limits.strip_prefix(['.', ':']) {
            flags.per_minute = Some(number(most)?);
        } else if !limits.is_empty() {
            return Err(bad());
        }
        Ok(flags)
    }

    pub(super) fn apply(&self, found: &mut ImportedService) {
        if let Some(most) = self.per_minute {
            // A source alone cannot exceed the rate of all together.
            if most > 0 {
                found.set("rate-per-source", format!("{most}/min"));
            }
            found.note(format!(
                "at most {most} connections a minute from all clients together, and then none for ten minutes: rate-per-source limits each source instead"
            ));
        }
        if let Some(most) = self.children {
            found.set("max-connections", most.to_string());
        }
        if let Some(most) = self.per_address_and_minute {
            found.set("rate-per-source", format!("{most}/min"));
        }
        if let Some(most) = self.per_address {
            found.set("max-connections-per-source", most.to_string());
        }
    }
}

/// `user.group` or `user:group/class`.
///
/// # Errors
/// The user is a number: inetd looks up names only.
pub(super) fn identity(found: &mut ImportedService, user: &str) -> Result<(), String> {
    let (user, class) = user.split_once('/').map_or((user, None), |(user, class)| (user, Some(class)));
    let split = user.split_once(':').or_else(|| user.split_once('.'));
    let (user, group) = split.map_or((user, None), |(user, group)| (user, Some(group)));
    if user.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("there is no user of the name {user}"));
    }
    if let Some(class) = class {
        found.note(format!("the login class {class}"));
    }
    if matches!(found.served_by, ServedBy::Program(_)) {
        found.set("user", user);
        // inetd leaves its own HOME, USER, LOGNAME and SHELL.
        found.set("set-login-environment", "no");
        group.into_iter().for_each(|group| found.set("group", group));
    }
    Ok(())
}

/// `sndbuf=64k,rcvbuf=1m` (OpenBSD, NetBSD, Debian).
pub(super) fn buffer_sizes(found: &mut ImportedService, sizes: &str) {
    for size in sizes.split(',').filter(|size| size.contains('=')) {
        match size.split_once('=') {
            Some(("sndbuf", size)) => found.set("send-buffer", size.to_ascii_uppercase()),
            Some(("rcvbuf", size)) => found.set("receive-buffer", size.to_ascii_uppercase()),
            _ => found.note(size),
        }
    }
}

/// A Unix socket: its path, or `:USER:GROUP:MODE:PATH` (FreeBSD).
pub(super) fn unix(found: &mut ImportedService, service: &str) -> Result<(), String> {
    let path = match service.strip_prefix(':') {
        None => {
            // Otherwise the file belongs to root alone.
            found.set("socket-mode", "0600");
            service
        }
        Some(rest) => match rest.splitn(4, ':').collect::<Vec<_>>()[..] {
            [user, group, mode, path] => {
                found.set("socket-user", user);
                found.set("socket-group", group);
                found.set("socket-mode", mode);
                path
            }
            _ => return Err("its path is not understood".into()),
        },
    };
    found.listen.push(format!("unix:{path}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let none = Flags::default;
        for (text, meant) in [
            ("nowait", Some(none())),
            ("nowait.60", Some(Flags { per_minute: Some(60), ..none() })),
            ("nowait:60", Some(Flags { per_minute: Some(60), ..none() })),
            ("nowait/5", Some(Flags { children: Some(5), ..none() })),
            (
                "nowait/0/30/2",
                Some(Flags { per_address_and_minute: Some(30), per_address: Some(2), ..none() }),
            ),
            ("nowait.", None),
            ("nowait/", None),
            ("nowait/1/2/3/4", None),
            ("nowait-1", None),
            ("later", None),
        ] {
            assert_eq!(Flags::parse(text).ok(), meant, "{text}");
        }
    }
}
