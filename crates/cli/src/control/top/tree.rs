//! The processes of each service, as a tree.

use super::snapshot::{Process, Service, Snapshot};

/// What is in front of a process, as `ps --forest` has it: any terminal can show it.
const BRANCH: &str = " \\_ ";

/// The lines of the tree: each service with its supervisor, below it forkers and helpers, as many
/// in a line as fit, and the number of connections.
pub(super) fn lines(snapshot: &Snapshot, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &snapshot.services {
        lines.push(supervisor(service, width));
        let mut cells: Vec<String> = service.processes.iter().map(process).collect();
        if service.spares > 0 {
            cells.push(counted(service.spares, "spare"));
        }
        cells.push(counted(service.connections, "connection"));
        let longest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        let cell_width = BRANCH.len() + longest;
        let columns = (width / cell_width).max(1);
        for row in cells.chunks(columns) {
            let row: String = row.iter().map(|cell| format!("{BRANCH}{cell:longest$}")).collect();
            lines.push(row.trim_end().to_owned());
        }
    }
    lines
}

fn supervisor(service: &Service, width: usize) -> String {
    let Some(name) = &service.name else { return format!("supervisor {}", service.pid) };
    let parts = [
        format!("{name}: supervisor {}", service.pid),
        service.phase.clone(),
        format!("{} of {} connections", service.connections, service.max_connections),
        format!("{} accepted/s", rate(service.accepted_rate)),
        format!("{} rejected/s", rate(service.rejected_rate)),
        format!("{} failed", service.failed),
    ];
    fit(&parts, ", ", width)
}

/// As many of the first parts as fit in a line, but at least one: no number is cut.
pub(super) fn fit(parts: &[impl AsRef<str>], separator: &str, width: usize) -> String {
    let mut line = String::new();
    for part in parts.iter().map(AsRef::as_ref) {
        let length = line.chars().count() + separator.len() + part.chars().count();
        if !line.is_empty() && length > width {
            break;
        }
        if !line.is_empty() {
            line.push_str(separator);
        }
        line.push_str(part);
    }
    line
}

fn process(process: &Process) -> String {
    let Process { role, pid, restarts } = process;
    match restarts {
        0 => format!("{role} {pid}"),
        1 => format!("{role} {pid}, restarted once"),
        _ => format!("{role} {pid}, restarted {restarts} times"),
    }
}

fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A number of clients a second; a dash if it is not known yet.
pub(super) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{snapshot, status};
    use super::*;

    #[test]
    fn processes_are_below_their_supervisor() {
        let shot = snapshot(1, &[status(None)], &[]);
        assert_eq!(
            lines(&shot, 40),
            [
                "supervisor 900",
                " \\_ forker 1 901",
                " \\_ forker 2 902, restarted 3 times",
                " \\_ 3 connections"
            ]
        );
        assert_eq!(lines(&shot, 120).len(), 2, "{:?}", lines(&shot, 120));
        assert_eq!(lines(&shot, 0).len(), 4);
    }

    #[test]
    fn each_service_has_its_figures() {
        let shot = snapshot(1, &[status(Some("git")), status(Some("web"))], &[]);
        let lines = lines(&shot, 200);
        assert_eq!(
            lines[0],
            "git: supervisor 900, serving, 3 of 40 connections, - accepted/s, - rejected/s, 1 failed"
        );
        assert!(lines[2].starts_with("web: "), "{lines:?}");
        assert_eq!(super::lines(&shot, 40)[0], "git: supervisor 900, serving");
    }

    #[test]
    fn parts_are_whole() {
        for (width, line) in [(0, "ab"), (7, "ab"), (8, "ab, cdef"), (9, "ab, cdef"), (11, "ab, cdef, g")] {
            assert_eq!(fit(&["ab", "cdef", "g"], ", ", width), line, "{width}");
        }
    }
}
