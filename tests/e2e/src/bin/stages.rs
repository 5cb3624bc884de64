//! A server whose handler has steps of its own: it tells each client how often they have run. The
//! first argument selects how many processes wait and what fails; the second is a file that
//! `on_start` opens.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use tine::{Connection, Handler, HandlerError, LogFormat, Server, Services};

/// More descriptors than there are free numbers below those of the server, whatever this process
/// has inherited: the socket of a client has a number above them.
const FILES: usize = 500;

struct Stages {
    fails: String,
    path: PathBuf,
    files: Vec<File>,
    starts: usize,
    children: usize,
    served: usize,
}

impl Handler for Stages {
    fn on_start(&mut self) -> Result<(), HandlerError> {
        match self.fails.as_str() {
            "start-error" => return Err("no table".into()),
            "start-panic" => panic!("no chair"),
            "start-thread" => drop(std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            })),
            _ => {}
        }
        self.files = (0..FILES).map(|_| File::open(&self.path)).collect::<Result<_, _>>()?;
        self.starts += 1;
        Ok(())
    }

    fn on_child(&mut self) -> Result<(), HandlerError> {
        if self.fails == "child-error" {
            return Err("no spoon".into());
        }
        self.children += 1;
        Ok(())
    }

    fn serve(&mut self, mut connection: Connection) -> Result<(), HandlerError> {
        self.served += 1;
        while let Some(line) = connection.next_line(100)? {
            let mut text = [0; 4];
            for file in &self.files {
                file.read_exact_at(&mut text, 0)?;
            }
            let text = String::from_utf8_lossy(&text);
            let Stages { starts, children, served, .. } = self;
            write!(connection, "{line}: {text} {starts} {children} {served}")?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, path] = &arguments[..] else { panic!("usage: stages MODE FILE") };
    match serve(mode, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn serve(mode: &str, path: &str) -> Result<(), tine::Error> {
    let (files, fails) = (Vec::new(), mode.to_owned());
    let stages = Stages { fails, path: path.into(), files, starts: 0, children: 0, served: 0 };
    let server = Server::bind("127.0.0.1:0")?.log_format(LogFormat::Json).forkers(1);
    match mode {
        "service" => {
            Services::new().handler("one", server, stages).log_format(LogFormat::Json).print_ports(true).run()
        }
        "spares" => server.print_ports(true).spares(2).run_handler(stages),
        "workers" => server.print_ports(true).spares(1).reuse(3).run_handler(stages),
        _ => server.print_ports(true).run_handler(stages),
    }
}
