//! Starting forkers and the refuser, and saying that the server is ready.

use rustix::process::Pid;
use tine_sys::process::{Ended, How, Side, fork};

use super::children::Role;
use super::reload::Rules;
use super::run::{Supervisor, cannot_start};
use super::state::{Event, Helper};
use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::processes::cgroup_cleaner;
use crate::processes::delayer::{self, Channels, Delayer};
use crate::processes::forker::{self, Forker};
use crate::processes::rejector;
use crate::processes::stderr_logger;

impl<H> Supervisor<'_, H>
where
    H: FnMut(Connection) -> Result<(), HandlerError>,
{
    pub(super) fn start_all(&mut self, helpers: &[Helper]) -> Result<(), Error> {
        tine_sys::memory::share_constants();
        // What great lists of rules took, above all: helpers would have it, too.
        tine_sys::memory::trim_heap();
        for helper in helpers {
            self.start(*helper).map_err(|why| cannot_start("fork", &why))?;
        }
        self.announce()?;
        // Who came since then has waited in the queue: what is said of the server comes before what is said of clients.
        (0..self.controls.len()).for_each(|forker| self.ring(forker));
        Ok(())
    }

    /// Says that clients can come.
    fn announce(&mut self) -> Result<(), Error> {
        // Last in line when memory runs out, where that may be had. The forkers have chosen theirs.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-800");
        for listener in &self.listeners {
            self.log.listen(&listener.name, self.settings.backlog);
        }
        self.ready.say(&self.listeners)?;
        self.log.status(|| 0, self.settings.max_connections);
        Ok(())
    }

    pub(super) fn start(&mut self, helper: Helper) -> std::io::Result<()> {
        // Asked for before the fork: afterwards the parent may be somebody else already.
        let supervisor = rustix::process::getpid();
        match fork(self.alone, self.exit_signal)? {
            Side::Parent(pid) => {
                self.people.add(pid, Role::Helper(helper));
                Ok(())
            }
            Side::Child(fresh) => {
                tine_sys::signal::defaults(&fresh);
                self.become_helper(helper, supervisor)
            }
        }
    }

    fn become_helper(&mut self, helper: Helper, supervisor: Pid) -> ! {
        self.own = None;
        self.watcher.close();
        self.rules.iter_mut().for_each(Rules::close);
        self.ready = crate::lifecycle::ready::Ready::default();
        match helper {
            Helper::Forker(index) => self.become_forker(index, supervisor),
            Helper::Rejector => self.become_rejector(supervisor),
            Helper::Delayer => self.become_delayer(supervisor),
            Helper::StderrLogger => self.become_stderr_logger(supervisor),
            Helper::CgroupCleaner => self.become_cgroup_cleaner(),
        }
    }

    fn become_forker(&mut self, index: usize, supervisor: Pid) -> ! {
        self.leash = None;
        let control = self.controls.swap_remove(index);
        self.controls.clear();
        let rejector = self.rejections.take().map(|(sender, _)| sender);
        let stderr_logger = self.stderr_logger.take().map(|(sender, _)| sender);
        let delayer = self.delays.take().map(Channels::for_forker);
        forker::run::run(Forker {
            index,
            supervisor,
            alone: self.alone,
            settings: &self.settings,
            listeners: &self.listeners,
            board: self.board,
            control,
            retire: &self.retire,
            wake: &self.wake,
            rejector: rejector.as_ref(),
            delayer: delayer.as_ref(),
            stderr_logger,
            log: &mut self.log,
            title: None,
            first_server_fd: self.first_server_fd,
            handler: &mut *self.handler,
            door: &self.door,
            program_path: self.program_path.as_deref(),
            cgroups: self.cgroups.as_ref(),
            launcher: None,
        })
    }

    fn become_rejector(&mut self, supervisor: Pid) -> ! {
        self.listeners.clear();
        self.controls.clear();
        self.delays = None;
        self.stderr_logger = None;
        self.leash = None;
        match self.rejections.take() {
            Some((sender, receiver)) => {
                // Its own copy would hide the end.
                drop(sender);
                rejector::run(&receiver, &self.settings, supervisor, &mut self.log)
            }
            None => tine_sys::process::exit_now(0),
        }
    }

    fn become_delayer(&mut self, supervisor: Pid) -> ! {
        self.listeners.clear();
        self.controls.clear();
        self.stderr_logger = None;
        self.leash = None;
        let rejector = self.rejections.take().map(|(sender, _)| sender);
        match (self.delays.take().and_then(Channels::for_delayer), rejector) {
            (Some(ends), Some(rejector)) => delayer::run(&Delayer {
                settings: &self.settings,
                supervisor,
                board: self.board,
                door: &self.door,
                ends,
                rejector,
            }),
            _ => tine_sys::process::exit_now(0),
        }
    }

    fn become_stderr_logger(&mut self, supervisor: Pid) -> ! {
        self.listeners.clear();
        self.controls.clear();
        self.rejections = None;
        self.delays = None;
        self.leash = None;
        match self.stderr_logger.take() {
            Some((sender, receiver)) => {
                // Its own copy would hide the end.
                drop(sender);
                stderr_logger::run(&receiver, &self.settings, supervisor, &mut self.log)
            }
            None => tine_sys::process::exit_now(0),
        }
    }

    fn become_cgroup_cleaner(&mut self) -> ! {
        self.listeners.clear();
        self.controls.clear();
        self.rejections = None;
        self.delays = None;
        self.stderr_logger = None;
        match (self.leash.take(), &self.cgroups) {
            (Some((holder, held)), Some(cgroups)) => {
                // Its own copy would hide the end.
                drop(holder);
                cgroup_cleaner::run(&held, cgroups)
            }
            _ => tine_sys::process::exit_now(0),
        }
    }

    pub(super) fn helper_ended(&mut self, helper: Helper, ended: &Ended) -> Event {
        if let Helper::Forker(index) = helper {
            // What it had begun with the last word of its life is known before its slots are freed.
            self.drain_notices();
            self.board.release_unforked(index);
            self.board.set_wants_slot(index, false);
            // Another forker may have been waiting for what it held.
            (0..self.controls.len()).for_each(|forker| self.ring(forker));
        }
        self.helper_ends.push((helper, *ended));
        Event::HelperEnded { helper, done: ended.how == How::Exited(0) }
    }

    pub(super) fn ring(&self, forker: usize) {
        if let Some(control) = self.controls.get(forker) {
            // Full means that it has been told.
            let _ = rustix::io::write(control, &1u64.to_ne_bytes());
        }
    }
}
