//! `tine client`: sends to a server, and prints its replies.
//!
//! Without a message, this process has one connection, to standard input and output ([`talk`]).
//! With one, worker processes have the connections, and the load library runs them ([`messages`]).

mod dial;
mod hint;
mod messages;
mod printer;
mod status;
mod summary;
mod talk;

use std::process::ExitCode;

use crate::args::Client;
use crate::error::Error;
use crate::resolve::Target;

/// Exit code for replies that differ from what was sent.
const WRONG_BYTES: u8 = 3;

/// Exit code for an interrupted run.
const INTERRUPTED: u8 = 130;

/// Runs until all is sent and received, the server closes, or Ctrl-C.
pub(crate) fn run(args: Client) -> Result<ExitCode, Error> {
    let targets = args.addresses.iter().map(|text| Target::resolve(text)).collect::<Result<Vec<_>, _>>()?;
    match (&args.message, targets.as_slice()) {
        (None, [target]) if args.connections == 1 => {
            talk::run(target, args.wait, args.proxy.headers().as_ref())
        }
        (None, _) => Err(Error::usage(
            "several connections cannot share one standard input",
            "give the message of each (--message TEMPLATE), or one address only",
        )),
        (Some(message), _) => messages::run(&args, message, &targets),
    }
}
