//! Whether a program could be started warm: executed once, stopped where it would first use its
//! client, and copied there for each connection. Here the program is started, watched up to that
//! point, looked at, and ended; nothing is copied.
//!
//! What a copy would get wrong is decided from a census at the point.

mod call;
mod census;
mod copies;
mod decision;
mod gather;
mod look;
mod make;
mod memory;
pub(super) mod options;
mod placeholder;
mod plan;
mod proc_text;
mod report;
mod run;
mod start;
mod stop;
mod timers;
mod watch;

pub use options::{Warm, WarmAllow, WarmCheckSettings, WarmReport, WarmRow, WarmUntil};
pub use run::check_warm;

pub(crate) use make::{NewTemplate, TemplateFacts, make_template, wait_for_answer};
pub(crate) use plan::{CopyOf, CopyPlan, NotCopied};
