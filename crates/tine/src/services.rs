//! Many services in one tree of processes: above their supervisors, one that keeps them running.
//!
//! Each service has a supervisor of its own, so that nothing that befalls one service reaches another. The
//! top binds all addresses before the first of them starts, and keeps the sockets: clients of a service
//! whose supervisor was killed wait in the queue until the next one serves them.

use std::fmt;

use tine_sys::process::Alone;

use crate::connection::Connection;
use crate::error::{Error, HandlerError};
use crate::lifecycle::ready::Ready;
use crate::log::{Format, Level};
use crate::processes::master;
use crate::program::{Program, SERVICE};
use crate::server::{Server, alone, descriptor_for_readiness};

/// What serves the connections of a service.
pub(crate) type Handler = Box<dyn FnMut(Connection) -> Result<(), HandlerError>>;

/// One of the services.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) handler: Handler,
}

/// Several services, each with a supervisor of its own, that start and stop together.
///
/// The process that calls [`Services::run`] must have one thread then. It blocks and takes the same signals as
/// [`Server::run`] does, and hands TERM and INT on to the services.
#[derive(Default)]
pub struct Services {
    pub(crate) services: Vec<Service>,
    pub(crate) format: Format,
    pub(crate) level: Level,
    pub(crate) ready: Ready,
}

impl Services {
    /// No service yet.
    #[must_use]
    pub fn new() -> Services {
        Services::default()
    }

    /// One more service, under a name that stands in each line of its log. Of the server's own log,
    /// [`Server::log`], level and format count; what it says of readiness is left to the tree.
    #[must_use]
    pub fn service<H>(mut self, name: &str, mut server: Server, handler: H) -> Services
    where
        H: FnMut(Connection) -> Result<(), HandlerError> + 'static,
    {
        server.settings.service = Some(name.to_owned());
        self.services.push(Service { name: name.to_owned(), server, handler: Box::new(handler) });
        self
    }

    /// The same with a program that is executed for each connection; it finds the name in `TINE_SERVICE`.
    #[must_use]
    pub fn program(self, name: &str, mut server: Server, program: Program) -> Services {
        server.settings.program = Some(program.env(SERVICE, name));
        self.service(name, server, |_| unreachable!("a program is executed instead"))
    }

    /// The log of what concerns no service in particular.
    #[must_use]
    pub fn log(mut self, format: Format, level: Level) -> Services {
        self.format = format;
        self.level = level;
        self
    }

    /// As [`Server::print_ports`], in the order of the services.
    #[must_use]
    pub fn print_ports(mut self, print: bool) -> Services {
        self.ready.ports = print;
        self
    }

    /// As [`Server::ready_descriptor`], once every service is ready.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn ready_descriptor(mut self, number: i32) -> Result<Services, Error> {
        self.ready.descriptor = Some(descriptor_for_readiness(number)?);
        Ok(self)
    }

    /// Serves until SIGTERM or SIGINT and the drain that follows. A service whose supervisor has ended is
    /// started again.
    ///
    /// # Errors
    /// As [`Server::run`]. If one service cannot start, none does.
    pub fn run(self) -> Result<(), Error> {
        let alone: Alone = alone()?;
        for service in &self.services {
            service
                .server
                .check(None)
                .map_err(|error| error.within(format_args!("service {}", service.name)))?;
        }
        master::run::run(self, &alone)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        f.debug_struct("Tree").field("services", &names).finish_non_exhaustive()
    }
}
