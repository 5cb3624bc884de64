//! Programs that are started warm: executed once, stopped where they would first use their client,
//! and copied there for each connection.
//!
//! Whether a program can be is decided from a census at the point: what would a copy get wrong? A
//! check then compares copies with executions.

mod accept_plan;
mod call;
mod census;
mod compare;
mod compared;
mod copies;
mod decision;
mod exchange;
mod file_changes;
mod gather;
mod look;
mod make;
mod memory;
pub(super) mod options;
mod own_room;
mod placeholder;
mod plan;
mod proc_text;
mod report;
mod run;
mod runs;
mod snapshot;
mod start;
mod stop;
mod template;
mod timers;
mod watch;

pub use options::{Warm, WarmAllow, WarmCheckSettings, WarmReport, WarmRow, WarmUntil};
pub use run::check_warm;

pub(crate) use call::FileVersion;
pub(crate) use make::{NewTemplate, TemplateFacts, TemplateJail, make_template};
pub(crate) use placeholder::ClientKind;
pub(crate) use plan::{CopyPlan, NotCopied};
pub(crate) use template::{ANSWER_TIME, CopyFor, LiveTemplate, wait_for_answer};
