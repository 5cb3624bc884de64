//! Looks at a stopped program from outside: its memory, and what the kernel shows of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tine_sys::fd::are_of_one_file;
use tine_sys::other_memory::{read_memory, read_text};
use tine_sys::plant::canary;

use super::call::{FileVersion, Look, WORKING_DIRECTORY};
use super::census::{DescriptorKind, Duplicate, FoundDescriptor, Shown};
use super::memory::look_through;
use super::placeholder::Token;
use super::proc_text::{
    filters, first_id, is_secure, locks, lost_by_copies, mappings, offset_and_flags, special_kind,
    status_number, status_value, timers, unequal_ids,
};
use super::start::BeforeStart;
use crate::system::procfs;

/// A task that has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoppedTask<'a> {
    pub(super) id: i32,
    /// The connection as the kernel names it: `socket:[4711]`.
    pub(super) connection: &'a str,
}

/// The mode of access in the flags of a descriptor (open(2)).
const ACCESS: u32 = 3;
const READ_ONLY: u32 = 0;
const WRITE_ONLY: u32 = 1;

/// The longest path, with its zero byte (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

impl Look for StoppedTask<'_> {
    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = read_memory(self.id, address, &mut bytes).ok()?;
        (read == length).then_some(bytes)
    }

    fn text(&self, address: u64) -> Option<Vec<u8>> {
        read_text(self.id, address, LONGEST_PATH)
    }

    fn directory(&self, descriptor: i32) -> Option<String> {
        let link = match descriptor {
            WORKING_DIRECTORY => format!("/proc/{}/cwd", self.id),
            _ => format!("/proc/{}/fd/{descriptor}", self.id),
        };
        Some(fs::read_link(link).ok()?.display().to_string())
    }

    fn exists(&self, directory: i32, path: &[u8]) -> bool {
        let start = match directory {
            _ if path.starts_with(b"/") => format!("/proc/{}/root", self.id),
            WORKING_DIRECTORY => format!("/proc/{}/cwd", self.id),
            _ => format!("/proc/{}/fd/{directory}", self.id),
        };
        let path = [start.as_bytes(), b"/", path].concat();
        fs::symlink_metadata(OsStr::from_bytes(&path)).is_ok()
    }

    fn connection_descriptors(&self) -> BTreeSet<i32> {
        let all = descriptors(self.id).unwrap_or_default();
        all.into_iter().filter(|(_, name)| name == self.connection).map(|(number, _)| number).collect()
    }

    fn file_of(&self, descriptor: Option<i32>) -> Option<(PathBuf, FileVersion)> {
        let link = match descriptor {
            Some(number) => format!("/proc/{}/fd/{number}", self.id),
            None => format!("/proc/{}/exe", self.id),
        };
        let path = fs::read_link(&link).ok().filter(|path| path.is_absolute())?;
        let is_of_the_kernel = ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top));
        let file = fs::metadata(link).ok().filter(|file| file.is_file() && !is_of_the_kernel)?;
        if let Some(number) = descriptor {
            // One that the program writes changes all the time, as a log does.
            let info = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.id)).ok()?;
            (offset_and_flags(&info).1 & ACCESS == READ_ONLY).then_some(())?;
        }
        Some((path, FileVersion::of(&file)))
    }

    fn rights_of_program(&self) -> Option<String> {
        let name = self.program_name();
        let file = format!("/proc/{}/exe", self.id);
        let what = match fs::metadata(&file).map(|file| file.mode()) {
            Err(_) => "which this user may not read",
            Ok(mode) if mode & 0o4000 != 0 => "which is set-user-ID",
            Ok(mode) if mode & 0o2010 == 0o2010 => "which is set-group-ID",
            Ok(_) => {
                let size = rustix::fs::getxattr(&file, "security.capability", &mut [0_u8; 0][..]);
                size.ok().filter(|size| *size > 0).map(|_| "which has capabilities")?
            }
        };
        Some(format!("{name}, {what}"))
    }

    fn program_name(&self) -> String {
        let path = fs::read_link(format!("/proc/{}/exe", self.id));
        let name = || fs::read_to_string(format!("/proc/{}/comm", self.id)).unwrap_or_default();
        path.map_or_else(|_| name().trim_end().to_owned(), |path| path.display().to_string())
    }
}

/// The descriptors of a process and what they lead to.
fn descriptors(process: i32) -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Ok(name)) = (number, fs::read_link(entry.path())) {
            found.push((number, name.display().to_string()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is looked for in a stopped process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Its connection, as the kernel names it.
    pub(super) connection: &'a str,
    pub(super) before_start: &'a BeforeStart,
    /// The processes that it or its children have made, and that have not ended.
    pub(super) made: &'a [i32],
    /// The timers that it has created, for a kernel that does not list them.
    pub(super) timers_created: usize,
    pub(super) tokens: &'a [Token],
}

/// Collects what the kernel shows of a stopped process.
///
/// # Errors
/// `/proc` is not there, or this process may not read it.
pub(super) fn shown(process: i32, wanted: &Wanted) -> io::Result<Shown> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let maps = mappings(&fs::read_to_string(format!("/proc/{process}/maps"))?);
    let secure = is_secure(&fs::read(format!("/proc/{process}/auxv"))?);
    let told = || secure.then(|| "it was told that its rights are not its caller's".to_owned());
    let listed = fs::read_to_string(format!("/proc/{process}/timers")).map(|text| timers(&text));
    let shared = maps.iter().filter(|map| map.is_shared && map.is_writable);
    let made = wanted.made.iter().copied();
    // Those that have ended and wait to be reaped, too.
    let children: BTreeSet<i32> = procfs::children(process).into_iter().chain(made).collect();
    let mut shown = Shown {
        threads: fs::read_dir(format!("/proc/{process}/task"))?.count().saturating_sub(1),
        children: children.into_iter().map(name_of).collect(),
        timers: listed.unwrap_or(wanted.timers_created),
        shared_memory: shared.map(|map| map.name.clone()).collect(),
        lost: lost_by_copies(&status, &fs::read_to_string(format!("/proc/{process}/smaps"))?),
        private_kib: status_number(&status, "RssAnon").unwrap_or(0),
        ids: ["Uid", "Gid"].map(|key| first_id(&status, key)),
        rights: unequal_ids(&status).or_else(told),
        own_filter: filters(&status) != wanted.before_start.filters,
        is_inside: status_value(&status, "NSpid").is_some_and(|ids| ids.split_whitespace().count() > 1),
        found: look_through(process, &maps, wanted.tokens, canary(process))?,
        ..Shown::default()
    };
    shown.note_descriptors(process, wanted)?;
    Ok(shown)
}

fn name_of(process: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

impl Shown {
    /// Notes the descriptors, and the locks on files.
    fn note_descriptors(&mut self, process: i32, wanted: &Wanted) -> io::Result<()> {
        for (number, name) in descriptors(process)? {
            let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
            let closes_on_exec = offset_and_flags(&info).1 & CLOSES_ON_EXEC != 0;
            self.open.insert(number);
            self.close_on_exec.extend(closes_on_exec.then_some(number));
            // A file by the same name may have been opened again, with an offset of its own.
            let is_same = || {
                let is_file = name.starts_with('/') && !name.starts_with("/dev/");
                number == 2 || !is_file || are_of_one_file(process, 2, number).is_ok_and(|is_same| is_same)
            };
            if name == wanted.connection {
                self.connection.push(Duplicate { number, closes_on_exec });
            } else if wanted.before_start.stderr.as_ref() == Some(&name) && is_same() {
                self.stderr.push(Duplicate { number, closes_on_exec });
            } else {
                self.locks.extend(locks(&info).into_iter().map(|lock| format!("{lock} {name}")));
                let kind = self.kind(process, number, &name, &info);
                match kind {
                    DescriptorKind::SameAs(2) if self.stderr.iter().any(|stderr| stderr.number == 2) => {
                        self.stderr.push(Duplicate { number, closes_on_exec });
                    }
                    kind => self.descriptors.push(FoundDescriptor { number, kind }),
                }
            }
        }
        Ok(())
    }

    /// The kind of a descriptor, beside those that were found before it.
    fn kind(&self, process: i32, number: i32, name: &str, info: &str) -> DescriptorKind {
        let mut kind = kind(process, number, name, info);
        let DescriptorKind::File { path, hindrance, .. } = &mut kind else { return kind };
        let others = self.descriptors.iter().filter_map(|found| match &found.kind {
            DescriptorKind::File { path: other, .. } if other == path => Some(found.number),
            _ => None,
        });
        for other in others.chain(self.stderr.iter().map(|stderr| stderr.number)) {
            match are_of_one_file(process, other, number) {
                Ok(true) => return DescriptorKind::SameAs(other),
                Ok(false) => {}
                Err(why) => {
                    let why = tine_sys::reason(&why);
                    *hindrance = Some(format!("whose offset may be that of {other} (kcmp: {why})"));
                }
            }
        }
        kind
    }
}

/// `O_CLOEXEC`, as `fdinfo` shows it.
const CLOSES_ON_EXEC: u32 = 0o2_000_000;

fn kind(process: i32, number: i32, name: &str, info: &str) -> DescriptorKind {
    const ONLY_PATH: u32 = 0o10_000_000;
    let (offset, flags) = offset_and_flags(info);
    let path = format!("/proc/{process}/fd/{number}");
    match fs::metadata(&path) {
        Ok(_) if flags & ONLY_PATH != 0 => DescriptorKind::Harmless,
        // Of a process that has this file, `/proc` shows itself: a copy would see the template.
        Ok(file) if file.is_file() || file.is_dir() => {
            let hindrance = match () {
                () if file.nlink() == 0 => Some("which is deleted".to_owned()),
                () if name.starts_with("/proc/") => Some("which is about one process".to_owned()),
                () => cannot_open(&path, flags)
                    .map(|why| format!("which cannot be opened again ({})", tine_sys::reason(&why))),
            };
            DescriptorKind::File { path: name.to_owned(), offset, flags, hindrance }
        }
        _ => special_kind(name, info),
    }
}

/// Why a file cannot be opened again as it was; `None` if it can.
fn cannot_open(path: &str, flags: u32) -> Option<io::Error> {
    let access = flags & ACCESS;
    let (read, write) = (access != WRITE_ONLY, access != READ_ONLY);
    OpenOptions::new().read(read).write(write).open(path).err()
}
