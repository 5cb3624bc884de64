//! `tine import`: another super-server's configuration, as tine's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tine::cli::{reason, resolve, service_port};

use crate::error::Error;

use crate::args::{Import, ImportKind};
use crate::commands::describe::print;
use crate::import::{World, inetd, xinetd};

/// Prints what the file means, and says on standard error how much of it that is.
pub fn run(args: &Import) -> Result<ExitCode, Error> {
    let file = args.file.display();
    let text = Machine.read(&args.file).map_err(|why| {
        Error::usage(format_args!("cannot read {file}: {}", reason(&why)), "name a file that can be read")
    })?;
    let (kind, import) = match args.kind {
        ImportKind::Xinetd => ("xinetd", xinetd::import(&text, &args.file, &Machine, args.all)),
        ImportKind::Inetd => ("inetd", inetd::import(&text, &file.to_string(), &Machine, args.all)),
    };
    let (served, left, notes) = import.counts();
    let head = format!(
        "# Made from {file} by `tine import {kind}`. Look at it with `tine check`, serve it with `tine serve --config`.\n"
    );
    print((head + &import.to_string()).as_bytes())?;
    let said = format!("{served} services, {left} left out, {notes} notes: see the comments");
    if served == 0 {
        return Err(Error::usage(format_args!("{file}: {said}"), "--all imports what is disabled, too"));
    }
    eprintln!("tine: {file}: {said}");
    Ok(ExitCode::SUCCESS)
}

/// This machine: its files, of which old ones need not be UTF-8, its hosts and ports.
struct Machine;

impl World for Machine {
    fn read(&self, file: &Path) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(file)?).into_owned())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        Ok(files)
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        resolve(host, 0).unwrap_or_default().iter().map(SocketAddr::ip).collect()
    }

    fn port(&self, name: &str) -> Option<u16> {
        service_port(name)
    }
}
