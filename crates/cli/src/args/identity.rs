//! User and groups of the processes that serve.

use clap::Args as ClapArgs;
use tine::{Identity, Server};

use crate::error::Error;

/// The user and groups.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "User")]
pub struct IdentityOptions {
    /// User of the processes that serve, by name or number; the addresses are bound before
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Group of the processes that serve, by name or number
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Supplementary groups: names or numbers separated by commas, or none [default: those of the
    /// user]
    #[arg(long, value_name = "GROUPS")]
    pub supplementary_groups: Option<String>,
}

impl IdentityOptions {
    /// The server with this user and these groups.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        Ok(match self.identity()? {
            Some(identity) => server.identity(identity),
            None => server,
        })
    }

    fn identity(&self) -> Result<Option<Identity>, Error> {
        let identity = match (&self.user, &self.group) {
            (Some(user), Some(group)) => Some(Identity::of_user_and_group(user, group)?),
            (Some(user), None) => Some(Identity::of_user(user)?),
            (None, Some(group)) => Some(Identity::of_group(group)?),
            (None, None) => None,
        };
        match (identity, &self.supplementary_groups) {
            (identity, None) => Ok(identity),
            (Some(identity), Some(groups)) => Ok(Some(identity.with_groups(groups)?)),
            (None, Some(_)) => {
                Err(Error::usage("--supplementary-groups needs a user or a group", "give --user or --group"))
            }
        }
    }
}
