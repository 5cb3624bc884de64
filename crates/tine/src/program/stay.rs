//! The connection process as the parent of its program: to end the stream properly after the
//! program, or to relay bytes between the client and a terminal.

use std::io;
use std::os::fd::AsFd;

use rustix::process::{Pid, Signal};
use tine_sys::exec::Group;
use tine_sys::fd::Floor;
use tine_sys::identity::become_user;
use tine_sys::process::{Alone, Fresh, How, Side, exit_now, fork};

use super::launch::{Launcher, cannot_execute, choose_stderr};
use super::served::ProgramConnection;
use super::{Terminal, relay};
use crate::lifecycle::outcome::ExitReport;
use crate::system::procfs::own_id;

impl Launcher<'_> {
    /// Whether the connection process stays, as the parent of the program.
    pub(crate) fn stays(&self) -> bool {
        self.image.program.is_child()
    }

    /// Executes the program in a child of this process, a connection process; with a terminal,
    /// relays bytes between client and program. When the program has exited, ends the stream
    /// properly and exits with the same status.
    ///
    /// Closes the descriptors from `first_own` on first: they belong to the server.
    pub(crate) fn stay(&mut self, fresh: &Fresh, client: &ProgramConnection, first_own: Floor) -> ExitReport {
        let ended = match self.image.program.terminal {
            Terminal::None => self.wait_for(fresh, client, first_own),
            kind => self.relay(kind, fresh, client, first_own),
        };
        match ended {
            Ok(How::Exited(code)) => exit_now(code),
            Ok(How::Signaled(signal)) => {
                // At its default, the signal ends this process, too; if it does not, exit as a
                // shell does.
                tine_sys::signal::default(signal);
                tine_sys::signal::raise(signal);
                exit_now(128 + signal)
            }
            Err(why) => cannot_execute(&self.path, &why),
        }
    }

    /// Becomes the parent of the program: enters what the program inherits, as this process needs
    /// no more privileges, and closes what belongs to the server. Returns whether the program has a
    /// standard error of its own.
    fn become_parent(
        &mut self,
        fresh: &Fresh,
        client: &ProgramConnection,
        first_own: Floor,
    ) -> io::Result<(Alone, bool)> {
        // The prepare function may have started threads.
        let alone = Alone::check().map_err(io::Error::other)?;
        if let Some(cgroup) = &client.launch_context.cgroup {
            cgroup.enter()?;
        }
        if let Some(identity) = self.image.identity.take() {
            become_user(&alone, &identity.to_ids())?;
            // The change of user has cleared it (prctl(2)).
            self.image.supervisor.map_or(Ok(()), die_with)?;
        }
        self.image.jail.hold(client.socket)?;
        self.image.jail.enter_room(&alone)?;
        let pipe = self.stderr(client.entry.id)?;
        let null = self.image.null.as_ref();
        let stderr = choose_stderr(self.image.program.stderr, client.socket, pipe.as_ref(), null);
        let has_stderr = stderr.is_some();
        // The program inherits it; this process writes nothing there.
        stderr.map_or(Ok(()), rustix::stdio::dup2_stderr)?;
        drop(pipe);
        self.image.close_own(fresh, client, first_own);
        Ok((alone, has_stderr))
    }

    /// Waits for the program, which has the socket itself. Input that it did not read would make
    /// the kernel send a reset when the program exits, which can destroy the last bytes of the
    /// answer (RFC 1122, 4.2.2.13): this process keeps the socket and discards it.
    fn wait_for(&mut self, fresh: &Fresh, client: &ProgramConnection, first_own: Floor) -> io::Result<How> {
        let (alone, _) = self.become_parent(fresh, client, first_own)?;
        let own = own_id();
        match fork(&alone, Signal::CHILD.as_raw())? {
            Side::Child(_fresh) => {
                let mut execution = self.image.execution(&self.path, client, None);
                execution.cgroup = None;
                execution.stderr = None;
                execution.parent = Some(own);
                // A signal to the group of the connection reaches both.
                execution.group = Group::Inherited;
                // The program was checked at the start. If it was removed since, exit as a shell
                // does.
                execution.run();
                exit_now(127)
            }
            Side::Parent(child) => {
                self.image.leave_jail_to_program();
                // The program decides what a TERM does: without this process, the kernel kills it.
                tine_sys::signal::ignore(Signal::TERM.as_raw());
                let ended = tine_sys::process::wait_for(child)?;
                crate::connection::finish(client.socket);
                Ok(ended)
            }
        }
    }

    fn relay(
        &mut self,
        kind: Terminal,
        fresh: &Fresh,
        client: &ProgramConnection,
        first_own: Floor,
    ) -> io::Result<How> {
        let (alone, has_stderr) = self.become_parent(fresh, client, first_own)?;
        let socket = client.socket;
        let (master, terminal) = relay::open(kind, self.image.program.terminal_size)?;
        let relay = own_id();
        match fork(&alone, Signal::CHILD.as_raw())? {
            Side::Child(_fresh) => {
                let mut execution = self.image.execution(&self.path, client, None);
                execution.cgroup = None;
                execution.stdout = terminal.as_fd();
                execution.parent = Some(relay);
                if kind.is_input() {
                    execution.stdin = terminal.as_fd();
                    execution.group = Group::Session;
                }
                execution.stderr = (kind.is_input() && !has_stderr).then_some(terminal.as_fd());
                execution.run();
                // As above.
                exit_now(127)
            }
            Side::Parent(child) => {
                drop(terminal);
                self.image.leave_jail_to_program();
                let ended = relay::copy(socket, master, child, kind)?;
                crate::connection::finish(socket);
                Ok(ended.how)
            }
        }
    }
}

/// Asks the kernel to kill this process when its parent ends, or does it now if the parent has.
fn die_with(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Pid::from_raw(parent) {
        exit_now(111);
    }
    Ok(())
}
