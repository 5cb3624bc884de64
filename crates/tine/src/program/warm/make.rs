//! Makes a template of a program, for a server.

use std::os::fd::OwnedFd;

use tine_sys::plant::{Template, plant};
use tine_sys::process::Alone;
use tine_sys::trace::Kin;

use super::census::Census;
use super::decision::{Hindrance, WarmVerdict, decide};
use super::options::{WarmAllow, WarmCheckSettings};
use super::plan::CopyPlan;
use super::start::{Subject, cannot};
use super::watch::Reached;
use crate::error::{Error, ErrorKind};
use crate::program::launch::Launcher;

/// A template that was just made.
#[derive(Debug)]
pub(crate) struct NewTemplate {
    /// The channel to it.
    pub(crate) channel: OwnedFd,
    /// Its process.
    pub(crate) process: OwnedFd,
    pub(crate) plan: CopyPlan,
    pub(crate) facts: TemplateFacts,
}

/// What is known of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TemplateFacts {
    /// The id of its process.
    pub(crate) pid: i32,
    /// System calls up to the point that it is copied at.
    pub(crate) calls: u64,
    /// The time up to there, while it was traced.
    pub(crate) milliseconds: u64,
    /// Memory that each copy has to copy when it writes it.
    pub(crate) private_kib: u64,
    /// Whether copies can neither trace nor signal it.
    pub(crate) is_protected: bool,
}

impl TemplateFacts {
    /// They as fields of a log line.
    pub(crate) fn fields(&self) -> [(&'static str, u64); 4] {
        [
            ("calls", self.calls),
            ("milliseconds", self.milliseconds),
            ("private_kib", self.private_kib),
            ("protected", self.is_protected.into()),
        ]
    }
}

/// Makes a template of a program, in a process that has no other task. The template is a sibling of
/// this process, and its copies are, too.
///
/// # Errors
/// The program cannot be started warm ([`ErrorKind::Program`]), or the kernel refuses a step.
pub(crate) fn make_template(
    alone: &Alone,
    launcher: &mut Launcher,
    settings: &WarmCheckSettings,
) -> Result<NewTemplate, Error> {
    let has_variables = !settings.allowed.contains(&WarmAllow::Variables);
    let mut subject = Subject::start(alone, launcher, Kin::Sibling, has_variables)?;
    let census = subject.take_census(settings).map_err(|why| cannot("look at the program", &why))?;
    if census.programs.is_empty() && matches!(census.reached, Reached::Ended(_)) {
        return Err(subject.not_executed());
    }
    if let WarmVerdict::Refused(reasons) = decide(&census, &settings.allowed) {
        return Err(refused(&reasons));
    }
    subject.make_template(&census, launcher.parent())
}

impl Subject<'_> {
    /// Makes a template of the program, which has stopped at its point and can be started warm.
    /// `parent`: that of its copies, with which they die.
    ///
    /// # Errors
    /// The kernel refuses a step.
    pub(super) fn make_template(
        mut self,
        census: &Census,
        parent: Option<i32>,
    ) -> Result<NewTemplate, Error> {
        let main = self.main;
        let Template { channel, process, base } = plant(&mut self.tracer, main, &census.shown.open)
            .map_err(|why| cannot("make the program a template", &why))?;
        let facts = TemplateFacts {
            pid: main,
            calls: census.calls,
            milliseconds: u64::try_from(census.elapsed.as_millis()).unwrap_or(u64::MAX),
            private_kib: census.shown.private_kib,
            is_protected: base.protects_template(),
        };
        let plan = CopyPlan::new(base, parent, &census.shown, std::mem::take(&mut self.names));
        Ok(NewTemplate { channel, process, plan, facts })
    }
}

fn refused(reasons: &[Hindrance]) -> Error {
    let reasons: Vec<String> =
        reasons.iter().map(|reason| format!("{}: {reason}", reason.aspect())).collect();
    let what = format!("the program cannot be started warm: {}", reasons.join("; "));
    Error::new(ErrorKind::Program, what, "see `tine warm-check`, or have it executed with `--warm=try`")
}
