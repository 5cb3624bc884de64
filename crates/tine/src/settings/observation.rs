//! How a server is observed: by a process of its own, with listeners of its own.

use crate::error::Error;
use crate::net::address::Address;
use crate::net::bind::bind;
use crate::net::listener::Listener;
use crate::net::options::SocketOptions;
use crate::system::users::Identity;

/// A process beside a server that tells others about it. It is executed from the file of this
/// process, with another user where that is possible, and has nothing of the server but its
/// listeners and a channel, over which it may read what `tine status` and `tine list` show
/// ([`Observed`](crate::cli::Observed)).
#[derive(Debug)]
pub struct Observation {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) user: Option<Identity>,
    pub(crate) settings: String,
}

impl Observation {
    /// Listens on an address. `settings` are for the observer alone.
    ///
    /// # Errors
    /// The address is invalid, or cannot be bound.
    pub fn bind(address: &str, settings: String) -> Result<Observation, Error> {
        let mut listeners = Vec::new();
        for address in Address::parse_range(address)? {
            bind(&mut listeners, &address, &SocketOptions::default())?;
        }
        Ok(Observation { listeners, user: None, settings })
    }

    /// Sets the user of the observer. Default: that of the server.
    #[must_use]
    pub fn user(self, user: Identity) -> Observation {
        Observation { user: Some(user), ..self }
    }

    /// The addresses that the observer listens on, as they are shown.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(|listener| listener.name.clone()).collect()
    }

    /// The port of the first one, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.listeners.first().and_then(|listener| listener.port)
    }
}
