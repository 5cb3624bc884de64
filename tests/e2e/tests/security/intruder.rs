//! The server `intruder` and the orders that its handlers carry out.

use std::io::{Read, Write};

use tine_e2e::names::{outcome, pid};
use tine_e2e::{Client, Server, ServerCommand, built};

/// Starts the server `intruder`.
pub(crate) fn serve(options: &[&[&str]]) -> Server {
    ServerCommand::program(built("intruder"), &options.concat()).start()
}

/// Whether a client from this address is served. A rejected client receives the end of the stream.
pub(crate) fn is_served(address: &str, server: &Server) -> bool {
    let mut client = Client::from_source(address, server.port());
    // A rejected client's connection may be closed by now.
    let _ = client.stream.write_all(b"pid\n");
    let mut reply = [0];
    matches!(client.stream.read(&mut reply), Ok(1))
}

/// A client whose connection process does what it is ordered to.
pub(crate) struct Intruder {
    pub client: Client,
    /// The process id of the connection process.
    pub pid: i32,
}

impl Intruder {
    /// Connects from an address of 127.0.0.0/8.
    pub(crate) fn from_source(address: &str, server: &Server) -> Intruder {
        let mut intruder = Intruder { client: Client::from_source(address, server.port()), pid: 0 };
        intruder.pid = intruder.done("pid").parse().expect("a process id");
        intruder
    }

    /// Gives an order. Returns the reply: `ok …`, or the error.
    pub(crate) fn order(&mut self, order: &str) -> String {
        self.client.send(format!("{order}\n")).read_line()
    }

    /// Gives an order that succeeds. Returns its result.
    pub(crate) fn done(&mut self, order: &str) -> String {
        let reply = self.order(order);
        reply.strip_prefix("ok ").unwrap_or_else(|| panic!("{order}: {reply}")).to_owned()
    }

    /// Gives an order that the kernel refuses with this error.
    pub(crate) fn denied(&mut self, order: &str, error: &str) {
        let reply = self.order(order);
        assert!(reply.starts_with(error), "{order}: {reply}");
    }

    /// Gives an order that ends the process. Returns the outcome in the log.
    pub(crate) fn last_order(mut self, order: &str, server: &Server) -> String {
        self.client.send(format!("{order}\n")).expect_closed();
        server.log.wait("end line of the intruder", |log| {
            let end = log.of("end").into_iter().find(|end| pid(end) == self.pid)?;
            Some(outcome(&end).to_owned())
        })
    }
}
