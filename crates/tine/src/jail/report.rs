//! Tells what a jail gives on this system, before anything is served.

use rustix::process::Signal;
use tine_sys::exec::Confine as _;
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, How, fork};

use super::aside::reported;
use super::client_socket::ClientSocket;
use super::confinement::{Confinement, ServingKind};
use super::facts::Facts;
use super::house::HousePaths;
use super::layer::{Layer, LayerState};
use super::network_allow::AllowedAddresses;
use super::plan::{JailSite, Plan};
use super::settings::Jail;
use super::users::{FIRST, JailUsers};
use crate::error::{Error, ErrorKind, next_move};

/// A layer of a jail, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailLayer {
    /// Its name, as in the log.
    pub name: &'static str,
    /// `on`, `partly`, `off` or `refused`.
    pub state: &'static str,
    /// Details, or why it is not in force and the next move. May be empty.
    pub detail: String,
}

impl JailLayer {
    /// Whether it was asked for, and is not fully in force.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.state, "partly" | "refused")
    }

    fn new((layer, state): &(Layer, LayerState)) -> JailLayer {
        JailLayer { name: layer.name(), state: state.name(), detail: state.detail() }
    }
}

/// The layers of a jail; none if nothing was asked for.
#[must_use]
pub fn jail_layers(jail: &Jail) -> Vec<JailLayer> {
    match jail.is_any() {
        true => possible(jail, Alone::check().ok().as_ref()).layers.iter().map(JailLayer::new).collect(),
        false => Vec::new(),
    }
}

/// What this system gives of a jail, for the user of this process; of root, for one connection.
fn possible(jail: &Jail, alone: Option<&Alone>) -> Plan {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let users = match uid.is_root() {
        true => JailUsers::Each { uid: FIRST, gid: FIRST, slots: 1 },
        false => JailUsers::Own { uid: uid.as_raw(), gid: gid.as_raw() },
    };
    // A path that does not exist is an error of the start.
    let full = jail.full(users, HousePaths::default(), AllowedAddresses::default()).ok().flatten();
    let facts = Facts::ask(full.as_ref(), None, alone);
    Plan::possible(jail, &facts, JailSite { as_root: false, full, executes: true })
}

/// Enters a jail, as far as this system has it, in a process that is forked for it, and tries to
/// break out.
///
/// # Errors
/// This process has several threads; the kernel refuses a step; an attempt succeeds.
pub fn try_jail(jail: &Jail) -> Result<(), Error> {
    let system = |why: &std::io::Error| {
        Error::system("cannot try the jail in a process of its own", why, next_move::of_call(why))
    };
    let alone = Alone::check()
        .map_err(|why| Error::new(ErrorKind::Threads, why, "ask before other threads are started"))?;
    let plan = possible(jail, Some(&alone));
    let client = ClientSocket::of(&plan);
    let client = client.as_ref();
    if let Some(full) = &plan.full {
        let report = full.run_inside(&alone, |fresh| try_from_inside(&plan, &alone, fresh, client));
        let report = report.map_err(|why| system(&why.into()))?;
        return if report.is_empty() { Ok(()) } else { Err(Error::from_message(&report)) };
    }
    let ordinary = |alone: &Alone| fork(alone, Signal::CHILD.as_raw());
    let tried = reported(&alone, ordinary, |fresh| try_from_inside(&plan, &alone, fresh, client));
    match tried.map_err(|why| system(&why))? {
        (message, How::Exited(0)) if message.is_empty() => Ok(()),
        (message, How::Exited(0)) => Err(Error::from_message(&message)),
        (_, How::Signaled(signal)) => Err(Error::new(
            ErrorKind::Jail,
            format_args!("the process that tries the jail was ended by signal {signal}"),
            "see the kernel's log (dmesg)",
        )),
        (_, How::Exited(_)) => Err(system(&std::io::ErrorKind::BrokenPipe.into())),
    }
}

/// Enters the rest of the jail, in a process of its own, and tries to break out. Returns the
/// message of what fails.
fn try_from_inside(plan: &Plan, alone: &Alone, fresh: &Fresh, client: Option<&ClientSocket>) -> Vec<u8> {
    let serving = ServingKind { more_calls: &[], executes: false, directory: None };
    let entered = Confinement::make(plan, serving, Floor::above_open(&[])).and_then(|mut confinement| {
        let held = client.map_or(Ok(()), |client| confinement.hold(client));
        held.and_then(|()| confinement.enter())
            .map_err(|why| Error::system("cannot enter the jail", &why, next_move::of_call(&why)))?;
        plan.check_from_inside(alone, fresh, client)
    });
    entered.err().map(|error| error.to_message()).unwrap_or_default()
}
