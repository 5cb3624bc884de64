//! Follows a program from its execution to the point that it could be copied at. It is told the
//! events of its tasks one by one, and says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tine_sys::process::How;
use tine_sys::trace::TraceEvent;

use super::call::{FileVersion, Look, NamedCall};
use super::file_changes::{FileChange, FileChanges, file_change};
use super::options::WarmUntil;
use super::stop::{AcceptCall, ConnectionFds, Marker, marker_looked_at};
use super::timers::IntervalTimers;

/// Where a program has stopped, or why it did not get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It is about to use its connection by this call, on this descriptor.
    Use(&'static str, i32),
    /// It is about to look at this path, by this call.
    Marker(&'static str, Marker),
    /// It is about to accept a client.
    Accept(AcceptCall),
    /// It would use the connection before it looks at a path of a marker.
    UsedBefore(&'static str, i32),
    /// A process that it has made would use the connection, or look at such a path: its program and
    /// the call.
    ByChild(String, &'static str),
    /// It has ended.
    Ended(How),
    /// This signal has stopped it.
    Halted(i32),
    /// Nothing of this within the time; the call that it is in, if it is in one.
    TimedOut(Option<&'static str>),
    /// It has executed a file that gives other rights.
    GainsRights(String),
    /// It makes system calls of another architecture than the server.
    Foreign,
    /// It has reached a point, and forbids others to look into it (`PR_SET_DUMPABLE`, prctl(2)).
    Hidden,
}

impl Reached {
    /// Whether the program could be copied here.
    pub(super) fn is_point(&self) -> bool {
        matches!(self, Reached::Use(..) | Reached::Marker(..) | Reached::Accept(_))
    }

    /// Whether each copy will renew the variables of its connection that the program has copied.
    pub(super) fn renews_variables(&self) -> bool {
        matches!(self, Reached::Marker(_, Marker::RenewsVariables))
    }
}

/// What to do after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchStep {
    /// Let the task run, with this signal.
    Resume(Option<i32>),
    /// The task stays as it is: the end of the watch.
    Over(Reached),
}

/// A thread of the program or of its children.
#[derive(Debug)]
struct Watched {
    /// The id of its process.
    process: i32,
    /// The key of its table of descriptors, which threads share.
    table: i32,
    /// The call that it is in.
    call: Option<NamedCall>,
    /// What the call changes if it succeeds.
    change: Option<FileChange>,
}

/// What is known of the program and its children.
#[derive(Debug)]
pub(super) struct Watch {
    main: i32,
    until: WarmUntil,
    tasks: BTreeMap<i32, Watched>,
    tables: BTreeMap<i32, ConnectionFds>,
    /// System calls of the program, threads included.
    pub(super) calls: u64,
    /// The programs that the process has executed one after the other; empty until the first one.
    pub(super) executed: Vec<String>,
    /// Threads that it has started.
    pub(super) threads: usize,
    pub(super) interval_timers: IntervalTimers,
    /// Timers that it has created (timer_create(2)), whether they are deleted or not.
    pub(super) timers_created: usize,
    /// The files that it has opened to read, or executed, up to here.
    pub(super) sources: BTreeMap<PathBuf, FileVersion>,
    /// The names of files that it and its children have changed.
    pub(super) file_changes: FileChanges,
}

impl Watch {
    pub(super) fn new(main: i32, until: WarmUntil) -> Watch {
        Watch {
            main,
            until,
            tasks: BTreeMap::from([(main, Watched { process: main, table: main, call: None, change: None })]),
            tables: BTreeMap::from([(main, ConnectionFds::default())]),
            calls: 0,
            executed: Vec::new(),
            threads: 0,
            interval_timers: IntervalTimers::default(),
            timers_created: 0,
            sources: BTreeMap::new(),
            file_changes: FileChanges::default(),
        }
    }

    /// The end of a watch whose time is over.
    pub(super) fn time_out(&self) -> Reached {
        let call = self.tasks.get(&self.main).and_then(|main| main.call);
        Reached::TimedOut(call.map(|call| call.name).filter(|name| !name.is_empty()))
    }

    /// Whether the program has several threads.
    pub(super) fn has_threads(&self) -> bool {
        self.tasks.values().filter(|task| task.process == self.main).count() > 1
    }

    /// The processes that the program or its children have made, and that have not ended.
    pub(super) fn others(&self) -> Vec<i32> {
        let processes = self.tasks.values().map(|task| task.process);
        let others: BTreeSet<i32> = processes.filter(|process| *process != self.main).collect();
        others.into_iter().collect()
    }

    /// Decides what to do after an event of a task.
    pub(super) fn on(&mut self, id: i32, event: &TraceEvent, look: &dyn Look) -> WatchStep {
        match *event {
            TraceEvent::Entry(call) => match NamedCall::of(&call) {
                Some(call) => return self.on_entry(id, call, look),
                None => return WatchStep::Over(Reached::Foreign),
            },
            TraceEvent::Exit(result) => self.on_exit(id, result, look),
            TraceEvent::Executed(former) => return self.on_execution(id, former, look),
            TraceEvent::Created(created) => self.on_creation(id, created, look),
            TraceEvent::Began => {}
            TraceEvent::Signal(signal) => {
                if self.is_main(id) {
                    self.interval_timers.note_signal(signal);
                }
                return WatchStep::Resume(Some(signal));
            }
            TraceEvent::Halted(signal) => return WatchStep::Over(Reached::Halted(signal)),
            TraceEvent::Ended(how) => {
                self.tasks.remove(&id);
                if id == self.main {
                    return WatchStep::Over(Reached::Ended(how));
                }
            }
        }
        WatchStep::Resume(None)
    }

    /// Whether a task is a thread of the program itself.
    fn is_main(&self, id: i32) -> bool {
        self.tasks.get(&id).is_some_and(|task| task.process == self.main)
    }

    fn on_entry(&mut self, id: i32, call: NamedCall, look: &dyn Look) -> WatchStep {
        let is_main = self.is_main(id);
        let Some(task) = self.tasks.get_mut(&id) else { return WatchStep::Resume(None) };
        (task.call, task.change) = (Some(call), file_change(&call, look));
        let point = point(self.until, self.tables.get(&task.table), &call, look);
        if is_main {
            self.calls += 1;
        }
        match point {
            Some(_) if !is_main => WatchStep::Over(Reached::ByChild(look.program_name(), call.name)),
            Some(point) => WatchStep::Over(point),
            None => {
                if is_main {
                    self.interval_timers.follow(&call, look);
                    self.timers_created += usize::from(call.name == "timer_create");
                }
                WatchStep::Resume(None)
            }
        }
    }

    fn on_exit(&mut self, id: i32, result: i64, look: &dyn Look) {
        let is_main = self.is_main(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let call = task.call.take();
        if let (true, Some("open" | "openat" | "openat2"), Ok(opened @ 0..)) =
            (is_main, call.map(|call| call.name), i32::try_from(result))
        {
            self.sources.extend(look.file_of(Some(opened)));
        }
        let change = task.change.take().filter(|_| result >= 0);
        change.into_iter().for_each(|change| self.file_changes.note(change));
        if let (Some(call), Some(fds)) = (call, self.tables.get_mut(&task.table)) {
            fds.follow(&call, result);
        }
    }

    fn on_execution(&mut self, id: i32, former: i32, look: &dyn Look) -> WatchStep {
        // The other threads are gone, and the one that has executed has the id of the process.
        if former != id {
            self.tasks.remove(&former);
        }
        self.tasks.retain(|other, task| *other == id || task.process != id);
        self.tasks.insert(id, Watched { process: id, table: id, call: None, change: None });
        // Those that are closed on execution are not in the list of the kernel any more.
        self.tables.insert(id, ConnectionFds(look.connection_descriptors()));
        if id == self.main {
            self.sources.extend(look.file_of(None));
            self.executed.push(look.program_name());
            self.threads = 0;
            self.timers_created = 0;
        }
        match look.rights_of_program() {
            Some(rights) => WatchStep::Over(Reached::GainsRights(rights)),
            None => WatchStep::Resume(None),
        }
    }

    fn on_creation(&mut self, id: i32, created: i32, look: &dyn Look) {
        let Some(maker) = self.tasks.get(&id) else { return };
        let flags = maker.call.map_or(0, |call| clone_flags(&call, look));
        let is_thread = flags & THREAD != 0;
        let process = if is_thread { maker.process } else { created };
        let shares = flags & SHARES_DESCRIPTORS != 0;
        let table = if shares { maker.table } else { created };
        if !shares && let Some(fds) = self.tables.get(&maker.table).cloned() {
            self.tables.insert(table, fds);
        }
        self.threads += usize::from(is_thread && process == self.main);
        self.tasks.insert(created, Watched { process, table, call: None, change: None });
    }
}

/// The point that a call is, if it is one, of a process with these descriptors of the connection.
fn point(
    until: WarmUntil,
    fds: Option<&ConnectionFds>,
    call: &NamedCall,
    look: &dyn Look,
) -> Option<Reached> {
    if until == WarmUntil::Accept {
        return fds?.accepted_by(call, look).map(Reached::Accept);
    }
    // A program that says that it is ready is ready, whatever it is watched for.
    if let Some(marker) = marker_looked_at(call, look) {
        return Some(Reached::Marker(call.name, marker));
    }
    let number = fds?.used_by(call, look)?;
    Some(match until {
        WarmUntil::Call => Reached::UsedBefore(call.name, number),
        WarmUntil::Use | WarmUntil::Accept => Reached::Use(call.name, number),
    })
}

/// `CLONE_FILES` and `CLONE_THREAD` of clone(2).
const SHARES_DESCRIPTORS: u64 = 0x400;
const THREAD: u64 = 0x10000;

/// The flags that a task or process is made with.
fn clone_flags(call: &NamedCall, look: &dyn Look) -> u64 {
    match call.name {
        "clone" => call.arguments[0],
        // The first field of its structure.
        "clone3" => look.word(call.arguments[0]).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
