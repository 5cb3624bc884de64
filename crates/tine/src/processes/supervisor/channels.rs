//! The channels and wakeups between the processes of a server, as the supervisor keeps them for the
//! processes that it starts.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::connecting::ConnectingChannels;
use crate::ipc::messages::{
    Channel, CrashMessage, Delayed, Identified, ProxyArrival, Receiver, Rejection, Sender, StderrPipe,
};
use crate::jail::layer::Layer;
use crate::processes::forker::door::{DelayerLink, ProxyReaderLink};
use crate::settings::Settings;
use crate::system::wakeup::Wakeup;

/// All channels of a server. A process that the supervisor starts keeps the ends that it uses; the
/// others are closed, so that each channel ends with its last sender.
pub(super) struct Channels {
    /// Wakes the supervisor.
    pub(super) supervisor: Wakeup,
    /// Wakes each forker.
    pub(super) controls: Vec<Wakeup>,
    /// Readable, for ever, once spares have to leave.
    pub(super) retire: OwnedFd,
    /// Where clients can be rejected, by limits or by an operator.
    pub(super) rejector: Option<Channel<Rejection>>,
    /// Where clients can be delayed.
    pub(super) delayer: Option<DelayerChannels>,
    /// Where proxies speak for clients.
    pub(super) proxy_reader: Option<ProxyReaderChannels>,
    /// Where standard error goes through the stderr logger.
    pub(super) stderr: Option<Channel<StderrPipe>>,
    /// With crash reports, which the stderr logger writes.
    pub(super) crashes: Option<Channel<CrashMessage>>,
    /// With cgroups.
    pub(super) cleaner: Option<CleanerSockets>,
    /// Of a full jail whose processes may connect.
    pub(super) connecting: Option<ConnectingChannels>,
}

/// The channels to the delayer and back.
pub(super) struct DelayerChannels {
    pub(super) arrivals: Channel<Delayed>,
    /// The delayer's end, until the delayer has passed its last client in a drain.
    pub(super) released_sender: Option<Sender<Delayed>>,
    pub(super) released: Receiver<Delayed>,
    pub(super) wakeup: Wakeup,
}

/// The channels to the proxy reader and back.
pub(super) struct ProxyReaderChannels {
    pub(super) arrivals: Channel<ProxyArrival>,
    /// The proxy reader's end, until the proxy reader has passed its last client in a drain.
    pub(super) identified_sender: Option<Sender<Identified>>,
    pub(super) identified: Receiver<Identified>,
    /// Wakes the proxy reader, for ever, once no more proxies will come.
    pub(super) last: Wakeup,
}

/// A socket pair by which the cgroup cleaner notices the exit of the supervisor.
pub(super) struct CleanerSockets {
    /// Held by the supervisor for its end only.
    _supervisor: OwnedFd,
    pub(super) cleaner: OwnedFd,
}

impl Channels {
    /// Makes the channels that these settings need, and those for what operators may order; `place`
    /// moves descriptors to where the server's are.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(super) fn new(
        settings: &Settings,
        has_operators: bool,
        place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>,
    ) -> io::Result<Channels> {
        let limits = &settings.limits;
        Ok(Channels {
            supervisor: Wakeup::new(place)?,
            controls: (0..settings.forkers).map(|_| Wakeup::new(place)).collect::<Result<_, _>>()?,
            retire: place(Wakeup::descriptor()?)?,
            rejector: (limits.rejects() || has_operators).then(|| Channel::new(place)).transpose()?,
            delayer: limits.delays().then(|| DelayerChannels::new(place)).transpose()?,
            proxy_reader: limits.proxy.is_some().then(|| ProxyReaderChannels::new(place)).transpose()?,
            stderr: settings.stderr_is_read().then(|| Channel::new(place)).transpose()?,
            crashes: settings.crash_dir.is_some().then(|| Channel::new(place)).transpose()?,
            cleaner: settings.has_cgroups().then(|| CleanerSockets::new(place)).transpose()?,
            connecting: settings
                .jail_plan
                .is_on(Layer::NetworkAllow)
                .then(|| ConnectingChannels::new(place))
                .transpose()?,
        })
    }

    /// Closes the channels to the helpers, which then exit: no process is left that could use them.
    pub(super) fn close_helpers(&mut self) {
        self.rejector = None;
        self.delayer = None;
        self.proxy_reader = None;
        self.stderr = None;
        self.crashes = None;
        self.cleaner = None;
        self.connecting = None;
    }

    pub(super) fn wake_forkers(&self) {
        self.controls.iter().for_each(Wakeup::wake);
    }
}

impl DelayerChannels {
    fn new(place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<DelayerChannels> {
        let released = Channel::new(place)?;
        Ok(DelayerChannels {
            arrivals: Channel::new(place)?,
            released_sender: Some(released.sender),
            released: released.receiver,
            wakeup: Wakeup::new(place)?,
        })
    }

    /// The ends of a forker.
    pub(super) fn for_forker(self) -> DelayerLink {
        DelayerLink { queue: self.arrivals.sender, released: self.released, wakeup: self.wakeup }
    }
}

impl ProxyReaderChannels {
    fn new(place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<ProxyReaderChannels> {
        let identified = Channel::new(place)?;
        Ok(ProxyReaderChannels {
            arrivals: Channel::new(place)?,
            identified_sender: Some(identified.sender),
            identified: identified.receiver,
            last: Wakeup::new(place)?,
        })
    }

    /// The ends of a forker.
    pub(super) fn for_forker(self) -> ProxyReaderLink {
        ProxyReaderLink { arrivals: self.arrivals.sender, identified: self.identified, last: self.last }
    }
}

impl CleanerSockets {
    fn new(place: &impl Fn(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<CleanerSockets> {
        let (supervisor, cleaner) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(CleanerSockets { _supervisor: place(supervisor)?, cleaner: place(cleaner)? })
    }
}
