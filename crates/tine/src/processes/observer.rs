//! The observer, as the first process of a server knows it: the single supervisor, or the master.
//!
//! It is executed anew, so that it has no memory of the server, and the code that it runs is no
//! matter of this crate. It asks over a channel, as controllers do, and may only read, or also end
//! connections, pause and ban. Some of its requests are taken each second, so one that is taken
//! over cannot keep the server busy.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use tine_sys::exec::{CStrings, Execution, Group};
use tine_sys::process::{Alone, Fresh, Side, exit_now, fork, wait_for};

use crate::error::{Error, ErrorKind, next_move, reason};
use crate::ipc::observing::{Observed, ObserverLink, ObserverSaid, VARIABLE};
use crate::jail::protection::empty_bounding_set;
use crate::log::Log;
use crate::net::listener::Listener;
use crate::net::operator::{Operator, Rank};
use crate::processes::companion::Companion;
use crate::processes::control::controllers::Controllers;
use crate::settings::observer::ObserverSetup;
use crate::system::signal::signal_one;

/// The value of `role=` in the log.
const ROLE: &str = "observer";

/// The time that the observer has to report that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Messages of the observer, each a request, that are taken in a [`WINDOW`]; others wait.
const MOST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// The observer of a server.
#[derive(Debug)]
pub(crate) struct Observer {
    observation: ObserverSetup,
    link: Option<ObserverLink>,
    pub(crate) companion: Companion,
    /// The server serves.
    serves: bool,
    /// It has reported that it is ready: later it has nothing to report.
    is_ready: bool,
    allowance: Allowance,
}

/// Messages that may still be taken.
#[derive(Debug)]
struct Allowance {
    since: Instant,
    taken: u32,
}

impl Allowance {
    /// Counts one that is taken.
    fn take(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Allowance { since: now, taken: 0 };
        }
        self.taken += 1;
    }

    /// When the next one may be taken; `None` for now.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let until = self.since + WINDOW;
        (self.taken >= MOST && until > now).then_some(until)
    }
}

impl Observer {
    /// Starts the observer, and waits until it is ready. Clients are accepted later:
    /// [`Observer::serve`].
    ///
    /// # Errors
    /// It cannot be started, with its reason.
    pub(crate) fn start(
        observation: Option<ObserverSetup>,
        alone: &Alone,
    ) -> Result<Option<Observer>, Error> {
        let Some(observation) = observation else { return Ok(None) };
        let now = Instant::now();
        let mut observer = Observer {
            observation,
            link: None,
            companion: Companion::new(ROLE),
            serves: false,
            is_ready: false,
            allowance: Allowance { since: now, taken: 0 },
        };
        let failed = |why: io::Error| cannot_start(&reason(&why), next_move::of_call(&why));
        observer.execute(alone).map_err(failed)?;
        match observer.wait_until_ready(now + READY_WITHIN) {
            Ok(()) => {
                observer.is_ready = true;
                Ok(Some(observer))
            }
            Err(why) => {
                observer.end();
                let next = "see the log above, or start the server without --observe and --haproxy-agent";
                Err(cannot_start(&why, next))
            }
        }
    }

    fn wait_until_ready(&self, deadline: Instant) -> Result<(), String> {
        let Some(link) = &self.link else { return Err("it has ended".to_owned()) };
        loop {
            match link.receive() {
                Some(ObserverSaid::Ready) => return Ok(()),
                Some(ObserverSaid::Failed(why)) => return Err(why),
                Some(ObserverSaid::Ended) => return Err("it has ended".to_owned()),
                Some(ObserverSaid::Asks(_) | ObserverSaid::Other) => {}
                None if Instant::now() >= deadline => {
                    return Err(format!("it is not ready within {} s", READY_WITHIN.as_secs()));
                }
                None => {
                    let mut poll = [PollFd::new(link, PollFlags::IN)];
                    let _ = tine_sys::wait::until(&mut poll, Some(deadline));
                }
            }
        }
    }

    /// Forks, and executes the file of this process. What fails in the new process is its exit.
    fn execute(&mut self, alone: &Alone) -> io::Result<()> {
        let (link, theirs) = ObserverLink::pair()?;
        let listeners: Vec<BorrowedFd> = self.observation.listeners.iter().map(AsFd::as_fd).collect();
        link.start(&self.observation.settings, &listeners)?;
        let parent = rustix::process::getpid().as_raw_pid();
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                if self.serves {
                    link.serve();
                }
                self.companion.started(pid);
                (self.link, self.is_ready) = (Some(link), false);
                Ok(())
            }
            Side::Child(fresh) => {
                let why = execute(&fresh, &self.observation, &theirs, parent);
                Observed::from(theirs).failed(&reason(&why));
                exit_now(111)
            }
        }
    }

    /// Has the observer accept clients: the server serves. The log has its addresses.
    pub(crate) fn serve(&mut self, log: &mut Log) {
        for (listener, agent) in self.observation.named_listeners() {
            match agent {
                None => log.observe(&listener.name),
                Some(service) => log.agent(&listener.name, service.as_deref()),
            }
        }
        if self.observation.is_public {
            log.warning(
                "nothing that the observer sends is encrypted: the network can read the token and all pages",
            );
        }
        self.serves = true;
        self.link.iter().for_each(ObserverLink::serve);
    }

    /// The listeners, for the next generation of the server.
    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.observation.listeners
    }

    /// The descriptor to wait for, unless requests have to wait.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let waits = self.allowance.waits_until(Instant::now()).is_some();
        self.link.as_ref().filter(|_| !waits).map(AsFd::as_fd)
    }

    /// When it is to be looked after at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = self.link.as_ref().and_then(|_| self.allowance.waits_until(Instant::now()));
        [self.companion.restart_at(), waits].into_iter().flatten().min()
    }

    /// Takes requests, and restarts the observer where that is due.
    pub(crate) fn look_after(&mut self, alone: &Alone, controllers: &mut Controllers, log: &mut Log) {
        let now = Instant::now();
        if self.companion.take_restart()
            && let Err(why) = self.execute(alone)
        {
            let next = format!("it is tried again; {}", next_move::of_call(&why));
            log.error("cannot start the observer", &reason(&why), &next);
            self.companion.not_started();
        }
        if self.link.is_none() {
            // Its end may have been before signals were waited for.
            self.check(log);
        }
        let rank = if self.observation.may_tend { Rank::Steward } else { Rank::Observer };
        let operator = Operator { uid: self.uid(), pid: self.companion.pid().unwrap_or(0), rank };
        while let Some(said) = self.said(now) {
            match said {
                ObserverSaid::Asks(stream) => controllers.arrive(stream, operator),
                ObserverSaid::Failed(why) if !self.is_ready => log.warning(&format!("observer: {why}")),
                ObserverSaid::Ready => self.is_ready = true,
                ObserverSaid::Failed(_) | ObserverSaid::Other => {}
                ObserverSaid::Ended => {
                    self.link = None;
                    // One that has closed its end of the channel and lives on is of no use.
                    self.companion.pid().into_iter().for_each(|pid| _ = signal_one(pid, Signal::KILL));
                }
            }
        }
    }

    /// What it has said next, if that may be taken now: one that sends without end is not heard
    /// more often, whatever it sends.
    fn said(&mut self, now: Instant) -> Option<ObserverSaid> {
        if self.allowance.waits_until(now).is_some() {
            return None;
        }
        let said = self.link.as_ref()?.receive()?;
        self.allowance.take(now);
        Some(said)
    }

    fn uid(&self) -> u32 {
        let own = || rustix::process::geteuid().as_raw();
        self.observation.user.as_ref().and_then(|user| user.to_ids().uid).unwrap_or_else(own)
    }

    /// After SIGCHLD: reaps the observer if it has ended, and schedules its restart.
    pub(crate) fn check(&mut self, log: &mut Log) {
        if self.companion.check(log) {
            self.link = None;
        }
    }

    /// Ends the observer, for good.
    pub(crate) fn end(&mut self) {
        self.link = None;
        if let Some(pid) = self.companion.retire() {
            // It is a child that is not reaped yet.
            let _ = signal_one(pid, Signal::KILL);
            let _ = wait_for(pid);
        }
    }

    /// The next generation has the listeners.
    pub(crate) fn hand_over(&mut self) {
        self.observation.listeners.iter_mut().for_each(Listener::hand_over);
        self.end();
    }

    /// This process has taken the listeners over.
    pub(crate) fn take_over(&mut self) {
        self.observation.listeners.iter_mut().for_each(Listener::take_over);
    }
}

/// Executes the file of this process as an observer. Returns only on error.
fn execute(fresh: &Fresh, observation: &ObserverSetup, channel: &OwnedFd, parent: i32) -> io::Error {
    tine_sys::signal::defaults(fresh);
    // The rest once it has opened everything (`crates/observe`).
    empty_bounding_set();
    let mut arguments = CStrings::default();
    arguments.push_bytes(b"tine");
    let mut environment = CStrings::default();
    environment.push_bytes(format!("{VARIABLE}={}", channel.as_raw_fd()).as_bytes());
    let null = match rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(null) => null,
        Err(why) => return io::Error::other(format!("/dev/null: {}", reason(&why.into()))),
    };
    let path = CString::from(c"/proc/self/exe");
    Execution {
        path: &path,
        arguments: &mut arguments,
        environment: &mut environment,
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: None,
        limits: &[],
        nice: 0,
        group: Group::Own,
        parent: Some(parent),
        cgroup: None,
        identity: observation.user.as_ref().map(|user| user.to_ids()),
        kept: Some(channel.as_fd()),
        passed: None,
        jail: None,
    }
    .run()
}

fn cannot_start(why: &str, next: &str) -> Error {
    Error::new(ErrorKind::System, format!("cannot start the observer: {why}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_for_their_window() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut allowance = Allowance { since: start, taken: 0 };
        (0..MOST).for_each(|_| allowance.take(at(1)));
        assert_eq!(allowance.waits_until(at(3)), Some(at(1_000)));
        assert_eq!(allowance.waits_until(at(1_000)), None);
        allowance.take(at(1_000));
        assert_eq!((allowance.taken, allowance.waits_until(at(1_999))), (1, None));
    }

    #[test]
    fn one_that_sends_without_end_is_heard_a_few_times_a_second() {
        let (link, theirs) = ObserverLink::pair().expect("a channel");
        let observed = Observed::from(theirs);
        let start = Instant::now();
        let mut observer = Observer {
            observation: ObserverSetup::new(),
            link: Some(link),
            companion: Companion::new(ROLE),
            serves: true,
            is_ready: true,
            allowance: Allowance { since: start, taken: 0 },
        };
        // Whatever it sends: a failure, a request.
        for _ in 0..MOST {
            observed.failed("no reason");
            observed.ask().expect("sent");
        }
        let heard =
            |observer: &mut Observer, at: Instant| std::iter::from_fn(|| observer.said(at)).count() as u32;
        assert_eq!(heard(&mut observer, start), MOST);
        assert_eq!(heard(&mut observer, start), 0);
        assert_eq!(observer.deadline(), Some(start + WINDOW));
        assert_eq!(heard(&mut observer, start + WINDOW), MOST);
    }
}
