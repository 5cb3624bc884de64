//! Which server a command is about.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use tine::cli::{control_directories, next_move};

use crate::error::Error;

/// The server that a command is about.
#[derive(ClapArgs, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Server")]
pub struct Target {
    /// Control socket of the server
    #[arg(long, value_name = "PATH", conflicts_with = "server")]
    pub control: Option<PathBuf>,

    /// Name of the server [default: the only one that runs]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

impl Target {
    /// Connects to the server.
    ///
    /// # Errors
    /// It does not run, or may not be reached by this user; or several run and none is named.
    pub(super) fn connect(&self) -> Result<UnixStream, Error> {
        match (&self.control, &self.server) {
            (Some(path), _) => UnixStream::connect(path).map_err(|why| cannot_connect(path, &why)),
            (None, Some(name)) => connect_named(name),
            (None, None) => connect_only(),
        }
    }
}

fn connect_named(name: &str) -> Result<UnixStream, Error> {
    let mut paths = control_directories().into_iter().map(|directory| directory.join(format!("{name}.sock")));
    let path = paths.find(|path| path.exists());
    let Some(path) = path else {
        let next = match running() {
            running if running.is_empty() => "none runs: start it".to_owned(),
            running => format!("choose one of {}", names(&running)),
        };
        return Err(Error::nothing_runs(format_args!("there is no server {name}"), next));
    };
    UnixStream::connect(&path).map_err(|why| cannot_connect(&path, &why))
}

fn connect_only() -> Result<UnixStream, Error> {
    let running = running();
    match &running[..] {
        [] => {
            let next = "start one (`tine serve`), or name its control socket (--control PATH)";
            Err(Error::nothing_runs("no server runs", next))
        }
        [path] => UnixStream::connect(path).map_err(|why| cannot_connect(path, &why)),
        several => Err(Error::usage(
            format_args!("{} servers run", several.len()),
            format_args!("choose one with --server: {}", names(several)),
        )),
    }
}

/// The control sockets of the servers that run, or that this user may not reach.
fn running() -> Vec<PathBuf> {
    let mut running = Vec::new();
    for directory in control_directories() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
        let is_alive = |path: &PathBuf| {
            UnixStream::connect(path)
                .map_or_else(|why| why.kind() == io::ErrorKind::PermissionDenied, |_| true)
        };
        running.extend(sockets.filter(is_alive));
    }
    running.sort();
    running
}

fn names(paths: &[PathBuf]) -> String {
    let names = paths.iter().filter_map(|path| path.file_stem()?.to_str());
    names.collect::<Vec<_>>().join(", ")
}

fn cannot_connect(path: &Path, why: &io::Error) -> Error {
    let what = format!("cannot connect to {}", path.display());
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::nothing_runs(format_args!("no server runs at {}", path.display()), "start it")
        }
        io::ErrorKind::PermissionDenied => Error::system(
            what,
            why,
            "run the command as root or as the user of the server, or start that with --control-group",
        ),
        _ => Error::system(what, why, next_move::of_file(why)),
    }
}
