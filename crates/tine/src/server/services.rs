//! A server with several services: above their supervisors, a master that starts them again.
//!
//! Each service has a supervisor of its own, so that a failure of one service does not affect
//! another. The master binds all addresses before the first service starts, and keeps the sockets:
//! clients of a service whose supervisor was killed wait in the backlog until the next supervisor
//! accepts them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{alone, ready_descriptor, run_once};
use crate::connection::Connection;
use crate::connection::handler::{AnyHandler, Handler};
use crate::error::{Error, ErrorKind, HandlerError};
use crate::ipc::handover::takeover::Takeover;
use crate::ipc::members::Members;
use crate::lifecycle::ready::Ready;
use crate::lifecycle::stop_handle::StopHandle;
use crate::log::{LogFormat, LogLevel, LogSettings, LogTarget};
use crate::processes::master::{self, MasterSetup, ServiceSetup};
use crate::program::{Program, SERVICE};
use crate::settings::Server;
use crate::settings::control::Control;
use crate::settings::observer::ObserverSetup;
use crate::settings::replacement::Replacement;

/// One of the services.
struct Service {
    name: String,
    server: Server,
    handler: AnyHandler,
}

/// Several services, each with a supervisor of its own, that start and stop together.
///
/// The process that calls [`Services::run`] must have only one thread then. It handles the same
/// signals as [`Server::run`], and passes TERM and INT to the services.
#[derive(Default)]
pub struct Services {
    services: Vec<Service>,
    log: LogSettings,
    ready: Ready,
    ready_descriptor: Option<i32>,
    /// Also those of the servers that have become services.
    stop_handles: Vec<StopHandle>,
    control: Control,
    pub(crate) replacement: Option<Replacement>,
    pub(crate) takeover: Option<Takeover>,
    pub(crate) observation: Option<ObserverSetup>,
}

impl Services {
    /// No service yet.
    #[must_use]
    pub fn new() -> Services {
        Services::default()
    }

    /// Adds a service. Its name is in each line of its log. The log format and level of the server
    /// apply to the service; all services have one target, [`Services::log_target`]. Readiness is
    /// reported for all services together, by [`Services::print_ports`] and
    /// [`Services::ready_descriptor`], and all services are reached by one control socket,
    /// [`Services::control`].
    #[must_use]
    pub fn service<H>(self, name: &str, server: Server, handler: H) -> Services
    where
        H: FnMut(Connection) -> Result<(), HandlerError> + 'static,
    {
        self.handler(name, server, handler)
    }

    /// As [`Services::service`], with a handler of any type. A closure needs the type of its
    /// argument here: `|connection: tine::Connection|`.
    #[must_use]
    pub fn handler<H: Handler + 'static>(mut self, name: &str, mut server: Server, handler: H) -> Services {
        server.settings.service = Some(name.to_owned());
        server.settings.ready_descriptor = None;
        server.ready.pid_path = None;
        server.log.target = LogTarget::Stderr;
        server.settings.control = Control::none();
        self.stop_handles.extend(server.stop_handle.take());
        self.services.push(Service { name: name.to_owned(), server, handler: AnyHandler(Box::new(handler)) });
        self
    }

    /// Adds a service that executes a program for each connection. The program finds the name of
    /// the service in `TINE_SERVICE`.
    #[must_use]
    pub fn program(self, name: &str, mut server: Server, program: Program) -> Services {
        server.settings.program = Some(program.env(SERVICE, name));
        self.service(name, server, |_| unreachable!("a program is executed instead"))
    }

    /// Sets the format of the master's log. Default: text.
    #[must_use]
    pub fn log_format(mut self, format: LogFormat) -> Services {
        self.log.format = format.into();
        self
    }

    /// Sets where the log of the master and of all services goes, as [`Server::log_target`].
    #[must_use]
    pub fn log_target(mut self, target: LogTarget) -> Services {
        self.log.target = target;
        self
    }

    /// Sets which events the master logs. Default: all.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Services {
        self.log.level = level;
        self
    }

    /// Sets the control socket of the server as a whole. Default: none.
    #[must_use]
    pub fn control(mut self, control: Control) -> Services {
        self.control = control;
        self
    }

    /// As [`Server::print_ports`], in the order of the services.
    #[must_use]
    pub fn print_ports(mut self, print: bool) -> Services {
        self.ready.ports = print;
        self
    }

    /// As [`Server::ready_descriptor`], when every service is ready.
    #[must_use]
    pub fn ready_descriptor(mut self, number: i32) -> Services {
        self.ready_descriptor = Some(number);
        self
    }

    /// As [`Server::pid_file`], with the id of the calling process.
    #[must_use]
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Services {
        self.ready.pid_path = Some(path.into());
        self
    }

    /// A handle that stops all services, for a handler. So does that of a [`Server`] that has
    /// become a service.
    ///
    /// # Errors
    /// The system is out of memory or descriptors.
    pub fn stop_handle(&mut self) -> Result<StopHandle, Error> {
        let handle = StopHandle::new()?;
        self.stop_handles.push(handle.clone());
        Ok(handle)
    }

    /// The TCP addresses that the services listen on, in the order of the services and of their
    /// addresses.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.services.iter().flat_map(|service| service.server.local_addresses()).collect()
    }

    /// Serves until SIGTERM or SIGINT and the drain that follows, or until every service has served
    /// the connections of its [`Server::exit_after`]. A service whose supervisor ended otherwise is
    /// started again.
    ///
    /// # Errors
    /// As [`Server::run`]. If one service cannot start, none does.
    pub fn run(mut self) -> Result<(), Error> {
        let alone = alone()?;
        self.prepare().inspect_err(|error| {
            self.takeover.iter().for_each(|takeover| takeover.failed(&error.to_string(), error.exit_code()));
        })?;
        run_once(|| {
            let members: Vec<usize> = self.services.iter().map(|service| service.server.members()).collect();
            let members = Members::begin(&members)?;
            let mut setup = self.into_setup();
            for (service, members) in setup.services.iter_mut().zip(members) {
                service.server.members = members;
            }
            master::run::run(setup, &alone)
        })
    }

    /// What the master takes over.
    fn into_setup(self) -> MasterSetup {
        let Services { services, log, mut ready, control, replacement, takeover, observation, .. } = self;
        let stop_handles = self.stop_handles;
        if takeover.is_some() {
            ready.takes_over();
        }
        let services = services.into_iter().map(|Service { name, server, handler }| ServiceSetup {
            name,
            server: server.into_setup(),
            handler,
            controllers: None,
            link: None,
        });
        let services = services.collect();
        MasterSetup { services, log, ready, control, stop_handles, observation, replacement, takeover }
    }

    /// Validates what the builder stored.
    fn prepare(&mut self) -> Result<(), Error> {
        if self.services.is_empty() {
            return Err(Error::new(
                ErrorKind::NoAddress,
                "there is no service to run",
                "add one (`Services::service`, `Services::program`)",
            ));
        }
        self.log.target.check()?;
        for service in &mut self.services {
            let prepared = service.server.prepare();
            prepared.map_err(|error| error.within(format_args!("service {}", service.name)))?;
        }
        let number = self.ready_descriptor.take();
        if let Some(number) = number.filter(|_| self.takeover.is_none()) {
            let listeners = self.services.iter().flat_map(|service| &service.server.listeners);
            self.ready.descriptor = Some(ready_descriptor(number, listeners)?);
        }
        Ok(())
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        f.debug_struct("Services").field("services", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_need_an_address_each() {
        let none = Services::new().prepare().expect_err("no service");
        assert_eq!(none.kind(), ErrorKind::NoAddress);
        let bound = Server::bind("127.0.0.1:0").expect("bound");
        let mut one = Services::new().service("a", bound, |_| Ok(())).service("b", Server::new(), |_| Ok(()));
        let error = one.prepare().expect_err("b has none");
        assert!(error.to_string().starts_with("service b: "), "{error}");
        assert_eq!(error.kind(), ErrorKind::NoAddress);
    }
}
