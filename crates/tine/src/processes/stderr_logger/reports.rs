//! The directory of crash reports of a service: one file for each report, bounded in number and
//! size. The stderr logger writes it, with the rights of the service's user; whatever is in it may
//! be wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::system::state_file;

/// Reports of a service, at most.
pub(crate) const MAX_REPORTS: usize = 100;

/// Bytes of a report, at most.
pub(crate) const MAX_REPORT: usize = 64 << 10;

/// The end of the name of a report.
const SUFFIX: &str = ".json";

/// The directory of a service's reports.
#[derive(Clone, Debug)]
pub(crate) struct ReportDirectory(PathBuf);

impl ReportDirectory {
    /// The directory at a path.
    pub(crate) fn at(path: PathBuf) -> ReportDirectory {
        ReportDirectory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Checks that this process can write reports.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn check(&self) -> io::Result<()> {
        let probe = self.0.join(format!(".probe.{}", std::process::id()));
        state_file::write(&probe, "")?;
        fs::remove_file(probe)
    }

    /// Writes a report, whose name it returns; older ones make room for it.
    ///
    /// # Errors
    /// The directory cannot be read or written: the disk is full, for one.
    pub(crate) fn write(&self, report: &Map<String, Value>, cause: &str) -> io::Result<String> {
        let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
        let id = report.get("id").and_then(Value::as_u64).unwrap_or(0);
        let name = name(text("time"), id, cause);
        let mut report = report.clone();
        report.insert("name".to_owned(), name.clone().into());
        report.insert("cause".to_owned(), cause.into());
        let names = self.names()?;
        for surplus in surplus(&names, MAX_REPORTS - 1) {
            fs::remove_file(self.0.join(format!("{surplus}{SUFFIX}")))?;
        }
        state_file::write(&self.0.join(format!("{name}{SUFFIX}")), &bounded(report))?;
        Ok(name)
    }

    /// The names of the reports, the oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            names.extend(stem.filter(|stem| is_name(stem)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The texts of all reports, the oldest first, a line each, in a file in memory that is at its
    /// beginning.
    ///
    /// # Errors
    /// The directory cannot be read, or there is no memory.
    pub(crate) fn read_all(&self) -> io::Result<fs::File> {
        let mut all = fs::File::from(tine_sys::memory::file(c"tine-crashes")?);
        for name in self.names()?.into_iter().rev().take(MAX_REPORTS).rev() {
            // Another process has removed it, or it is none of ours.
            let Ok(mut text) = read_regular(&self.0.join(format!("{name}{SUFFIX}"))) else { continue };
            text.retain(|byte| *byte != b'\n');
            text.push(b'\n');
            io::Write::write_all(&mut all, &text)?;
        }
        all.rewind()?;
        Ok(all)
    }
}

/// Reads a regular file, at most the bytes of a report.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let file = fs::File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let mut text = Vec::new();
    match file.metadata()?.is_file() {
        true => file.take(MAX_REPORT as u64).read_to_end(&mut text).map(|_| text),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The name of a report: when, the id of the connection, and a number for the cause.
fn name(time: &str, id: u64, cause: &str) -> String {
    let time: String = time.chars().filter(|character| !matches!(character, '-' | ':')).collect();
    format!("{time}-{id}-{:08x}", checksum(cause))
}

/// Whether a name is that of a report: other files are left alone.
fn is_name(stem: &str) -> bool {
    stem.starts_with(|first: char| first.is_ascii_digit()) && stem.split('-').count() == 3
}

/// A number for a text, the same in each process (FNV-1a).
fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The names of the reports that are removed so that at most `most` stay: each time the oldest one
/// of the most frequent cause, so that a frequent cause does not push out a rare one.
fn surplus(names: &[String], most: usize) -> Vec<String> {
    let cause = |name: &str| name.rsplit('-').next().unwrap_or_default().to_owned();
    let mut by_cause: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    names.iter().rev().for_each(|name| by_cause.entry(cause(name)).or_default().push(name));
    let mut removed = Vec::new();
    while names.len() - removed.len() > most {
        // Of causes with as many reports, that with the oldest.
        let most_frequent =
            by_cause.values_mut().max_by_key(|names| (names.len(), std::cmp::Reverse(names.last().copied())));
        let Some(oldest) = most_frequent.and_then(Vec::pop) else { break };
        removed.push(oldest.clone());
    }
    removed
}

/// The text of a report. If it is too long, the first lines of standard error are left out.
fn bounded(mut report: Map<String, Value>) -> String {
    loop {
        let text = Value::Object(report.clone()).to_string();
        if text.len() <= MAX_REPORT {
            return text;
        }
        let lines = report.get_mut("stderr").and_then(Value::as_array_mut);
        match lines.filter(|lines| !lines.is_empty()) {
            Some(lines) => drop(lines.drain(..lines.len().div_ceil(4))),
            // Nothing else is as long.
            None => return String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(id: u64, stderr: &[String]) -> Map<String, Value> {
        let report = json!({ "time": "2026-11-27T20:00:00.123Z", "id": id, "stderr": stderr });
        let Value::Object(report) = report else { unreachable!("an object") };
        report
    }

    #[test]
    fn names_sort_by_time_and_tell_causes_apart() {
        assert_eq!(name("2026-11-27T20:00:00.123Z", 7, "a"), "20261127T200000.123Z-7-e40c292c");
        assert_ne!(checksum("signal SEGV"), checksum("signal ABRT"));
    }

    #[test]
    fn a_frequent_cause_does_not_push_out_a_rare_one() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        for (all, most, removed) in [
            ("1-1-a 2-2-b 3-3-b 4-4-b", 4, ""),
            ("1-1-a 2-2-b 3-3-b 4-4-b", 3, "2-2-b"),
            ("1-1-a 2-2-b 3-3-b 4-4-b", 2, "2-2-b 3-3-b"),
            ("1-1-a 2-2-b", 1, "1-1-a"),
            ("1-1-b 2-2-a 3-3-a 4-4-b", 2, "1-1-b 2-2-a"),
            ("1-1-a", 0, "1-1-a"),
        ] {
            assert_eq!(surplus(&names(all), most).join(" "), removed, "{all} {most}");
        }
    }

    #[test]
    fn reports_are_bounded_in_size() {
        let lines: Vec<String> = (0..40).map(|number| format!("{number} {}", "\u{1}".repeat(500))).collect();
        let text = bounded(report(1, &lines));
        assert!(text.len() <= MAX_REPORT, "{}", text.len());
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let kept = kept["stderr"].as_array().expect("lines");
        assert!(kept.len() > 5 && kept.last() == Some(&json!(lines[39])), "{}", kept.len());
        assert_eq!(bounded(report(1, &lines[..1])), Value::Object(report(1, &lines[..1])).to_string());
    }

    #[test]
    fn the_directory_keeps_so_many_reports_and_reads_no_other_files() {
        let path = std::env::temp_dir().join(format!("tine-reports-{}", std::process::id()));
        let directory = ReportDirectory::at(path.clone());
        assert!(directory.read_all().is_err(), "there is none");
        directory.check().expect("it can be made");
        for id in 0..MAX_REPORTS as u64 + 20 {
            directory.write(&report(id, &[]), if id == 5 { "rare" } else { "often" }).expect("written");
        }
        std::os::unix::fs::symlink("/etc/passwd", path.join("9-9-9.json")).expect("a link");
        for other in [".x.json", "a.json", "1-2.json", "7-1-1.txt"] {
            fs::write(path.join(other), "other").expect("a file");
        }
        let mut text = String::new();
        directory.read_all().expect("there").read_to_string(&mut text).expect("text");
        let reports: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a report")).collect();
        // The link has one of the newest hundred names.
        assert_eq!(reports.len(), MAX_REPORTS - 1, "{text}");
        assert!(reports.iter().any(|report| report["cause"] == "rare"));
        assert!(reports.iter().any(|report| report["id"] == 119));
        fs::remove_dir_all(path).expect("removed");
    }
}
