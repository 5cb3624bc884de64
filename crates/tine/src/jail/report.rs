//! Tells what a jail gives on this system, before anything is served.

use std::io::{Read as _, Write as _};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tine_sys::exec::Confine as _;
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, How, Side, exit_now, fork, wait_for};

use super::confinement::Confinement;
use super::facts::Facts;
use super::layer::{Layer, LayerState};
use super::plan::Plan;
use super::settings::Jail;
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
        true => Plan::possible(jail, &Facts::ask()).layers.iter().map(JailLayer::new).collect(),
        false => Vec::new(),
    }
}

/// Enters a jail, as far as this system has it, in a process that is forked for it, and tries to
/// break out.
///
/// # Errors
/// This process has several threads; the kernel refuses a step; an attempt succeeds.
pub fn try_jail(jail: &Jail) -> Result<(), Error> {
    let plan = Plan::possible(jail, &Facts::ask());
    let system = |why: &std::io::Error| {
        Error::system("cannot try the jail in a process of its own", why, next_move::of_call(why))
    };
    let alone = Alone::check()
        .map_err(|why| Error::new(ErrorKind::Threads, why, "ask before other threads are started"))?;
    let (receiver, sender) = pipe_with(PipeFlags::CLOEXEC).map_err(|why| system(&why.into()))?;
    match fork(&alone, Signal::CHILD.as_raw()).map_err(|why| system(&why))? {
        Side::Child(fresh) => {
            let entered = Confinement::make(&plan, &[], Floor::above_open(&[])).and_then(|confinement| {
                confinement.enter().map_err(|why| system(&why))?;
                plan.check_from_inside(&fresh)
            });
            let message = entered.err().map(|error| error.to_message()).unwrap_or_default();
            let sent = std::fs::File::from(sender).write_all(&message);
            exit_now(i32::from(sent.is_err()))
        }
        Side::Parent(pid) => {
            drop(sender);
            let mut message = Vec::new();
            let read = std::fs::File::from(receiver).read_to_end(&mut message);
            let ended = wait_for(pid).map_err(|why| system(&why))?;
            match (read, ended) {
                (Ok(0), How::Exited(0)) => Ok(()),
                (Ok(_), How::Exited(0)) => Err(Error::from_message(&message)),
                (_, How::Signaled(signal)) => Err(Error::new(
                    ErrorKind::Jail,
                    format_args!("the process that tries the jail was ended by signal {signal}"),
                    "see the kernel's log (dmesg)",
                )),
                (Err(why), _) => Err(system(&why)),
                (Ok(_), How::Exited(_)) => Err(system(&std::io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}
