//! The report of a check, as rows for an operator.

use super::census::{Census, DescriptorKind};
use super::decision::{Hindrance, WarmVerdict, decide, hindrances};
use super::file_changes::FileChanges;
use super::options::{WarmAllow, WarmReport, WarmRow};
use super::stop::Marker;
use super::watch::Reached;

/// What was asked about a program, in the order of the rows.
const ASPECTS: [&str; 10] = [
    "threads",
    "children",
    "rights",
    "descriptors",
    "files",
    "locks",
    "timers",
    "memory",
    "variables",
    "filter",
];

/// The report about a program.
pub(super) fn report(census: &Census, allowed: &[WarmAllow]) -> WarmReport {
    let reasons = hindrances(census);
    let row = |aspect, state, detail| WarmRow { aspect, state, detail };
    let of = |aspect| {
        let own = reasons.iter().filter(move |reason| reason.aspect() == aspect);
        own.map(|reason| row(aspect, state(reason, allowed), reason.to_string())).collect::<Vec<_>>()
    };
    let mut rows = vec![row("program", "-", census.programs.join(", then "))];
    match stop(census) {
        None => rows.extend(of("stop")),
        Some(stop) => {
            rows.push(row("stop", "ok", stop));
            for aspect in ASPECTS {
                if aspect == "variables" && allowed.contains(&WarmAllow::Variables) {
                    rows.push(row(aspect, "allowed", "those of the connection are not set".to_owned()));
                    continue;
                }
                let own = of(aspect);
                let fact = fact(aspect, census);
                if let Some(text) = fact.or_else(|| own.is_empty().then(|| nothing(aspect).to_owned())) {
                    rows.push(row(aspect, "ok", text));
                }
                rows.extend(own);
            }
        }
    }
    let can_be_warmed = decide(census, allowed) == WarmVerdict::Warm;
    WarmReport { rows, can_be_warmed, differs: false }
}

fn state(reason: &Hindrance, allowed: &[WarmAllow]) -> &'static str {
    if reason.is_allowed(allowed) { "allowed" } else { "refused" }
}

/// Where a program has stopped, if it has reached a point.
fn stop(census: &Census) -> Option<String> {
    let what = match &census.reached {
        Reached::Use(call, number) => format!("{call} of descriptor {number}"),
        Reached::Marker(call, marker) => format!("{call} of {}", marker.path()),
        Reached::Accept(call) => format!("{} of descriptor {}", call.name, call.listener),
        _ => return None,
    };
    Some(format!("{what}, after {} calls, {} ms while traced", census.calls, census.elapsed.as_millis()))
}

/// What was found that is not in the way, if there is something to tell.
fn fact(aspect: &str, census: &Census) -> Option<String> {
    let shown = &census.shown;
    match aspect {
        "memory" => Some(format!("{:.1} MiB private", shown.private_kib as f64 / 1024.0)),
        "variables" if census.reached.renews_variables() && !shown.found.private.is_empty() => {
            let names = shown.found.private.iter().copied().collect::<Vec<_>>().join(", ");
            let path = Marker::RenewsVariables.path();
            Some(format!("{names} copied by the program, which renews them after its look at {path}"))
        }
        "descriptors" => {
            let files = shown.descriptors.iter().filter_map(|found| match &found.kind {
                DescriptorKind::File { path, offset, hindrance: None, .. } => {
                    Some(format!("{} is {path} at {offset}, to be opened again", found.number))
                }
                DescriptorKind::SameAs(other) => Some(format!("{} is a duplicate of {other}", found.number)),
                _ => None,
            });
            let files = files.collect::<Vec<_>>();
            (!files.is_empty()).then(|| files.join(", "))
        }
        "files" => files(&census.file_changes),
        _ => None,
    }
}

/// More names of files are counted.
const MOST_NAMES: usize = 8;

fn files(FileChanges(changes): &FileChanges) -> Option<String> {
    let mut names: Vec<String> = changes.iter().take(MOST_NAMES).map(ToString::to_string).collect();
    if changes.len() > MOST_NAMES {
        names.push(format!("{} more", changes.len() - MOST_NAMES));
    }
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "{names}: once, for all connections; what each needs for itself, make after the client is there"
        )
    })
}

/// The text where nothing was found.
fn nothing(aspect: &str) -> &'static str {
    match aspect {
        "rights" => "those of its caller",
        "descriptors" => "none besides the connection",
        "variables" => "no copies of its own",
        "filter" => "as inherited",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::census::{FoundDescriptor, Shown};
    use super::super::copies::MemoryFinds;
    use super::*;

    fn rows(reached: Reached, shown: Shown, allowed: &[WarmAllow]) -> (Vec<String>, bool) {
        let census = Census {
            reached,
            timeout: Duration::from_secs(1),
            programs: vec!["/bin/a".into(), "/bin/b".into()],
            calls: 7,
            elapsed: Duration::from_millis(3),
            threads_started: 0,
            interval_timers: 0,
            sources: BTreeMap::new(),
            file_changes: FileChanges::default(),
            shown,
        };
        let report = report(&census, allowed);
        let text = |row: &WarmRow| format!("{} {} {}", row.aspect, row.state, row.detail);
        (report.rows.iter().map(text).collect(), report.can_be_warmed)
    }

    #[test]
    fn each_aspect_has_a_row_and_each_hindrance_its_own() {
        let descriptor = |number, kind| FoundDescriptor { number, kind };
        let file = DescriptorKind::File { path: "/a".into(), offset: 5, flags: 0, hindrance: None };
        let kinds = [file, DescriptorKind::Pipe, DescriptorKind::Eventfd];
        let descriptors = (3..).zip(kinds).map(|(number, kind)| descriptor(number, kind)).collect();
        let shown = Shown { descriptors, private_kib: 1536, ..Shown::default() };
        let (all, can) = rows(Reached::Use("read", 0), shown.clone(), &[WarmAllow::Pipe]);
        assert!(!can);
        let [program, stop, .., filter] = &all[..] else { panic!("{all:?}") };
        assert_eq!(program, "program - /bin/a, then /bin/b");
        assert_eq!(stop, "stop ok read of descriptor 0, after 7 calls, 3 ms while traced");
        assert_eq!(filter, "filter ok as inherited");
        let begins = |rows: &[String], text: &str| rows.iter().filter(|row| row.starts_with(text)).count();
        for (text, count) in [
            ("threads ok none", 1),
            ("memory ok 1.5 MiB private", 1),
            ("descriptors allowed 4 is a pipe", 1),
            ("descriptors refused 5 is an eventfd", 1),
            ("descriptors ok 3 is /a at 5, to be opened again", 1),
            ("descriptors ", 3),
        ] {
            assert_eq!(begins(&all, text), count, "{text}: {all:?}");
        }
        let allowed = [WarmAllow::Pipe, WarmAllow::Eventfd];
        let (all, can) = rows(Reached::Use("read", 0), shown, &allowed);
        assert!(can && begins(&all, "descriptors ok 3 is /a at 5") == 1, "{all:?}");
    }

    #[test]
    fn variables_that_the_program_renews_are_ok() {
        let row = |reached, copied: &[&'static str]| {
            let private = copied.iter().copied().collect();
            let found = MemoryFinds { private, ..MemoryFinds::default() };
            let shown = Shown { found, ..Shown::default() };
            let (all, _) = rows(reached, shown, &[]);
            let own: Vec<_> = all.into_iter().filter(|row| row.starts_with("variables ")).collect();
            assert_eq!(own.len(), 1, "{own:?}");
            own.concat()
        };
        let renews = || Reached::Marker("access", Marker::RenewsVariables);
        let renewed = "variables ok PROTO, TCPREMOTEIP copied by the program, which renews them after its \
look at /.tine/ready/variables";
        assert_eq!(row(renews(), &["PROTO", "TCPREMOTEIP"]), renewed);
        assert_eq!(row(renews(), &[]), "variables ok no copies of its own");
        let refused = row(Reached::Marker("access", Marker::Ready), &["PROTO"]);
        assert!(refused.starts_with("variables refused PROTO copied"), "{refused}");
        let (all, _) = rows(renews(), Shown::default(), &[]);
        assert!(all[1].starts_with("stop ok access of /.tine/ready/variables, after 7 calls"), "{all:?}");
    }

    #[test]
    fn a_program_that_does_not_get_there_has_two_rows() {
        let (all, can) = rows(Reached::TimedOut(None), Shown::default(), &[]);
        assert_eq!((all.len(), can), (2, false));
        assert!(all[1].starts_with("stop refused it did not use its connection within 1s"), "{all:?}");
    }
}
