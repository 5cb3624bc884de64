//! Makes a template of a program, for a server.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tine_sys::plant::{Answer, Planting, Template, TemplateChannel, plant};
use tine_sys::process::Alone;
use tine_sys::trace::Kin;

use super::accept_plan::AcceptPlan;
use super::call::FileVersion;
use super::census::Census;
use super::decision::{Hindrance, WarmVerdict, decide};
use super::file_changes::FileChanges;
use super::options::{WarmCheckSettings, WarmUntil};
use super::placeholder::ClientKind;
use super::plan::{CopyOf, CopyPlan};
use super::start::{Subject, SubjectStart, cannot};
use super::template::wait_for_answer;
use super::watch::Reached;
use crate::error::{Error, ErrorKind};
use crate::jail::confinement::Confinement;
use crate::jail::copy_room::CopyRoom;
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

/// The jail of a template.
pub(crate) struct TemplateJail<'a> {
    /// Makes the jail that it enters, in its process.
    pub(crate) enter: &'a dyn Fn() -> Result<Confinement, Error>,
    /// The room of each copy, if it has its own.
    pub(crate) room: Option<CopyRoom>,
}

/// What a copy would miss in its room: names of files that the program has made or changed.
fn hidden(room: &CopyRoom, changes: &FileChanges) -> Option<Hindrance> {
    let in_room = |path: &String| room.hides(Path::new(path));
    let hidden: Vec<String> = changes.paths().filter(|path| in_room(path)).cloned().collect();
    (!hidden.is_empty()).then_some(Hindrance::OutsideOfRoom(hidden))
}

/// Makes a template of a program, in a process that has no other task. The template is a sibling of
/// this process, and its copies are, too, which are for clients of this kind. Returns the template,
/// and the files that it is made of.
///
/// # Errors
/// The program cannot be started warm ([`ErrorKind::Program`]), or the kernel refuses a step.
pub(crate) fn make_template(
    alone: &Alone,
    launcher: &mut Launcher,
    settings: &WarmCheckSettings,
    client: ClientKind,
    jail: &TemplateJail,
) -> Result<(NewTemplate, BTreeMap<PathBuf, FileVersion>), Error> {
    let start = SubjectStart::of(settings, alone, Kin::Sibling, client, jail.enter);
    let mut subject = Subject::start(&start, launcher)?;
    let census = subject.take_census(settings).map_err(|why| cannot("look at the program", &why))?;
    if census.programs.is_empty() && matches!(census.reached, Reached::Ended(_)) {
        return Err(subject.not_executed());
    }
    if let WarmVerdict::Refused(reasons) = decide(&census, &settings.allowed) {
        return Err(refused(&reasons, settings.until));
    }
    if let Some(reason) = jail.room.as_ref().and_then(|room| hidden(room, &census.file_changes)) {
        return Err(refused(&[reason], settings.until));
    }
    let parent = launcher.parent();
    let template = subject.make_template(&census, parent, jail.room.as_ref())?;
    Ok((template, census.sources))
}

impl Subject<'_> {
    /// Makes a template of the program, which has stopped at its point and can be started warm.
    /// `parent`: that of its copies, with which they die. `room`: that of each copy, if it has its
    /// own.
    ///
    /// # Errors
    /// The kernel refuses a step.
    pub(super) fn make_template(
        mut self,
        census: &Census,
        parent: Option<i32>,
        room: Option<&CopyRoom>,
    ) -> Result<NewTemplate, Error> {
        let main = self.main;
        let own = room.map(CopyRoom::kinds);
        let accepting = AcceptPlan::of(census);
        let result = accepting.as_ref().map(|accepting| accepting.number);
        let planting = Planting { open: &census.shown.open, own, result };
        let Template { channel, process, base } = plant(&mut self.tracer, main, &planting)
            .map_err(|why| cannot("make the program a template", &why))?;
        let facts = TemplateFacts {
            pid: main,
            calls: census.calls,
            milliseconds: u64::try_from(census.elapsed.as_millis()).unwrap_or(u64::MAX),
            private_kib: census.shown.private_kib,
            is_protected: base.protects_template(),
        };
        // From inside of a pid namespace, a parent outside has no number.
        let parent = parent.map(|parent| if census.shown.is_inside { 0 } else { parent });
        let plan = CopyPlan::new(base, parent, &census.shown, self.names(), room).accepting(accepting);
        let channel = TemplateChannel::new(channel).map_err(|why| cannot("use its channel", &why))?;
        try_copy(&channel, &plan, &self)?;
        Ok(NewTemplate { channel: channel.into(), process, plan, facts })
    }
}

/// The time that a copy has to try its steps.
const TRIAL_TIME: Duration = Duration::from_secs(5);

/// Has a copy try what each has to do: a filter of system calls or the files of a jail may stand in
/// the way.
fn try_copy(channel: &TemplateChannel, plan: &CopyPlan, subject: &Subject) -> Result<(), Error> {
    let variables = &subject.variables;
    let copy = CopyOf { variables, peer: None, has_stderr: false, cgroups: 0, canary: 0, stops: false };
    let message = plan.trial_message(&copy).map_err(|why| cannot_copy(&why))?;
    let asked = channel.ask(&message, &[subject.connection_socket()]);
    asked.map_err(|why| cannot("ask the template for a copy", &why))?;
    let until = Instant::now() + TRIAL_TIME;
    loop {
        let answer = wait_for_answer(channel, until);
        match answer.map_err(|why| cannot("have a copy try its steps", &why))? {
            Answer::Copied(_) => {}
            Answer::Tried => return Ok(()),
            Answer::NotCopied(why) => return Err(cannot("have the template make a copy", &why.into())),
            Answer::Failed(step, result) => {
                return Err(cannot_copy(&format_args!(
                    "step {step} of a copy had the result {result}: a filter of system calls, the jail or the limit on open files may refuse it"
                )));
            }
        }
    }
}

fn cannot_copy(why: &dyn fmt::Display) -> Error {
    let next = "have it executed with `--warm=try`";
    Error::new(ErrorKind::Program, format_args!("the program cannot be started warm: {why}"), next)
}

fn refused(reasons: &[Hindrance], until: WarmUntil) -> Error {
    let reasons: Vec<String> =
        reasons.iter().map(|reason| format!("{}: {reason}", reason.aspect())).collect();
    let what = format!("the program cannot be started warm: {}", reasons.join("; "));
    let next = match until {
        WarmUntil::Accept => "see `tine warm-check --warm-until accept`",
        WarmUntil::Use | WarmUntil::Call => "see `tine warm-check`, or have it executed with `--warm=try`",
    };
    Error::new(ErrorKind::Program, what, next)
}
