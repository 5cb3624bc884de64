//! The link of a service, as its supervisor knows it.
//!
//! It is executed anew, as the observer is. What it tells of other nodes, the supervisor takes in
//! bounded amounts, so one that is taken over can ban and limit clients, and cannot keep the server
//! busy. A server serves without it, too.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tine_sys::process::{Alone, Side, exit_now, fork, wait_for};

use crate::error::{Error, ErrorKind, next_move, reason};
use crate::ipc::linking::{LinkChannel, LinkRecord, LinkSaid, Linked, ServiceRecord, VARIABLE};
use crate::log::Log;
use crate::net::operator::{Operator, Rank};
use crate::processes::companion::{Allowance, Companion, execute};
use crate::processes::control::controllers::Controllers;
use crate::settings::link::LinkSetup;
use crate::system::signal::signal_one;

/// The value of `role=` in the log.
const ROLE: &str = "link";

/// The time that the link has to report that it is ready. It does not wait for the bus.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The time that it has to leave the fleet when its service ends.
const LEAVE_WITHIN: Duration = Duration::from_millis(1500);

/// Messages of the link that are taken in a second; others wait.
const MOST: u32 = 50;

/// Records that are logged, and those of penalties, that are taken in a second: one that is taken
/// over does not fill the log. Others are left out.
const MOST_WORDS: u32 = 10;
const MOST_PENALTIES: u32 = 1_000;

/// Records that wait for the link, at most. Beyond, they are told all anew.
const MAX_WAITING: usize = 300_000;

/// The link of a service.
#[derive(Debug)]
pub(crate) struct BusLink {
    setup: LinkSetup,
    channel: Option<LinkChannel>,
    pub(crate) companion: Companion,
    is_ready: bool,
    allowance: Allowance,
    words: Allowance,
    penalties: Allowance,
    /// What the channel has not taken yet.
    outbox: VecDeque<ServiceRecord>,
    /// It knows nothing of the service: it has just been started.
    knows_nothing: bool,
}

impl BusLink {
    /// Starts the link, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, with its reason.
    pub(crate) fn start(setup: Option<LinkSetup>, alone: &Alone) -> Result<Option<BusLink>, Error> {
        let Some(setup) = setup else { return Ok(None) };
        let now = Instant::now();
        let mut link = BusLink {
            setup,
            channel: None,
            companion: Companion::new(ROLE),
            is_ready: false,
            allowance: Allowance::new(MOST, now),
            words: Allowance::new(MOST_WORDS, now),
            penalties: Allowance::new(MOST_PENALTIES, now),
            outbox: VecDeque::new(),
            knows_nothing: true,
        };
        link.execute(alone).map_err(|why| cannot_start(&reason(&why), next_move::of_call(&why)))?;
        match link.wait_until_ready(now + READY_WITHIN) {
            Ok(()) => {
                link.is_ready = true;
                Ok(Some(link))
            }
            Err(why) => {
                link.end();
                Err(cannot_start(&why, "check the options of the bus, or start the server without --bus"))
            }
        }
    }

    fn wait_until_ready(&self, deadline: Instant) -> Result<(), String> {
        let Some(channel) = &self.channel else { return Err("it has ended".to_owned()) };
        loop {
            match channel.receive() {
                Some(LinkSaid::Records(records)) => {
                    for record in records {
                        match record {
                            LinkRecord::Ready => return Ok(()),
                            LinkRecord::Failed(why) => return Err(why),
                            _ => {}
                        }
                    }
                }
                Some(LinkSaid::Ended) => return Err("it has ended".to_owned()),
                Some(LinkSaid::Asks(_)) => {}
                None if Instant::now() >= deadline => {
                    return Err(format!("it is not ready within {} s", READY_WITHIN.as_secs()));
                }
                None => {
                    let mut poll = [PollFd::new(channel, PollFlags::IN)];
                    let _ = tine_sys::wait::until(&mut poll, Some(deadline));
                }
            }
        }
    }

    /// Forks, and executes the file of this process. What fails in the new process is its exit.
    fn execute(&mut self, alone: &Alone) -> io::Result<()> {
        let (channel, theirs) = LinkChannel::pair()?;
        channel.start(&self.setup.settings)?;
        let parent = rustix::process::getpid().as_raw_pid();
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Parent(pid) => {
                self.companion.started(pid);
                (self.channel, self.is_ready) = (Some(channel), false);
                self.outbox.clear();
                self.knows_nothing = true;
                Ok(())
            }
            Side::Child(fresh) => {
                let why = execute(&fresh, VARIABLE, &theirs, self.setup.user.as_ref(), parent);
                let _ = Linked::from(theirs).send(&[LinkRecord::Failed(reason(&why))]);
                exit_now(111)
            }
        }
    }

    /// Whether operators of the fleet may have this node drain.
    pub(crate) fn may_drain(&self) -> bool {
        self.setup.may_drain
    }

    /// Whether the link is to be told all that is known: it has just been started, or was behind.
    pub(crate) fn takes_all(&mut self) -> bool {
        self.channel.is_some() && std::mem::take(&mut self.knows_nothing)
    }

    /// Tells the link what has changed.
    pub(crate) fn tell(&mut self, records: impl IntoIterator<Item = ServiceRecord>) {
        if self.channel.is_none() {
            return;
        }
        self.outbox.extend(records);
        if self.outbox.len() > MAX_WAITING {
            self.outbox.clear();
            self.knows_nothing = true;
        }
        self.send();
    }

    fn send(&mut self) {
        if let Some(channel) = self.channel.as_ref().filter(|_| !self.outbox.is_empty()) {
            let sent = channel.send(self.outbox.make_contiguous());
            self.outbox.drain(..sent);
        }
    }

    /// The descriptor to wait for.
    pub(crate) fn poll(&self) -> Option<PollFd<'_>> {
        let channel = self.channel.as_ref()?;
        let waits = self.allowance.waits_until(Instant::now()).is_some();
        let [reads, writes] = [!waits, !self.outbox.is_empty()];
        let flags = [(reads, PollFlags::IN), (writes, PollFlags::OUT)];
        let flags: PollFlags =
            flags.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, flag)| flag).collect();
        (!flags.is_empty()).then(|| PollFd::from_borrowed_fd(channel.as_fd(), flags))
    }

    /// When it is to be looked after at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = self.channel.as_ref().and_then(|_| self.allowance.waits_until(Instant::now()));
        [self.companion.restart_at(), waits].into_iter().flatten().min()
    }

    /// Restarts the link where that is due, and takes what it has said. Its requests go to
    /// `controllers`. `None` for its end: then nothing is known of other nodes.
    pub(crate) fn look_after(
        &mut self,
        alone: &Alone,
        controllers: &mut Controllers,
        log: &mut Log,
    ) -> Vec<Option<LinkRecord>> {
        let now = Instant::now();
        if self.companion.take_restart()
            && let Err(why) = self.execute(alone)
        {
            let next = format!("it is tried again; {}", next_move::of_call(&why));
            log.error("cannot start the link", &reason(&why), &next);
            self.companion.not_started();
        }
        if self.channel.is_none() {
            // Its end may have been before signals were waited for.
            self.check(log);
        }
        self.send();
        let operator =
            Operator { uid: self.uid(), pid: self.companion.pid().unwrap_or(0), rank: Rank::Observer };
        let mut records = Vec::new();
        while let Some(said) = self.said(now) {
            match said {
                LinkSaid::Asks(stream) => controllers.arrive(stream, operator),
                LinkSaid::Records(said) => {
                    for record in said {
                        self.on_record(record, &mut records, log);
                    }
                }
                LinkSaid::Ended => {
                    self.channel = None;
                    records.push(None);
                    // One that has closed its end of the channel and lives on is of no use.
                    self.companion.pid().into_iter().for_each(|pid| _ = signal_one(pid, Signal::KILL));
                }
            }
        }
        records
    }

    fn on_record(&mut self, record: LinkRecord, records: &mut Vec<Option<LinkRecord>>, log: &mut Log) {
        let now = Instant::now();
        let allowance = match record {
            LinkRecord::Drain | LinkRecord::Failed(_) | LinkRecord::Warning(_) => Some(&mut self.words),
            LinkRecord::Penalty { .. } => Some(&mut self.penalties),
            _ => None,
        };
        if allowance.is_some_and(|allowance| !allowance.grants(now)) {
            return;
        }
        match record {
            LinkRecord::Ready => self.is_ready = true,
            LinkRecord::Failed(why) if !self.is_ready => log.warning(&format!("link: {why}")),
            LinkRecord::Failed(_) => {}
            record => records.push(Some(record)),
        }
    }

    /// What it has said next, if that may be taken now.
    fn said(&mut self, now: Instant) -> Option<LinkSaid> {
        if self.allowance.waits_until(now).is_some() {
            return None;
        }
        let said = self.channel.as_ref()?.receive()?;
        self.allowance.take(now);
        Some(said)
    }

    fn uid(&self) -> u32 {
        let own = || rustix::process::geteuid().as_raw();
        self.setup.user.as_ref().and_then(|user| user.to_ids().uid).unwrap_or_else(own)
    }

    /// After SIGCHLD: reaps the link if it has ended, and schedules its restart.
    pub(crate) fn check(&mut self, log: &mut Log) {
        self.companion.check(log);
    }

    /// Has the link leave the fleet, and ends it, for good.
    pub(crate) fn end(mut self) {
        // It says that it leaves, which takes a moment.
        self.channel = None;
        let Some(pid) = self.companion.retire() else { return };
        let deadline = Instant::now() + LEAVE_WITHIN;
        let process = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let has_ended = process.and_then(Result::ok).is_some_and(|process| {
            matches!(
                tine_sys::wait::until(&mut [PollFd::new(&process, PollFlags::IN)], Some(deadline)),
                Ok(1)
            )
        });
        if !has_ended {
            // It is a child that is not reaped yet.
            let _ = signal_one(pid, Signal::KILL);
        }
        let _ = wait_for(pid);
    }
}

fn cannot_start(why: &str, next: &str) -> Error {
    Error::new(ErrorKind::System, format!("cannot start the link: {why}"), next)
}
