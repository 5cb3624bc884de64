//! The observer, as the first process of a server knows it: the single supervisor, or the master.
//!
//! It is executed anew, so that it has no memory of the server, and the code that it runs is no
//! matter of this crate. It asks over a channel, as controllers do, and may only read, or also end
//! connections, pause and ban. Some of its requests are taken each second, so one that is taken
//! over cannot keep the server busy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use tine_sys::process::{Alone, Side, exit_now, fork, wait_for};

use crate::error::{Error, ErrorKind, next_move, reason};
use crate::ipc::observing::{Observed, ObserverLink, ObserverSaid, VARIABLE};
use crate::log::Log;
use crate::net::listener::Listener;
use crate::net::operator::{Operator, Rank};
use crate::processes::companion::{Allowance, Companion, execute};
use crate::processes::control::controllers::Controllers;
use crate::settings::observer::ObserverSetup;
use crate::system::signal::signal_one;

/// The value of `role=` in the log.
const ROLE: &str = "observer";

/// The time that the observer has to report that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Messages of the observer, each a request, that are taken in a second; others wait.
const MOST: u32 = 20;

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
            allowance: Allowance::new(MOST, now),
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
                let why = execute(&fresh, VARIABLE, &theirs, self.observation.user.as_ref(), parent);
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

fn cannot_start(why: &str, next: &str) -> Error {
    Error::new(ErrorKind::System, format!("cannot start the observer: {why}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            allowance: Allowance::new(MOST, start),
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
        assert_eq!(observer.deadline(), Some(start + Duration::from_secs(1)));
        assert_eq!(heard(&mut observer, start + Duration::from_secs(1)), MOST);
    }
}
