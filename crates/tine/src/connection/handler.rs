//! What serves connections: a closure, or a type with steps of its own.

use super::Connection;
use crate::error::HandlerError;

/// Serves the connections of a server: a closure that gets a [`Connection`], or a type that has
/// something to do before ([`Server::run_handler`](crate::Server::run_handler)).
///
/// | method | runs |
/// | --- | --- |
/// | `on_start` | once in each forker, before the server is ready, and in a restarted forker |
/// | `on_child` | once in each connection process, before its first connection |
/// | `serve` | for each connection, in its process |
///
/// Each process has a copy of the handler as it was where the process was forked: a connection
/// process sees what `on_start` did to its forker's copy, and nothing of other connections.
pub trait Handler {
    /// Prepares what all connections use, once in each forker: reads a file, opens a database that
    /// connections read. The forker has the user and groups of
    /// [`Server::identity`](crate::Server::identity), and is not in the jail. What is opened here
    /// stays open in connection processes. It must leave no thread behind, since connection
    /// processes are forked from this one.
    ///
    /// # Errors
    /// At the start, an error or a panic ends the server, and [`Server::run_handler`] returns it;
    /// in a forker that was restarted, it is logged, and the forker is started again later.
    ///
    /// [`Server::run_handler`]: crate::Server::run_handler
    fn on_start(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Prepares this process, once, right before its first connection, within the jail: connects to
    /// a database, starts threads. A process serves one connection; with
    /// [`Server::reuse`](crate::Server::reuse) several, one after another. The client is there
    /// already: what takes long belongs into [`Handler::on_start`].
    ///
    /// # Errors
    /// An error or a panic ends the connection and its process, as one of [`Handler::serve`].
    fn on_child(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Serves a connection, in a process of its own: it may block, crash, leak, and start threads.
    ///
    /// # Errors
    /// An error or a panic ends the connection and is logged.
    fn serve(&mut self, connection: Connection) -> Result<(), HandlerError>;
}

impl<F> Handler for F
where
    F: FnMut(Connection) -> Result<(), HandlerError>,
{
    #[inline]
    fn serve(&mut self, connection: Connection) -> Result<(), HandlerError> {
        self(connection)
    }
}

/// A handler of any type, for services that each have another one.
pub(crate) struct AnyHandler(pub(crate) Box<dyn Handler>);

impl Handler for AnyHandler {
    fn on_start(&mut self) -> Result<(), HandlerError> {
        self.0.on_start()
    }

    fn on_child(&mut self) -> Result<(), HandlerError> {
        self.0.on_child()
    }

    fn serve(&mut self, connection: Connection) -> Result<(), HandlerError> {
        self.0.serve(connection)
    }
}
