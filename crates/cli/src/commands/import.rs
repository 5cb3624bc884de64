//! `tine import`: converts the configuration of another super-server or jail.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, ValueEnum};
use tine::cli::{next_move, reason, resolve, service_port};

use crate::commands::describe::print;
use crate::diagnostics::diagnostic;
use crate::error::Error;
use crate::exit;
use crate::import::{World, inetd, nsjail, redpwn, systemd, xinetd};

/// `tine import`.
#[derive(ClapArgs, Debug)]
#[command(after_help = format!("{AFTER_HELP}\n{}", exit::help("import")))]
pub struct Import {
    /// Format of the configuration
    #[arg(value_name = "FORMAT", value_enum)]
    pub format: ImportFormat,

    /// The configuration; the files that it includes are read, too
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Also import disabled services
    #[arg(long)]
    pub all: bool,
}

/// The formats that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// xinetd.conf(5)
    Xinetd,
    /// inetd.conf, of the BSDs, GNU and Debian
    Inetd,
    /// A socket unit with Accept=yes; its service and the drop-ins of both are beside it
    Systemd,
    /// A run script of daemontools, runit or s6 that starts tcpserver, s6-tcpserver or s6-ipcserver
    Run,
    /// A configuration of nsjail: a message of protocol buffers as text
    Nsjail,
    /// Variables JAIL_* of the image pwn.red/jail: a Dockerfile, or a file with NAME=VALUE in each
    /// line
    RedpwnJail,
}

const AFTER_HELP: &str = "A comment beside each service lists what has no equivalent. Validate the result with `tine check`, \
which also looks up users and programs.";

/// Prints the equivalent configuration, and a summary on standard error.
pub(crate) fn run(args: &Import) -> Result<ExitCode, Error> {
    let file = args.file.display();
    let text = Machine.read(&args.file).map_err(|why| {
        Error::usage(format_args!("cannot read {file}: {}", reason(&why)), next_move::of_file(&why))
    })?;
    let (format, import) = match args.format {
        ImportFormat::Xinetd => ("xinetd", xinetd::import(&text, &args.file, &Machine, args.all)),
        ImportFormat::Inetd => ("inetd", inetd::import(&text, &file.to_string(), &Machine, args.all)),
        ImportFormat::Systemd => ("systemd", systemd::import(&text, &args.file, &Machine)),
        ImportFormat::Nsjail => ("nsjail", nsjail::import(&text, &args.file)),
        ImportFormat::RedpwnJail => ("redpwn-jail", redpwn::import(&text, &args.file)),
        ImportFormat::Run => ("run", crate::import::run::import(&text, &args.file, &Machine)),
    };
    let (served, left, notes) = import.counts();
    let head = format!(
        "# Made from {file} by `tine import {format}`. Validate it with `tine check`, serve it with `tine serve --config`.\n"
    );
    print((head + &import.to_string()).as_bytes())?;
    let summary = format!("{served} services, {left} left out, {notes} notes: see the comments");
    if served == 0 {
        return Err(Error::usage(
            format_args!("{file}: {summary}"),
            match args.format {
                ImportFormat::Xinetd | ImportFormat::Inetd => "give --all to import disabled services, too",
                _ => "the comment has the reason",
            },
        ));
    }
    diagnostic!("tine: {file}: {summary}");
    Ok(ExitCode::SUCCESS)
}

/// This machine: its files, which need not be UTF-8, its hosts and ports.
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
