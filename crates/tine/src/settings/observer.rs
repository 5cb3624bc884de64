//! How a server is observed: by a process of its own, with listeners of its own.

use crate::error::Error;
use crate::ipc::text_channel::MAX_DESCRIPTORS;
use crate::net::address::Address;
use crate::net::bind::bind;
use crate::net::listener::Listener;
use crate::net::options::SocketOptions;
use crate::system::users::Identity;

/// A process beside a server that tells others about it. It is executed from the file of this
/// process, with another user where that is possible, and has nothing of the server but its
/// listeners and a channel, over which it may read what `tine status` and `tine list` show
/// ([`Observed`](crate::cli::Observed)), and more where that is allowed.
#[derive(Debug, Default)]
pub struct ObserverSetup {
    /// Those for HTTP first, then those of agents.
    pub(crate) listeners: Vec<Listener>,
    /// Of each agent, the service that it tells about, if the server has several.
    pub(crate) agents: Vec<Option<String>>,
    pub(crate) user: Option<Identity>,
    pub(crate) settings: String,
    pub(crate) is_public: bool,
    /// Whether it may end connections, pause and ban.
    pub(crate) may_tend: bool,
}

impl ObserverSetup {
    /// One that has no address yet.
    #[must_use]
    pub fn new() -> ObserverSetup {
        ObserverSetup::default()
    }

    /// Listens for HTTP on an address, too. Call it before [`ObserverSetup::bind_agent`].
    ///
    /// # Errors
    /// The address is invalid, or cannot be bound.
    pub fn bind(mut self, address: &str) -> Result<ObserverSetup, Error> {
        self.listen(address).map(|_| self)
    }

    /// Listens for agent checks on an address, too: of a service, if the server has several.
    ///
    /// # Errors
    /// The address is invalid, or cannot be bound.
    pub fn bind_agent(mut self, address: &str, service: Option<&str>) -> Result<ObserverSetup, Error> {
        let count = self.listen(address)?;
        self.agents.extend(std::iter::repeat_n(service.map(str::to_owned), count));
        Ok(self)
    }

    /// Binds an address. Returns the number of its listeners: a host name can have several.
    fn listen(&mut self, address: &str) -> Result<usize, Error> {
        let before = self.listeners.len();
        for address in Address::parse_range(address)? {
            bind(&mut self.listeners, &address, &SocketOptions::default())?;
        }
        match self.listeners.len() {
            count if count <= MAX_DESCRIPTORS => Ok(count - before),
            count => Err(Error::usage(
                format_args!("the observer has {count} addresses, and can have {MAX_DESCRIPTORS}"),
                "give fewer services an agent, or serve some of them with another server",
            )),
        }
    }

    /// Sets what is for the observer alone.
    #[must_use]
    pub fn settings(self, settings: String) -> ObserverSetup {
        ObserverSetup { settings, ..self }
    }

    /// The services of the agents, in the order of their listeners, which are the last ones.
    #[must_use]
    pub fn agents(&self) -> &[Option<String>] {
        &self.agents
    }

    /// Sets whether other machines can reach the address for HTTP: then the log has a warning,
    /// since nothing is encrypted. Default: false.
    #[must_use]
    pub fn public(self, is_public: bool) -> ObserverSetup {
        ObserverSetup { is_public, ..self }
    }

    /// Sets whether the observer may also kill connections, pause and resume services, and ban and
    /// unban clients. Default: false.
    #[must_use]
    pub fn control(self, may_tend: bool) -> ObserverSetup {
        ObserverSetup { may_tend, ..self }
    }

    /// Sets the user of the observer. Default: that of the server.
    #[must_use]
    pub fn user(self, user: Identity) -> ObserverSetup {
        ObserverSetup { user: Some(user), ..self }
    }

    /// Each listener, with the service that its agent tells about: `None` for HTTP.
    pub(crate) fn named_listeners(&self) -> impl Iterator<Item = (&Listener, Option<&Option<String>>)> {
        let http = self.listeners.len() - self.agents.len();
        let services = std::iter::repeat_n(None, http).chain(self.agents.iter().map(Some));
        self.listeners.iter().zip(services)
    }
}
