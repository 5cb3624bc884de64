//! Stopping a server from the program that it is a part of.
//!
//! A handle is a pipe. The kernel sends TERM to the first process of the server when something is
//! written (fcntl(2), `F_SETSIG`), so a stop takes the way of that signal from the first moment on,
//! and whoever has inherited the pipe can ask for it: a handler in a jail, as another user, in
//! another pid namespace. It lies below the descriptors of the server, which connection processes
//! close.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tine_sys::memory::Shared;

use crate::error::{Error, next_move};

/// Stops a server, from a handler, a thread of one, or any other process that was forked from the
/// program: [`Server::stop_handle`](crate::Server::stop_handle).
///
/// Who has the handle may stop the server. Clients have a way to it only through a handler that
/// uses it.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Whether the stop was asked for, by whichever process.
    is_asked: Shared<[AtomicU64; 1]>,
}

impl StopHandle {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> Result<StopHandle, Error> {
        let make = || -> io::Result<Inner> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            Ok(Inner { reader, writer, is_asked: Shared::new(1)? })
        };
        let made = make().map(|inner| StopHandle(Arc::new(inner)));
        made.map_err(|why| {
            Error::system("cannot make a handle to stop the server", &why, next_move::of_call(&why))
        })
    }

    /// Has the server drain and stop, as SIGTERM does. Returns at once. Before the server runs, it
    /// stops as soon as it does; once it is asked to stop, and after it has stopped, nothing
    /// happens.
    pub fn stop(&self) {
        if self.0.is_asked[0][0].swap(1, Relaxed) == 0 {
            // There is room for a byte. Without a reader, the server has stopped.
            let _ = rustix::io::write(&self.0.writer, &[0]);
        }
    }

    /// From now on, this process gets TERM when the handle is used. It blocks that signal.
    pub(crate) fn arm(&self) -> io::Result<()> {
        tine_sys::signal::send_on_input(&self.0.reader, Signal::TERM.as_raw())?;
        if self.0.is_asked[0][0].load(Relaxed) != 0 {
            tine_sys::signal::raise(Signal::TERM.as_raw());
        }
        Ok(())
    }

    /// No process gets a signal any more.
    pub(crate) fn disarm(&self) {
        tine_sys::signal::send_none(&self.0.reader);
    }
}

/// The handles of a server, which are armed while it exists.
#[derive(Debug, Default)]
pub(crate) struct ArmedHandles(Vec<StopHandle>);

impl ArmedHandles {
    /// Arms handles for this process, which is to block TERM.
    ///
    /// # Errors
    /// A sandbox forbids it.
    pub(crate) fn arm(handles: Vec<StopHandle>) -> io::Result<ArmedHandles> {
        handles.iter().try_for_each(StopHandle::arm)?;
        Ok(ArmedHandles(handles))
    }

    /// Before TERM is no longer blocked: it would end the program that has called the server.
    pub(crate) fn disarm(&self) {
        self.0.iter().for_each(StopHandle::disarm);
    }
}
