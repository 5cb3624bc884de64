//! The facts about connections that have crashed, on their way to the stderr logger, which writes
//! the reports.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use crate::error::{Error, next_move};
use crate::ipc::messages::{CrashMessage, Sender};
use crate::lifecycle::crash::CrashNote;
use crate::log::limit::{Emit, LineLimit};
use crate::settings::Settings;
use crate::system::kernel_log::KernelLog;
use crate::watch::crash::{CrashContext, CrashedCode};
use crate::watch::history::EndedConnection;

/// Reports a second; the crashes beyond are counted as all others, and have none.
const REPORTS_PER_SECOND: u64 = 10;

/// What a supervisor has for crash reports.
#[derive(Debug)]
pub(super) struct CrashReports {
    pub(super) directory: PathBuf,
    /// For the stderr logger.
    pub(super) kernel_log: Option<KernelLog>,
    context: CrashContext,
    limit: LineLimit,
}

impl CrashReports {
    /// Makes the directory of the reports, if there are to be any. `handler` is the name of its
    /// type.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn prepare(
        settings: &Settings,
        handler: &'static str,
        place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>,
    ) -> Result<Option<CrashReports>, Error> {
        let Some(directory) = &settings.crash_dir else { return Ok(None) };
        let directory = match &settings.service {
            Some(service) => directory.join(service),
            None => directory.clone(),
        };
        make(&directory, settings).map_err(|why| {
            let what = format!("cannot make the directory of crash reports {}", directory.display());
            Error::system(what, &why, next_move::of_file(&why))
        })?;
        let runs = match &settings.program {
            Some(program) => CrashedCode::Program(program.shown_words()),
            None => CrashedCode::Handler(handler),
        };
        let context = CrashContext { service: settings.service.clone(), runs, privacy: settings.privacy };
        let kernel_log = settings.program.is_some().then(KernelLog::open).flatten();
        let kernel_log = kernel_log.and_then(|kernel_log| kernel_log.place(place));
        let limit = LineLimit::of(REPORTS_PER_SECOND);
        Ok(Some(CrashReports { directory, kernel_log, context, limit }))
    }

    /// Sends the facts about a connection that has crashed. Without descriptors or memory, or if
    /// the logger is behind, there is no report; the crash is counted and logged as all others.
    pub(super) fn send(&mut self, end: &EndedConnection, note: &CrashNote, logger: &Sender<CrashMessage>) {
        let now = Instant::now();
        let _ = self.limit.due(now);
        if self.limit.event(now) == Emit::Summary {
            return;
        }
        let facts = self.context.facts(end, note, SystemTime::now());
        if let Ok(file) = in_memory(&serde_json::Value::Object(facts).to_string()) {
            let message = CrashMessage::Crash { connection: end.id, pid: end.pid };
            let _ = logger.send(file.as_fd(), &message);
        }
    }
}

/// Makes the directory and those above it, if they are missing: for the user of the connections,
/// who alone may look into it.
fn make(directory: &Path, settings: &Settings) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    DirBuilder::new().mode(0o700).create(directory)?;
    match &settings.identity {
        Some(identity) => chown(directory, identity.uid, Some(identity.gid)),
        None => Ok(()),
    }
}

/// A file in memory with a text.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(tine_sys::memory::file(c"tine-crash")?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}
