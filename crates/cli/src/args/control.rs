//! The control socket.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args as ClapArgs;
use tine::cli::UPGRADE_TIMEOUT;
use tine::{Control, Identity, Server, Services, defaults};

use crate::error::Error;

/// Above the options of the control socket, which concern the server as a whole.
pub const HEADING: &str = "Control";

/// The options of the control socket.
#[derive(ClapArgs, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = HEADING)]
pub struct ControlOptions {
    /// Control socket, for `tine status`, `list`, `kill` and others; none: no socket [default:
    /// NAME.sock in /run/tine for root, in $XDG_RUNTIME_DIR/tine otherwise]
    #[arg(long, value_name = "PATH|none")]
    pub control: Option<ControlPlace>,

    /// Name of the server, by which commands find it [default: the name of the configuration, or
    /// the first port]
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub name: Option<String>,

    /// Group whose members may read from the control socket
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,

    /// Directory in which bans are kept for the next start; none: they end with the server
    /// [default: $STATE_DIRECTORY, or /var/lib/tine for root, or $XDG_STATE_HOME/tine]
    #[arg(long, value_name = "DIR|none")]
    pub state_directory: Option<ControlPlace>,

    /// Directory in which reports of connections that have crashed are kept, for `tine crashes`:
    /// those that have ended by a signal or a panic [default: none]
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub crash_dir: Option<PathBuf>,

    /// Number of ended connections that are remembered for `tine list --ended`
    #[arg(long, value_name = "N", default_value_t = defaults::HISTORY, value_parser = super::number::<usize>(0, 1_000_000))]
    pub history: usize,

    /// Time that newer processes have to accept clients in a reload or upgrade; then the server
    /// goes on as before
    #[arg(long, value_name = "DURATION", default_value = super::shown(UPGRADE_TIMEOUT), value_parser = super::positive)]
    pub upgrade_timeout: Duration,
}

/// The value of `--control` and of `--state-directory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPlace {
    /// No control socket.
    None,
    /// At this path.
    At(PathBuf),
}

impl FromStr for ControlPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlPlace, String> {
        match text {
            "" => Err("write a path, or none".into()),
            "none" => Ok(ControlPlace::None),
            path => Ok(ControlPlace::At(path.into())),
        }
    }
}

/// A path as it is here, wherever a program works later.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|_| "write the path of a directory".into())
}

/// A name that can be that of a file.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    match !text.is_empty() && text.len() <= 64 && !text.starts_with('.') && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 letters, digits, '-', '_' and '.'".into()),
    }
}

impl ControlOptions {
    /// The server with this control socket. `name` is its name unless one was given.
    ///
    /// # Errors
    /// There is no such group.
    pub fn apply(&self, server: Server, name: &str) -> Result<Server, Error> {
        Ok(self.apply_records(server.control(self.control(name)?)))
    }

    /// The server with what it keeps of connections that have ended.
    pub fn apply_records(&self, server: Server) -> Server {
        let server = server.history(self.history);
        match &self.crash_dir {
            Some(directory) => server.crash_dir(directory),
            None => server,
        }
    }

    /// The services with this control socket.
    ///
    /// # Errors
    /// There is no such group.
    pub fn apply_to_all(&self, services: Services, name: &str) -> Result<Services, Error> {
        Ok(services.control(self.control(name)?))
    }

    fn control(&self, name: &str) -> Result<Control, Error> {
        let control = match &self.control {
            Some(ControlPlace::None) => return Ok(Control::none()),
            Some(ControlPlace::At(path)) => Control::at(path),
            None => Control::named(self.name.as_deref().unwrap_or(&as_name(name))),
        };
        let control = match &self.state_directory {
            Some(ControlPlace::None) => control.state_directory(None),
            Some(ControlPlace::At(path)) => control.state_directory(Some(path.clone())),
            None => control,
        };
        match &self.control_group {
            Some(group) => Ok(control.group(Identity::of_group(group)?.gid)),
            None => Ok(control),
        }
    }
}

/// A text as a name: other characters become dashes.
fn as_name(text: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let name: String =
        text.chars().take(64).map(|character| if fits(character) { character } else { '-' }).collect();
    if server_name(&name).is_ok() { name } else { "tine".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for (text, is_name) in
            [("web", true), ("web-1.b_c", true), ("", false), (".", false), ("a/b", false), ("é", false)]
        {
            assert_eq!(server_name(text).is_ok(), is_name, "{text}");
        }
        for (text, name) in [("9999", "9999"), ("my file", "my-file"), ("", "tine"), (".hidden", "tine")] {
            assert_eq!(as_name(text), name);
        }
        assert!("".parse::<ControlPlace>().is_err());
        assert_eq!("none".parse(), Ok(ControlPlace::None));
    }
}
