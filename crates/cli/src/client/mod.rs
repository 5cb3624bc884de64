//! `tine client`: talks to a server, a process for each connection.
//!
//! Without a message, this process itself is the one connection ([`talk`]). With one, it only starts
//! workers, watches them and sums up ([`crew`]); each worker has its share of the connections and a loop
//! of its own ([`worker`]), and leaves its numbers in shared memory ([`tally`]).

mod crew;
mod dial;
mod exchange;
mod report;
mod talk;
mod tally;
mod worker;

use std::process::ExitCode;

use tine::Address;

use crate::error::Error;

use crate::args::Client;

/// Exit code for replies that differ from what was sent.
const WRONG_BYTES: u8 = 3;

/// Exit code for an interrupted run.
const INTERRUPTED: u8 = 130;

/// Talks until done, the server closes, or Ctrl-C.
pub fn run(args: Client) -> Result<ExitCode, Error> {
    let addresses: Vec<Address> = args.addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let targets = addresses.into_iter().map(dial::Target::find).collect::<Result<Vec<_>, _>>()?;
    match (&args.message, targets.as_slice()) {
        (None, [target]) if args.connections == 1 => talk::run(target, args.wait),
        (None, _) => Err(Error::usage(
            "several connections cannot share one standard input",
            "say what each is to send (--message TEMPLATE), or give one address",
        )),
        (Some(_), _) => crew::run(&args, &targets),
    }
}
