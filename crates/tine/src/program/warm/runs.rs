//! Runs a program on real connections: executed, or copied from its template.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tine_sys::exec::spawn_child;
use tine_sys::plant::{Answer, TemplateChannel, wait_for_stop};
use tine_sys::process::{Alone, wait_for};

use super::exchange::{Ends, TimedOutcome, exchange};
use super::make::NewTemplate;
use super::snapshot::DescriptorTable;
use super::start::{cannot, names_of, without_values};
use super::template::{CopyFor, LiveTemplate};
use crate::error::{Error, ErrorKind};
use crate::ipc::board::Entry;
use crate::lifecycle::outcome::ExitReport;
use crate::net::peer::Peer;
use crate::program::launch::{Launcher, cannot_execute};
use crate::program::served::{LaunchContext, ProgramConnection};
use crate::system::orphans::PreexistingChildren;

/// What runs of a program need.
pub(super) struct Runs<'a, 'b> {
    alone: &'a Alone,
    launcher: &'a mut Launcher<'b>,
    pub(super) template: LiveTemplate,
    /// The process id of the template.
    template_id: i32,
    listener: TcpListener,
    /// What the client sends.
    pub(super) input: &'a [u8],
    /// The time of each run.
    pub(super) timeout: Duration,
    /// Whether the program gets the variables of its connection.
    pub(super) has_variables: bool,
    /// The number of connections so far.
    connections: u64,
    leftovers: Leftovers,
}

/// The processes that the runs leave behind: all children that this process did not have before.
/// Dropping it kills them.
struct Leftovers(PreexistingChildren);

impl Leftovers {
    /// Kills and reaps all, but one. The orphans among them become children of this process.
    fn kill(&self, but: Option<i32>) {
        loop {
            let children = self.0.children();
            let mut others = children.into_iter().filter(|child| Some(*child) != but).peekable();
            if others.peek().is_none() {
                return;
            }
            for child in others {
                let _ = Pid::from_raw(child).map(|child| kill_process(child, Signal::KILL));
                let _ = wait_for(child);
            }
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.kill(None);
    }
}

impl<'a, 'b> Runs<'a, 'b> {
    /// # Errors
    /// There is no socket for the connections.
    pub(super) fn new(
        alone: &'a Alone,
        launcher: &'a mut Launcher<'b>,
        template: NewTemplate,
        before: PreexistingChildren,
    ) -> Result<Runs<'a, 'b>, Error> {
        let leftovers = Leftovers(before);
        let NewTemplate { channel, process, plan, facts } = template;
        let channel =
            TemplateChannel::new(channel).map_err(|why| cannot("use the channel of the template", &why))?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|why| cannot("listen on loopback", &why))?;
        Ok(Runs {
            alone,
            launcher,
            template: LiveTemplate { channel, process, plan },
            template_id: facts.pid,
            listener,
            input: &[],
            timeout: Duration::MAX,
            has_variables: true,
            connections: 0,
            leftovers,
        })
    }

    /// Executes the program for a connection.
    ///
    /// # Errors
    /// It cannot be executed, or the system refuses a step.
    pub(super) fn execute(&mut self) -> Result<TimedOutcome, Error> {
        self.run(|runs, client| {
            let report = RefCell::new(None);
            let failed = |why: &ExitReport| {
                report.replace(Some(match why {
                    ExitReport::Error(text) => text.clone(),
                    _ => "cannot execute the program".to_owned(),
                }));
            };
            let without;
            let client = match runs.has_variables {
                true => client,
                false => {
                    without = without_values(&names_of(&runs.launcher.variables(client)));
                    &ProgramConnection { launch_context: &without, ..*client }
                }
            };
            let pid = runs.launcher.spawn_child(runs.alone, client, &failed);
            let pid = pid.map_err(|why| cannot("execute the program", &why))?;
            match report.take() {
                Some(text) => {
                    Err(Error::new(ErrorKind::Program, text, "see whether it was changed meanwhile"))
                }
                None => Ok(pid),
            }
        })
    }

    /// Has the template copied for a connection.
    ///
    /// # Errors
    /// It cannot be copied, or the system refuses a step.
    pub(super) fn copy(&mut self) -> Result<TimedOutcome, Error> {
        let timed = self.run(|runs, client| runs.ask(client, false))?;
        self.check_copies()?;
        Ok(timed)
    }

    /// The descriptors of a copy before it goes on as the program, which it never does.
    ///
    /// # Errors
    /// As [`Runs::copy`].
    pub(super) fn look_at_copy(&mut self, stderr: Option<&str>) -> Result<DescriptorTable, Error> {
        let cannot_look = |why: io::Error| cannot("look at a copy", &why);
        let ends = self.connect()?;
        let name =
            fs::read_link(format!("/proc/self/fd/{}", ends.server.as_raw_fd())).map_err(cannot_look)?;
        let context = LaunchContext::default();
        let pid = self.ask(&self.connection(&ends, &context), true)?;
        let deadline = Instant::now().checked_add(self.timeout);
        let seen = match wait_for_stop(pid, deadline).map_err(cannot_look)? {
            true => DescriptorTable::take(pid, &name.display().to_string(), stderr).map_err(cannot_look),
            false => self.check_copies().and_then(|()| Err(cannot_look(io::ErrorKind::TimedOut.into()))),
        };
        self.leftovers.kill(Some(self.template_id));
        seen
    }

    fn connect(&mut self) -> Result<Ends, Error> {
        self.connections += 1;
        Ends::connect(&self.listener).map_err(|why| cannot("make a connection over loopback", &why))
    }

    fn connection<'c>(&self, ends: &'c Ends, launch_context: &'c LaunchContext) -> ProgramConnection<'c> {
        let entry = Entry { id: self.connections, peer: Peer::Tcp(ends.remote), start: 0 };
        ProgramConnection { socket: &ends.server, entry, proxied: None, launch_context }
    }

    fn run(
        &mut self,
        start: impl FnOnce(&mut Self, &ProgramConnection) -> Result<i32, Error>,
    ) -> Result<TimedOutcome, Error> {
        let ends = self.connect()?;
        let context = LaunchContext::default();
        let connection = self.connection(&ends, &context);
        let pid = start(self, &connection)?;
        let Ends { client, server, begin, .. } = ends;
        drop(server);
        let timed = exchange(client, begin, pid, self.input, self.timeout);
        // Also what has been reaped may have left members of its group.
        let _ = Pid::from_raw(pid).map(|group| kill_process_group(group, Signal::KILL));
        self.leftovers.kill(Some(self.template_id));
        timed.map_err(|why| cannot("wait for the program", &why))
    }

    /// Asks the template for a copy, and returns its id.
    fn ask(&self, client: &ProgramConnection, stops: bool) -> Result<i32, Error> {
        let variables = self.launcher.variables(client);
        let asked = self.template.ask(&CopyFor {
            socket: client.socket,
            variables: &variables,
            peer: client.entry.peer,
            stderr: None,
            cgroups: &[],
            stops,
        });
        let cannot_copy = |why: io::Error| cannot("copy the template", &why);
        asked.map_err(cannot_copy)?.map_err(|why| Error::new(ErrorKind::Program, why, SERVE_COLD))?;
        let mut failure = None;
        let answer = self.template.wait_for_copy(|step, result| failure = Some((step, result)));
        match (failure, answer.map_err(cannot_copy)?) {
            (Some((step, result)), _) | (None, Answer::Failed(step, result)) => Err(failed(step, result)),
            (None, Answer::Copied(pid)) => Ok(pid),
            (None, Answer::NotCopied(why)) => Err(cannot_copy(why.into())),
            (None, Answer::Tried) => Err(cannot_copy(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Whether a copy has reported that it could not take a step.
    fn check_copies(&self) -> Result<(), Error> {
        match self.template.channel.answer() {
            Ok(Some(Answer::Failed(step, result))) => Err(failed(step, result)),
            Ok(_) => Ok(()),
            Err(why) => Err(cannot("copy the template", &why)),
        }
    }
}

const SERVE_COLD: &str = "serve it by execution";

fn failed(step: u64, result: i64) -> Error {
    let what =
        format!("a copy has ended before it served its client: its step {step} had the result {result}");
    Error::new(ErrorKind::System, what, SERVE_COLD)
}

impl Launcher<'_> {
    /// Creates a child of this process that executes the program on a connection, and returns its
    /// id. If the execution fails, the new process calls `failed` with a report and exits.
    fn spawn_child(
        &mut self,
        alone: &Alone,
        client: &ProgramConnection,
        failed: &dyn Fn(&ExitReport),
    ) -> io::Result<i32> {
        let stderr = self.stderr(client.entry.id)?;
        let failed = |why: &io::Error| {
            let report = cannot_execute(&self.path, why);
            failed(&report);
            report.exit_code()
        };
        let execution = &mut self.image.execution(&self.path, client, stderr.as_ref());
        spawn_child(alone, &mut self.stack, execution, &failed)
    }
}
