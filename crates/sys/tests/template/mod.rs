//! Templates of programs that wait for their standard input, for tests.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::exec::{CStrings, Execution};
use tine_sys::namespaces::Kinds;
use tine_sys::plant::{Answer, CopyBase, CopySteps, Planting, Template, TemplateChannel, plant};
use tine_sys::process::Alone;
use tine_sys::trace::{Kin, TraceEvent, TracedCall, Tracer};

/// No test comes near this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A template of a program, and its standing-in connection.
pub(crate) struct Subject {
    pub(crate) pid: i32,
    pub(crate) channel: TemplateChannel,
    pub(crate) base: CopyBase,
    _process: OwnedFd,
}

impl Subject {
    /// Starts a program, and makes a template of it where it reads from descriptor 0.
    pub(crate) fn new(path: &CStr, words: &[&str]) -> Subject {
        Subject::with_namespaces(path, words, None)
    }

    /// The same, whose copies have namespaces of their own.
    pub(crate) fn with_namespaces(path: &CStr, words: &[&str], own: Option<Kinds>) -> Subject {
        let open = BTreeSet::from([0, 1, 2]);
        Subject::at(path, words, reads_input, &Planting { open: &open, own, result: None })
    }

    /// The same, where it makes another call.
    pub(crate) fn at(
        path: &CStr,
        words: &[&str],
        is_point: fn(&TracedCall) -> bool,
        planting: &Planting,
    ) -> Subject {
        let alone = Alone::check().expect("one thread");
        let (stand_in, _client) = UnixStream::pair().expect("sockets");
        let mut arguments = CStrings::default();
        words.iter().for_each(|word| arguments.push(word));
        let mut environment = CStrings::default();
        environment.push("PATH=/bin:/usr/bin");
        let mut execution = Execution::new(path, &mut arguments, &mut environment, stand_in.as_fd());
        let mut tracer = Tracer::new(&alone).expect("descriptors");
        let (pid, _) =
            tracer.start(Kin::Child, |_| execution.run().to_string().into_bytes()).expect("ptrace");
        loop {
            let stop = tracer.next(Some(Instant::now() + TIMEOUT)).expect("no error").expect("an event");
            match stop.event {
                TraceEvent::Entry(call) if is_point(&call) => break,
                TraceEvent::Ended(how) => panic!("{how:?}"),
                TraceEvent::Signal(signal) => tracer.resume(stop.task, Some(signal)).expect("it has stopped"),
                _ => tracer.resume(stop.task, None).expect("it has stopped"),
            }
        }
        let Template { channel, process, base } = plant(&mut tracer, pid, planting).expect("a template");
        Subject { pid, channel: TemplateChannel::new(channel).expect("a socket"), base, _process: process }
    }

    pub(crate) fn answer(&self) -> Answer {
        let mut poll = [PollFd::new(&self.channel, PollFlags::IN)];
        tine_sys::wait::until(&mut poll, Some(Instant::now() + TIMEOUT)).expect("poll");
        self.channel.answer().expect("no error").expect("an answer")
    }

    /// A copy that is connected to the stream, which is returned.
    pub(crate) fn copy(&self, more: impl FnOnce(&mut CopySteps)) -> (i32, UnixStream) {
        let (own, other) = UnixStream::pair().expect("sockets");
        let mut steps = self.base.begin();
        let received = steps.receive();
        steps.lead_group();
        steps.show();
        [0, 1].into_iter().for_each(|number| steps.duplicate(received, number, false));
        steps.close(received);
        more(&mut steps);
        let message = self.base.finish(steps).expect("short");
        self.channel.ask(&message, &[other.as_fd()]).expect("it runs");
        match self.answer() {
            Answer::Copied(pid) => (pid, own),
            answer => panic!("{answer:?}"),
        }
    }
}

/// The C library musl reads with readv(2).
fn reads_input(call: &TracedCall) -> bool {
    let numbers = [libc::SYS_read, libc::SYS_readv].map(libc::c_long::cast_unsigned);
    numbers.contains(&call.number) && call.arguments[0] == 0
}

/// Sends a text and the end of the stream, and returns all that is sent back.
pub(crate) fn exchange(mut stream: UnixStream, text: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(TIMEOUT)).expect("not zero");
    stream.write_all(text).expect("a reader");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("no error");
    all
}
