//! Access rules: which clients are allowed, and when.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tine::{Access, AccessRules, Server};

use crate::error::Error;

/// The access rules.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Access")]
pub struct AccessOptions {
    /// Allow only these addresses (everything else is denied unless a rule allows it); may be
    /// repeated [an address, a block as in 192.0.2.0/24, or any; with --reverse-dns, =HOST or
    /// =.DOMAIN; for clients of Unix sockets, uid:USER or gid:GROUP; of vsock sockets,
    /// vsock:CID]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,

    /// Deny these addresses; the most specific of all rules decides; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub deny: Vec<String>,

    /// Read rules from FILE, in the format of tcprules, and again when it changes; may be repeated
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<PathBuf>,

    /// Allow clients only at these times of the day, in local time, as in 08:00-17:00 or 'Mon-Fri
    /// 08:00-17:00'; may be repeated
    #[arg(long, value_name = "TIMES")]
    pub access_times: Vec<String>,
}

impl AccessOptions {
    /// The server with these rules. They can be about host names if those are looked up.
    ///
    /// # Errors
    /// A rule is invalid, or a file cannot be read.
    pub fn apply(&self, server: Server, reverse_dns: bool) -> Result<Server, Error> {
        Ok(match self.access(reverse_dns)? {
            Some(access) => server.access(access),
            None => server,
        })
    }

    /// The rules, if there are any.
    ///
    /// # Errors
    /// As [`AccessOptions::apply`].
    pub fn access(&self, reverse_dns: bool) -> Result<Option<Access>, Error> {
        let rules = AccessRules::new().reverse_dns(reverse_dns);
        let rules = self.allow.iter().try_fold(rules, |rules, client| allow(rules, client))?;
        let rules = self.deny.iter().try_fold(rules, |rules, client| match is_local(client) {
            true => rules.deny_local(client),
            false => rules.deny(client),
        })?;
        let rules = self.rules.iter().try_fold(rules, |rules, path| rules.file(path))?;
        Ok(built(self.access_times.iter().try_fold(rules, |rules, times| rules.times(times))?))
    }
}

fn allow(rules: AccessRules, client: &str) -> Result<AccessRules, tine::Error> {
    match is_local(client) {
        true => rules.allow_local(client),
        false => rules.allow(client),
    }
}

/// Whether a rule is about clients of Unix or vsock sockets.
fn is_local(client: &str) -> bool {
    ["uid:", "gid:", "vsock:"].iter().any(|prefix| client.starts_with(prefix))
}

/// Rules that allow these clients, if there are any.
///
/// # Errors
/// A block is invalid, or there is no such user.
pub fn allowed(clients: &[String]) -> Result<Option<Access>, Error> {
    Ok(built(clients.iter().try_fold(AccessRules::new(), |rules, client| allow(rules, client))?))
}

fn built(rules: AccessRules) -> Option<Access> {
    (!rules.is_empty()).then(|| rules.build())
}
