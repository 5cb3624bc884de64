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
/// ([`Observed`](crate::cli::Observed)), and more where that is allowed.
#[derive(Debug)]
pub struct ObserverSetup {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) user: Option<Identity>,
    pub(crate) settings: String,
    pub(crate) is_public: bool,
    /// Whether it may end connections, pause and ban.
    pub(crate) may_tend: bool,
}

impl ObserverSetup {
    /// Listens on an address. `settings` are for the observer alone.
    ///
    /// # Errors
    /// The address is invalid, or cannot be bound.
    pub fn bind(address: &str, settings: String) -> Result<ObserverSetup, Error> {
        let mut listeners = Vec::new();
        for address in Address::parse_range(address)? {
            bind(&mut listeners, &address, &SocketOptions::default())?;
        }
        Ok(ObserverSetup { listeners, user: None, settings, is_public: false, may_tend: false })
    }

    /// Sets whether other machines can reach the address: then the log has a warning, since nothing
    /// is encrypted. Default: false.
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
}
