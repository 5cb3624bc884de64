//! The commands that replace a running server by its next generation: `reload`, `upgrade`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::ask;
use super::target::Target;
use super::text::field;
use crate::commands::describe::print;
use crate::error::Error;
use crate::exit;

/// `tine reload`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("reload"))]
pub struct Reload {
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `tine upgrade`.
#[derive(ClapArgs, Debug)]
#[command(after_help = exit::help("upgrade"))]
pub struct Upgrade {
    /// Binary that replaces the server [default: the file that the server was started from]
    #[arg(value_name = "BINARY")]
    pub binary: Option<PathBuf>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Reads the configuration again, and waits until the server has it.
pub(crate) fn reload(args: &Reload) -> Result<ExitCode, Error> {
    replace(&args.target, &json!({ "version": 1, "command": "reload" }))
}

/// Replaces the server, and waits until the next generation accepts.
pub(crate) fn upgrade(args: &Upgrade) -> Result<ExitCode, Error> {
    let binary = args.binary.as_ref().map(|path| {
        std::path::absolute(path).map_err(|why| {
            let what = format!("cannot make {} an absolute path", path.display());
            Error::system(what, &why, "name the binary by its absolute path")
        })
    });
    let binary = binary.transpose()?.map(|path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Error::usage(format_args!("{} is not UTF-8", path.display()), "name the binary by a path that is")
        })
    });
    let binary = binary.transpose()?;
    replace(&args.target, &json!({ "version": 1, "command": "upgrade", "binary": binary }))
}

fn replace(target: &Target, request: &Value) -> Result<ExitCode, Error> {
    let mut said = String::new();
    ask(target.connect()?, request, |line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        said = field(&line, "text");
        Ok(())
    })?;
    print(format!("{said}\n").as_bytes())
}
