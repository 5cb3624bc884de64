//! The target of the log, as the log writer has it open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::ROLE;
use crate::error::{Error, next_move};
use crate::jail::protection::empty_bounding_set;
use crate::log::{Log, LogTarget};
use crate::processes::own_confinement::ConfinedRole;

/// Where syslog receives local messages (syslog(3)).
const SYSLOG: &str = "/dev/log";

/// Where the journal receives entries (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The target, open or not.
pub(super) struct Destination {
    path: PathBuf,
    is_file: bool,
    open: Option<OwnedFd>,
    /// The file has the beginning of a line whose rest it did not take.
    is_torn: bool,
    /// The only files and directories in which this process may open a file, once it is confined.
    confined_to: Option<Vec<LogPlace>>,
}

/// A file or directory, by its path and as the kernel knows it.
#[derive(Clone, Debug)]
struct LogPlace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl LogPlace {
    fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Yes,
    /// The target does not take this line, and would not take it later.
    Lost(Errno),
    /// The target takes no line now.
    NotNow,
}

impl Destination {
    /// The destination of a target, not open yet.
    pub(super) fn new(target: &LogTarget) -> Destination {
        let (path, is_file) = match target {
            LogTarget::File(path) => (path.clone(), true),
            LogTarget::Journal => (JOURNAL.into(), false),
            LogTarget::Syslog | LogTarget::Stderr => (SYSLOG.into(), false),
        };
        Destination { path, is_file, open: None, is_torn: false, confined_to: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is, for errors.
    pub(super) fn name(&self) -> String {
        match self.is_file {
            true => format!("the log file {}", self.path.display()),
            false => self.path.display().to_string(),
        }
    }

    /// Opens it, in place of what is open. After an error, what was open stays so.
    ///
    /// # Errors
    /// open(2), connect(2).
    pub(super) fn open(&mut self) -> Result<(), Errno> {
        let open = if self.is_file { open_file(&self.path) } else { connect(&self.path) };
        self.open = Some(open?);
        self.is_torn = false;
        Ok(())
    }

    /// Confines this process once it has opened the target.
    pub(super) fn confine(&mut self, stderr: &mut Log) {
        if self.open.is_none() || self.confined_to.is_some() {
            return;
        }
        let places = if self.is_file { places_of(&self.path) } else { Vec::new() };
        let paths = places.iter().map(|place| place.path.clone()).collect();
        empty_bounding_set();
        let role = ConfinedRole::LogWriter(self.is_file.then_some(paths));
        role.confine(ROLE).iter().for_each(|warning| stderr.warning(warning));
        self.confined_to = Some(places);
    }

    /// Whether the path leads to another directory than the one that this process is confined to.
    pub(super) fn was_moved(&self) -> bool {
        let ids = |places: &[LogPlace]| -> Vec<(u64, u64)> { places.iter().map(LogPlace::id).collect() };
        self.confined_to.as_ref().is_some_and(|places| ids(places) != ids(&places_of(&self.path)))
    }

    /// The error of a target that cannot be opened at the start.
    pub(super) fn cannot_open(&self, why: Errno) -> Error {
        let why: io::Error = why.into();
        let next = match self.is_file {
            true => next_move::of_file(&why),
            false => "start the daemon that receives messages there, or choose another target of the log",
        };
        Error::system(format_args!("cannot log to {}", self.path.display()), &why, next)
    }

    /// What is open, to wait until it takes lines.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(AsFd::as_fd)
    }

    /// Writes a line. A daemon that was restarted is connected to again.
    pub(super) fn write(&mut self, line: &[u8]) -> Written {
        if self.open.is_none() && self.open().is_err() {
            return Written::NotNow;
        }
        match (self.is_file, &self.open) {
            (true, Some(file)) => {
                let end_of_torn = if self.is_torn { &b"\n"[..] } else { b"" };
                let written = write_to_file(file, end_of_torn, line);
                self.is_torn = written.map_or(self.is_torn, |is_whole| !is_whole);
                match written {
                    Ok(true) => Written::Yes,
                    Ok(false) => Written::Lost(Errno::NOSPC),
                    Err(why) => of_file_error(why),
                }
            }
            (false, Some(socket)) => match self.send(socket, line) {
                Ok(()) => Written::Yes,
                Err(Errno::MSGSIZE) => Written::Lost(Errno::MSGSIZE),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Written::NotNow,
                // The daemon has ended, or another one has its name now.
                Err(_) => {
                    self.open = None;
                    match self.open() {
                        Ok(()) => self.write_again(line),
                        Err(_) => Written::NotNow,
                    }
                }
            },
            (_, None) => Written::NotNow,
        }
    }

    fn write_again(&mut self, line: &[u8]) -> Written {
        match self.open.as_ref().map(|socket| self.send(socket, line)) {
            Some(Ok(())) => Written::Yes,
            Some(Err(Errno::MSGSIZE)) => Written::Lost(Errno::MSGSIZE),
            _ => Written::NotNow,
        }
    }

    fn send(&self, socket: &OwnedFd, line: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::io::retry_on_intr(|| rustix::net::send(socket, line, flags)).map(drop)
    }
}

/// Where a log file is opened again: the directories of its path and of the file that this leads
/// to; for a pipe or a device only that itself, as its directory has others.
fn places_of(path: &Path) -> Vec<LogPlace> {
    let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_regular = std::fs::metadata(&file).map_or(true, |metadata| metadata.is_file());
    let paths = match is_regular {
        true => vec![directory_of(path), directory_of(&file)],
        false => vec![file],
    };
    let place = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        Some(LogPlace { path, device: metadata.dev(), inode: metadata.ino() })
    };
    let mut places: Vec<LogPlace> = paths.into_iter().filter_map(place).collect();
    places.dedup_by_key(|place| place.id());
    places
}

fn directory_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Appends a line. False if the file has taken only a part of it.
fn write_to_file(file: &OwnedFd, end_of_torn: &[u8], line: &[u8]) -> Result<bool, Errno> {
    let bytes = [end_of_torn, line].concat();
    let length = rustix::io::retry_on_intr(|| rustix::io::write(file, &bytes))?;
    Ok(length == bytes.len())
}

/// What becomes of a line after an error of write(2).
fn of_file_error(why: Errno) -> Written {
    match why {
        // A pipe or terminal whose reader is behind.
        Errno::AGAIN => Written::NotNow,
        why => Written::Lost(why),
    }
}

/// Opens a log file for appending, so that what another process cuts off it (`copytruncate` of
/// logrotate(8)) leaves no hole. A pipe without a reader is an error instead of a wait.
fn open_file(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    // Like system logs: readable by the group only.
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, mode))
}

/// Connects to the datagram socket of a daemon.
fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tine-destination-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a directory");
        folder
    }

    #[test]
    fn a_full_device_loses_lines_and_a_full_pipe_does_not() {
        let mut full = Destination::new(&LogTarget::File("/dev/full".into()));
        assert_eq!(full.write(b"x\n"), Written::Lost(Errno::NOSPC));
        let folder = folder("pipe");
        let path = folder.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("ours");
        let mut pipe = Destination::new(&LogTarget::File(path.clone()));
        assert_eq!(pipe.open().expect_err("no reader"), Errno::NXIO);
        let _reader = std::fs::File::options().read(true).write(true).open(&path).expect("ours");
        let line = [b'x'; 4096];
        while pipe.write(&line) == Written::Yes {}
        assert_eq!(pipe.write(&line), Written::NotNow);
        std::fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn a_daemon_that_was_restarted_is_connected_to_again() {
        let folder = folder("daemon");
        let path = folder.join("socket");
        let mut destination =
            Destination { path: path.clone(), is_file: false, open: None, is_torn: false, confined_to: None };
        assert_eq!(destination.write(b"before"), Written::NotNow);
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).expect("a free name");
            assert_eq!(destination.write(b"line"), Written::Yes);
            let mut buffer = [0; 8];
            assert_eq!(daemon.recv(&mut buffer).expect("a message"), 4);
            drop(daemon);
            std::fs::remove_file(&path).expect("ours");
            assert_eq!(destination.write(b"between"), Written::NotNow);
        }
        let _daemon = UnixDatagram::bind(&path).expect("a free name");
        assert_eq!(destination.write(&vec![b'x'; 8 << 20]), Written::Lost(Errno::MSGSIZE));
        while destination.write(b"nobody reads") == Written::Yes {}
        assert_eq!(destination.write(b"nobody reads"), Written::NotNow);
        std::fs::remove_dir_all(folder).expect("ours");
    }
}
