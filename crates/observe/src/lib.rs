//! The observer of a tine server: it tells monitoring and operators about the server over HTTP.
//!
//! It is a process of its own (`tine: observer` in ps(1)), which the server executes. It has no
//! descriptor of a client of the server: it asks over a channel, as `tine status` does, and may
//! only read, or also kill, pause and ban. An async runtime is used here, and nowhere else: this
//! process never forks.
//!
//! | file | subject |
//! | --- | --- |
//! | `asking.rs` | asks the server, and remembers replies for a moment |
//! | `steering.rs`, `body.rs` | requests that steer |
//! | `exposition.rs`, `families.rs` | metrics as text |
//! | `agent.rs` | the agent of HAProxy: a line for each connection |
//! | `samples.rs`, `sampling.rs` | what is counted each second, and who follows it |
//! | `assets.rs` | the files of the dashboard |
//! | `pages.rs` | a part of a list of connections |
//! | `guard.rs` | access: the token, and the host of a request |
//! | `targets.rs`, `answer.rs` | from the path of a request to its answer |
//! | `serve.rs` | accepts clients, within limits of number and time |
//! | `settings.rs` | what the server tells at the start |

#![forbid(unsafe_code)]

mod agent;
mod answer;
mod asking;
mod assets;
mod body;
mod events;
mod exposition;
mod families;
mod guard;
mod negotiation;
mod pages;
mod samples;
mod sampling;
mod serve;
mod settings;
mod steering;
mod targets;

use std::process::ExitCode;

use tine::cli::Observed;

pub use serve::fuzz_connection;
pub use settings::ObserverSettings;

/// Runs as the observer of a server, until that ends.
#[must_use]
pub fn run(observed: Observed) -> ExitCode {
    let _ = rustix::thread::set_name(c"tine: observer");
    match serve::run(&observed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            observed.failed(&why);
            ExitCode::from(111)
        }
    }
}
