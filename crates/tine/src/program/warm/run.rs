//! Checks whether a program can be started warm: starts it, looks at it, and ends it; where it can
//! be, compares copies of it with executions.

use tine_sys::fd::Floor;
use tine_sys::process::Alone;
use tine_sys::trace::Kin;

use super::census::Census;
use super::compare::{Comparison, EndComparison, Known, RunOutcome, compare_answers, compare_ends};
use super::compared::Compared;
use super::exchange::TimedOutcome;
use super::options::{WarmCheckSettings, WarmReport, WarmRow};
use super::placeholder::ClientKind;
use super::report::report;
use super::runs::Runs;
use super::snapshot::DescriptorTable;
use super::start::{Subject, SubjectStart, cannot};
use super::watch::Reached;
use crate::error::{Error, ErrorKind};
use crate::jail::confinement::Confinement;
use crate::program::Program;
use crate::program::launch::Launcher;
use crate::system::orphans::PreexistingChildren;

/// Says whether a program can be started warm. Executes it in a new process as for a connection,
/// with the variables of a client that does not exist, and kills it and all that it has started
/// before it returns.
///
/// Where it can be, copies of it and executions serve a client that sends `input`, and are
/// compared: they are children of this process, which adopts what they leave behind from now on
/// (`PR_SET_CHILD_SUBREAPER`), and kills it.
///
/// # Errors
/// The program cannot be executed; this process has several threads; the kernel refuses to trace
/// ([`ErrorKind::System`]).
pub fn check_warm(
    program: &Program,
    settings: &WarmCheckSettings,
    input: &[u8],
) -> Result<WarmReport, Error> {
    let alone = Alone::check()
        .map_err(|why| Error::new(ErrorKind::Threads, why, "ask before other threads are started"))?;
    let path = program.find(None, None)?;
    let own = rustix::process::getpid();
    let before = PreexistingChildren::record_and_become_subreaper();
    let mut launcher = Launcher::new(program, path, None, Some(own), None, Floor::above_open(&[]))?;
    let jail = || Ok(Confinement::default());
    let start = SubjectStart::of(settings, &alone, Kin::Child, ClientKind::Tcp, &jail);
    let mut subject = Subject::start(&start, &mut launcher)?;
    let census = subject.take_census(settings).map_err(|why| cannot("look at the program", &why))?;
    if census.programs.is_empty() && matches!(census.reached, Reached::Ended(_)) {
        return Err(subject.not_executed());
    }
    let mut report = report(&census, &settings.allowed);
    let not_compared = not_compared(&census);
    if report.can_be_warmed && not_compared.is_some() {
        report.rows.extend(not_compared);
    } else if report.can_be_warmed {
        let at_point = AtPoint::of(&subject)?;
        let template = subject.make_template(&census, launcher.parent(), None)?;
        let mut runs = Runs::new(&alone, &mut launcher, template, before)?;
        (runs.input, runs.timeout, runs.has_variables) = (input, settings.timeout, start.has_variables);
        let rows = at_point.compare(&mut runs)?.rows();
        report.differs = rows.iter().any(|row| row.state == "differs");
        report.rows.extend(rows);
    }
    Ok(report)
}

/// Why copies cannot be compared with executions, if they cannot.
fn not_compared(census: &Census) -> Option<WarmRow> {
    let why = match census.reached {
        Reached::Accept(_) => "an execution serves no single client",
        _ if !census.shown.locks.is_empty() => "executions would wait for the lock that the template holds",
        _ => return None,
    };
    Some(WarmRow { aspect: "answer", state: "-", detail: format!("not compared: {why}") })
}

/// What is known of the program at its point.
struct AtPoint {
    stderr: Option<String>,
    descriptors: DescriptorTable,
    known: Known,
}

/// Rounds that are run at most: only what is found in each of them counts. Two are enough for what
/// has a cause. A program may roll a die: its numbers meet in one round of three, in all of four in
/// one comparison of 50,000 (a million simulated ones).
const MOST_ROUNDS: usize = 4;

/// Two executions and two copies.
struct Round {
    cold: [TimedOutcome; 2],
    warm: [TimedOutcome; 2],
}

impl AtPoint {
    fn of(subject: &Subject) -> Result<AtPoint, Error> {
        let stderr = subject.before_start.get().and_then(|before| before.stderr.clone());
        let descriptors = DescriptorTable::take(subject.main, &subject.connection, stderr.as_deref())
            .map_err(|why| cannot("look at the program", &why))?;
        let tokens = subject.placeholder.tokens();
        let known = Known { template: subject.main, tokens, names: subject.names() };
        Ok(AtPoint { stderr, descriptors, known })
    }

    /// Runs the program, and compares.
    fn compare(&self, runs: &mut Runs) -> Result<Compared, Error> {
        let copy = runs.look_at_copy(self.stderr.as_deref())?;
        let round = Round::run(runs, 0)?;
        let (mut answers, mut ends) = round.compare(&self.known);
        let mut times = round.times();
        for number in 1..MOST_ROUNDS {
            let is_open = answers.may_be_chance() || (number == 1 && has_differences(&answers, &ends));
            if !is_open {
                break;
            }
            let again = Round::run(runs, number)?;
            let (confirming, other_ends) = again.compare(&self.known);
            answers = answers.confirmed_by(&confirming);
            if !matches!(other_ends, EndComparison::Differs(..)) {
                ends = other_ends;
            }
            times.iter_mut().zip(again.times()).for_each(|(all, more)| all.extend(more));
        }
        Ok(Compared {
            descriptors: (self.descriptors.0.len(), copy.differences(&self.descriptors)),
            answers,
            bytes: round.warm[0].outcome.answer.len(),
            ends,
            canaries: runs.template.plan.canaries(),
            is_protected: runs.template.plan.protects_template(),
            times,
        })
    }
}

fn has_differences(answers: &Comparison, ends: &EndComparison) -> bool {
    !answers.findings.is_empty() || matches!(ends, EndComparison::Differs(..))
}

impl Round {
    /// Has the program serve four clients.
    ///
    /// Time passes: what differs in each second is not taken for what differs in each execution, as
    /// the copies are around these; nor for what differs between executions and copies, as it is
    /// the other way round in every other round.
    fn run(runs: &mut Runs, number: usize) -> Result<Round, Error> {
        if number.is_multiple_of(2) {
            let (first, cold) = (runs.copy()?, [runs.execute()?, runs.execute()?]);
            Ok(Round { cold, warm: [first, runs.copy()?] })
        } else {
            let (first, warm) = (runs.execute()?, [runs.copy()?, runs.copy()?]);
            Ok(Round { cold: [first, runs.execute()?], warm })
        }
    }

    fn compare(&self, known: &Known) -> (Comparison, EndComparison) {
        let [cold, warm] = [&self.cold, &self.warm].map(|both| both.each_ref().map(|timed| &timed.outcome));
        fn answer(outcome: &RunOutcome) -> &[u8] {
            &outcome.answer
        }
        (compare_answers(cold.map(answer), warm.map(answer), known), compare_ends(cold, warm))
    }

    fn times(&self) -> [Vec<std::time::Duration>; 2] {
        [&self.cold, &self.warm].map(|both| both.iter().map(|timed| timed.time).collect())
    }
}
