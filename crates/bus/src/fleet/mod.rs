//! A fleet: servers on several nodes that share bans, penalties and the use of sources over a bus.
//!
//! Each of them has a *link*: a process of its own (`tine: link` in ps(1)), which the server
//! executes. It has one descriptor of the server, a channel over which it tells what has changed
//! elsewhere, and asks what an operator of the fleet wants to know. It never forks, and it is
//! confined before it reads anything from the bus.
//!
//! | file | subject |
//! | --- | --- |
//! | `settings.rs` | what the server tells at the start |
//! | `subjects.rs`, `messages.rs` | what is said on the bus, and on which subjects |
//! | `records.rs` | bans as the bucket has them |
//! | `bans.rs` | bans as this node knows them: the last order about a block counts |
//! | `jetstream.rs`, `bucket.rs` | the bucket: opened, read, followed, and put what it lacks |
//! | `roster.rs`, `sums.rs` | the other nodes, and what they use together |
//! | `own.rs` | what this node says |
//! | `outbox.rs` | what the service is told |
//! | `penalties.rs` | penalties that are known |
//! | `clock.rs`, `deeds.rs` | clocks and bounds of rates; what is done on the bus |
//! | `state.rs` | all of that together: decides, without system calls |
//! | `files.rs` | the files that a confined link still needs |
//! | `asks.rs` | questions of operators |
//! | `link.rs` | waits, and applies |
//! | `operator.rs` | `tine fleet`: a process that asks and orders nodes, and bans |
//! | `tried.rs` | a link that fuzz targets have hear anything |

mod asks;
mod bans;
mod bucket;
mod clock;
mod deeds;
mod files;
mod jetstream;
mod link;
mod messages;
pub mod operator;
mod outbox;
mod own;
mod penalties;
mod records;
mod roster;
mod settings;
mod state;
mod subjects;
mod sums;
#[doc(hidden)]
pub mod tried;

use std::process::ExitCode;

use tine::cli::{LinkRecord, Linked};

pub use messages::{Answer, Question};
pub use settings::LinkSettings;

/// Runs as the link of a server, until that ends.
#[must_use]
pub fn run(linked: Linked) -> ExitCode {
    let _ = rustix::thread::set_name(c"tine: link");
    match link::run(&linked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // If nobody listens any more, nobody needs to know.
            let _ = linked.send(&[LinkRecord::Failed(why)]);
            ExitCode::from(111)
        }
    }
}
