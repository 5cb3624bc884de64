//! What only the server uses. Not a part of the API: it can change in any release.

use std::io;
use std::sync::OnceLock;

use tine_sys::memory::{Shared, TableWriter, table};

use crate::error::{Error, ErrorKind};
use crate::memory;
use crate::owner::{self, MAX_CLAIMS, Members};
use crate::show::{Figure, LetGo};
use crate::sync::{AtomicU64, Relaxed};

/// The lives of the members of a server, which its supervisor counts.
#[derive(Debug)]
pub struct Lives {
    writer: TableWriter,
    members: Members,
}

static LIVES: OnceLock<Lives> = OnceLock::new();

/// An object, as operators see it.
#[derive(Clone, Debug)]
pub struct ObjectView {
    /// The name that the program gave.
    pub name: String,
    /// What it is: `counter`, `mutex`.
    pub kind: &'static str,
    /// What can be told about it.
    pub figures: Vec<Figure>,
}

/// Begins to serve with this many members: no more shared state can be made from now on. `None` if
/// there is no shared state. Runs in the first process of the server.
///
/// # Errors
/// There are too many members, or no memory.
pub fn begin(members: usize) -> Result<Option<&'static Lives>, Error> {
    let is_any = memory::is_any();
    memory::close();
    if !is_any {
        return Ok(None);
    }
    // A start that has failed is tried again.
    if let Some(lives) = LIVES.get().filter(|lives| lives.members.lives.len() >= members) {
        return Ok(Some(lives));
    }
    if members > owner::MAX_MEMBERS {
        let what = format!("{members} connections cannot share state: at most {} can", owner::MAX_MEMBERS);
        return Err(Error::new(ErrorKind::Capacity, what, "lower the maximum of connections"));
    }
    let failed = |why: io::Error| Error::system("cannot make the table of processes that share state", why);
    let (writer, lives) = table(members).map_err(failed)?;
    let claims: Shared<AtomicU64> = Shared::new(members * MAX_CLAIMS).map_err(failed)?;
    let members = Members { lives, claims: claims.all() };
    if !owner::set_members(members) {
        let what = "the server is started again with more connections than at first";
        return Err(Error::new(ErrorKind::TooLate, what, "start it with as many, or in another process"));
    }
    Ok(Some(LIVES.get_or_init(|| Lives { writer, members })))
}

impl Lives {
    /// Leaves the right to count lives out of processes forked from now on. Runs in the supervisor.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub fn keep_to_this_process(&self) -> io::Result<()> {
        self.writer.exclude_from_fork()
    }

    /// Counts the life of a member that has been reaped, and opens the locks that it held. Runs in
    /// the supervisor, before another process gets the number; never waits.
    pub fn end(&self, number: usize) {
        let Some(life) = self.writer.entries().get(number) else { return };
        let (dead, objects) = self.members.end(number, life);
        if objects.is_empty() {
            return;
        }
        memory::with_objects(|all| {
            for object in all {
                let numbers = object.shown.numbers();
                for object_number in objects.iter().copied().filter(|number| numbers.contains(number)) {
                    object.shown.let_go(LetGo { owner: dead, object: object_number });
                }
            }
        });
    }
}

/// Makes this process a member. Runs in a connection process, before its handler.
#[inline]
pub fn enter(number: usize) {
    owner::become_member(number);
}

/// Makes this process a member that does the jobs of this name. Runs in a worker.
pub fn enter_worker(number: usize, jobs: &str) {
    owner::become_member(number);
    memory::with_objects(|objects| {
        objects.iter().filter(|object| object.name == jobs).for_each(|object| object.shown.enter_worker());
    });
}

/// Lets the workers end when no job waits. Runs in the supervisor, when no connection is left.
pub fn close_jobs() {
    memory::with_objects(|objects| objects.iter().for_each(|object| object.shown.close()));
}

/// Makes this process a forker: waiting for shared state is an error here.
pub fn enter_forker() {
    owner::become_forker();
}

/// Makes this process a helper of the member that it was forked from.
pub fn enter_helper() {
    owner::become_helper();
}

/// Lets go of old versions of shared state, and maps the new ones, so that processes forked from
/// now on have them. Never waits for another process.
pub fn refresh() {
    memory::with_objects(|objects| objects.iter().for_each(|object| object.shown.refresh()));
}

/// Takes all shared state away from this process: an access ends it (SIGSEGV).
///
/// # Errors
/// ENOMEM: the kernel has no memory for another mapping.
pub fn leave() -> io::Result<()> {
    memory::with_objects(|objects| objects.iter().for_each(|object| object.shown.leave()));
    memory::with_arenas(tine_sys::arena::Arena::take_away)
}

/// Takes the right to change shared state away from this process: a write ends it (SIGSEGV).
///
/// # Errors
/// ENOMEM: the kernel has no memory for another mapping.
pub fn make_read_only() -> io::Result<()> {
    memory::with_arenas(tine_sys::arena::Arena::make_read_only)
}

/// All shared state, in the order in which it was made.
#[must_use]
pub fn objects() -> Vec<ObjectView> {
    memory::with_objects(|objects| {
        let view = |object: &crate::show::Object| ObjectView {
            name: object.name.clone(),
            kind: object.shown.kind(),
            figures: object.shown.figures(),
        };
        objects.iter().map(view).collect()
    })
}

/// The names of what this member holds or waits for now.
#[must_use]
pub fn held_by(number: usize) -> Vec<String> {
    let members = owner::members();
    let Some(life) = members.lives.get(number) else { return Vec::new() };
    let held: Vec<u32> = members.held(number, life.load(Relaxed)).collect();
    memory::with_objects(|objects| {
        let objects =
            objects.iter().filter(|object| held.iter().any(|number| object.shown.numbers().contains(number)));
        objects.map(|object| object.name.clone()).collect()
    })
}
