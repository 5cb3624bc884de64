//! The namespaces of a full jail.
//!
//! Its forker is in the user namespace, and a process that it forks, the jailer, builds the house
//! in the others. The first process of each connection's pid namespace is forked by the jailer; it
//! furnishes its room, and the process of the connection joins it.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::Signal;
use tine_sys::namespaces::{Kinds, join, raise_loopback, unshare};
use tine_sys::process::{Alone, Fresh, fork, fork_into};

use super::aside::reported;
use super::choices::PrivateNetwork;
use super::first_process::{become_first, try_joining};
use super::house::{House, mount_proc};
use super::network_allow::AllowedAddresses;
use super::step::{StepError, step};
use super::users::JailUsers;

/// The host name inside.
const HOST_NAME: &[u8] = b"tine";

/// The users and the house of a full jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FullJail {
    pub(crate) users: JailUsers,
    pub(crate) house: House,
    pub(crate) network: PrivateNetwork,
    /// Whether each room has a first process of the server.
    pub(crate) has_init: bool,
    /// What can be connected to nevertheless.
    pub(crate) allowed: AllowedAddresses,
    /// User namespaces that can be made inside: those of copies.
    pub(crate) user_namespaces: usize,
}

impl FullJail {
    /// The namespaces of each connection that are made before it comes. Without a first process of
    /// the server, its pid namespace is made with the process of the connection.
    pub(crate) fn ahead(&self) -> Kinds {
        let kinds = Kinds::MOUNT.and(Kinds::IPC);
        let kinds = if self.has_init { kinds.and(Kinds::PID) } else { kinds };
        match self.network {
            PrivateNetwork::Loopback => kinds.and(Kinds::NETWORK),
            // The kernel makes a network namespace slowly: one without anything is for all.
            PrivateNetwork::Empty | PrivateNetwork::Machine => kinds,
        }
    }

    /// What it has, for operators.
    pub(super) fn describe(&self) -> String {
        let network = match self.network {
            PrivateNetwork::Machine => "",
            PrivateNetwork::Empty => ", network",
            PrivateNetwork::Loopback => ", network (loopback)",
        };
        let init = if self.has_init { "" } else { "; no init" };
        format!("{}; pid, mount, ipc, uts, cgroup{network}{init}", self.users.describe())
    }

    /// Those that the process of a connection joins. Its pid namespace is the one that its parent
    /// has joined.
    pub(crate) fn to_join(&self) -> Kinds {
        let all = Kinds::MOUNT.and(Kinds::IPC).and(Kinds::UTS).and(Kinds::CGROUP);
        if self.network == PrivateNetwork::Machine { all } else { all.and(Kinds::NETWORK) }
    }

    /// Moves this process into the user namespace: a forker, which has all other privileges behind
    /// it.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn enter_users(&self, alone: &Alone) -> io::Result<()> {
        self.users.enter(alone)
    }

    /// Builds the house in new namespaces, in which this process is from then on: the jailer.
    ///
    /// # Errors
    /// As [`FullJail::enter_users`].
    pub(crate) fn build(&self, alone: &Alone) -> io::Result<()> {
        let kinds = Kinds::MOUNT.and(Kinds::UTS).and(Kinds::CGROUP);
        let kinds = if self.network == PrivateNetwork::Empty { kinds.and(Kinds::NETWORK) } else { kinds };
        unshare(alone, kinds).map_err(|why| step("unshare of namespaces", &why))?;
        rustix::system::sethostname(HOST_NAME).map_err(|why| step("sethostname", &why.into()))?;
        // A second lock: the filter refuses them, too. In a container, the file may be read-only.
        let _ = fs::write("/proc/sys/user/max_user_namespaces", self.user_namespaces.to_string());
        self.house.build()
    }

    /// Furnishes the room, in a process that the jailer has forked into [`FullJail::ahead`].
    ///
    /// # Errors
    /// As [`FullJail::enter_users`].
    pub(crate) fn furnish(&self) -> io::Result<()> {
        if self.has_init {
            mount_proc()?;
        }
        if self.network == PrivateNetwork::Loopback {
            raise_loopback().map_err(|why| step("loopback interface", &why))?;
        }
        self.house.furnish_room()
    }

    /// Mounts the `/proc` of a pid namespace in the room that this process is in, in a process that
    /// is forked for it.
    ///
    /// # Errors
    /// As [`FullJail::enter_users`].
    pub(crate) fn furnish_late(alone: &Alone, pids: BorrowedFd) -> io::Result<()> {
        join(pids, Kinds::PID, None).map_err(|why| step("setns", &why))?;
        let ordinary = |alone: &Alone| fork(alone, Signal::CHILD.as_raw());
        let (report, _) = reported(alone, ordinary, |_| match mount_proc() {
            Ok(()) => [DONE].into(),
            Err(why) => refusal(&why),
        })
        .map_err(|why| step("fork into a room", &why))?;
        match report.split_first() {
            Some((&DONE, _)) => Ok(()),
            refused => {
                let text = refused.map_or(&[][..], |(_, text)| text);
                Err(StepError::from_message(&String::from_utf8_lossy(text)).into())
            }
        }
    }

    /// Tries whether such a jail can be had, in processes that are forked for it.
    ///
    /// # Errors
    /// The step that the kernel refuses.
    pub(super) fn try_out(&self, alone: &Alone) -> Result<(), StepError> {
        let job = |_: &Fresh| become_first().err().map_or(Vec::new(), |why| message(&why));
        let refused = self.run_inside(alone, job)?;
        match refused.is_empty() {
            true => Ok(()),
            false => Err(StepError::from_message(&String::from_utf8_lossy(&refused))),
        }
    }

    /// Runs something in a room, in a process that is forked for it and ends afterwards. Returns
    /// what that reports.
    ///
    /// # Errors
    /// The step that the kernel refuses.
    pub(super) fn run_inside(
        &self,
        alone: &Alone,
        job: impl FnOnce(&Fresh) -> Vec<u8>,
    ) -> Result<Vec<u8>, StepError> {
        let ordinary = |alone: &Alone| fork(alone, Signal::CHILD.as_raw());
        // The same in one step, with all namespaces.
        let whole = FullJail { has_init: true, ..self.clone() };
        let inside = |fresh: &Fresh| match whole.furnish() {
            Ok(()) => [&[DONE], &job(fresh)[..]].concat(),
            Err(why) => refusal(&why),
        };
        let (report, _) = reported(alone, ordinary, |_| {
            let built = self.enter_users(alone).and_then(|()| self.build(alone)).and_then(|()| try_joining());
            let into = |alone: &Alone| fork_into(alone, whole.ahead());
            let ran = built.and_then(|()| reported(alone, into, inside));
            let ran = ran.map_err(|why| step("fork into a room", &why));
            ran.map_or_else(|why| refusal(&why), |(report, _)| report)
        })
        .map_err(|why| StepError::of(&why))?;
        match report.split_first() {
            Some((&DONE, report)) => Ok(report.to_vec()),
            Some((_, step)) => Err(StepError::from_message(&String::from_utf8_lossy(step))),
            None => Err(StepError::from_message("")),
        }
    }
}

/// The first byte of a report from inside, if the jail was entered.
const DONE: u8 = b'.';

/// The report of a step that was refused.
fn refusal(why: &io::Error) -> Vec<u8> {
    [b"!", &message(why)[..]].concat()
}

fn message(why: &io::Error) -> Vec<u8> {
    StepError::of(why).to_message().into_bytes()
}
