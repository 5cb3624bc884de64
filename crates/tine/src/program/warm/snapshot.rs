//! The descriptors of a copy before it goes on, compared with those of the program at its point.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::proc_text::offset_and_flags;

/// The descriptors of a process, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DescriptorTable(pub(super) BTreeMap<i32, SeenDescriptor>);

/// What the kernel shows of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenDescriptor {
    /// Without the number of a socket or pipe.
    pub(super) name: String,
    pub(super) flags: u32,
    /// Of a file that no other process is meant to write to.
    pub(super) offset: Option<u64>,
}

/// Flags that are of use at the opening only.
const AT_OPENING: u32 = 0o400_000;

impl DescriptorTable {
    /// The descriptors of a process. `connection`: its connection, as the kernel names it;
    /// `stderr`: the same of its standard error, which others write to.
    ///
    /// # Errors
    /// It has ended, or this process may not look into it.
    pub(super) fn take(process: i32, connection: &str, stderr: Option<&str>) -> io::Result<DescriptorTable> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let name = fs::read_link(entry.path())?.display().to_string();
            let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
            let (offset, flags) = offset_and_flags(&info);
            let has_offset = name.starts_with('/') && stderr != Some(&name);
            let offset = has_offset.then_some(offset);
            all.insert(
                number,
                SeenDescriptor { name: without_number(name, connection), flags: flags & !AT_OPENING, offset },
            );
        }
        Ok(DescriptorTable(all))
    }

    /// What differs here, in a copy, from an execution.
    pub(super) fn differences(&self, execution: &DescriptorTable) -> Vec<String> {
        let numbers: std::collections::BTreeSet<i32> =
            self.0.keys().chain(execution.0.keys()).copied().collect();
        let one = |number: i32| match (self.0.get(&number), execution.0.get(&number)) {
            (Some(own), None) => Some(format!("{number} is {}, where an execution has none", own.name)),
            (None, Some(other)) => {
                Some(format!("{number} is missing, where an execution has {}", other.name))
            }
            (Some(own), Some(other)) if own.name != other.name => {
                Some(format!("{number} is {}, where an execution has {}", own.name, other.name))
            }
            (Some(own), Some(other)) if own.flags != other.flags => Some(format!(
                "{number} has the flags {:#o}, where an execution has {:#o}",
                own.flags, other.flags
            )),
            (Some(own), Some(other)) if own.offset != other.offset => Some(format!(
                "{number} is at {}, where an execution is at {}",
                own.offset.unwrap_or(0),
                other.offset.unwrap_or(0)
            )),
            _ => None,
        };
        numbers.into_iter().filter_map(one).collect()
    }
}

fn without_number(name: String, connection: &str) -> String {
    match name.split_once(":[") {
        _ if name == connection => "the connection".to_owned(),
        Some(("socket", _)) => "a socket".to_owned(),
        Some(("pipe", _)) => "a pipe".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_the_number_and_both_sides() {
        let seen = |name: &str, flags, offset| SeenDescriptor { name: name.into(), flags, offset };
        let of = |all: &[(i32, SeenDescriptor)]| DescriptorTable(all.iter().cloned().collect());
        let execution = of(&[(0, seen("the connection", 2, None)), (3, seen("/a", 0, Some(92)))]);
        assert_eq!(execution.differences(&execution), [""; 0]);
        for (copy, difference) in [
            (&[(0, seen("the connection", 2, None))][..], "3 is missing, where an execution has /a"),
            (
                &[(0, seen("a socket", 2, None)), (3, seen("/a", 0, Some(92)))],
                "0 is a socket, where an execution has the connection",
            ),
            (
                &[(0, seen("the connection", 2, None)), (3, seen("/a", 0o2_000_000, Some(92)))],
                "3 has the flags 0o2000000, where an execution has 0o0",
            ),
            (
                &[(0, seen("the connection", 2, None)), (3, seen("/a", 0, Some(0)))],
                "3 is at 0, where an execution is at 92",
            ),
            (
                &[
                    (0, seen("the connection", 2, None)),
                    (3, seen("/a", 0, Some(92))),
                    (4, seen("/b", 0, None)),
                ],
                "4 is /b, where an execution has none",
            ),
        ] {
            assert_eq!(of(copy).differences(&execution), [difference]);
        }
    }

    #[test]
    fn names_are_without_numbers() {
        for (name, expected) in [
            ("socket:[7]", "the connection"),
            ("socket:[8]", "a socket"),
            ("pipe:[7]", "a pipe"),
            ("/tmp/a:[7]", "/tmp/a:[7]"),
            ("anon_inode:[eventfd]", "anon_inode:[eventfd]"),
        ] {
            assert_eq!(without_number(name.into(), "socket:[7]"), expected);
        }
    }
}
