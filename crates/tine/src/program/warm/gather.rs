//! Looks at a stopped program from outside: its memory, and what the kernel shows of it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use tine_sys::call_notices::read_memory;
use tine_sys::trace::read_text;

use super::call::Look;
use super::census::{DescriptorKind, FoundDescriptor, Shown};
use super::copies::{OVERLAP, private_copies};
use super::placeholder::Token;
use super::proc_text::{
    Mapping, filters, is_secure, locks, mappings, offset_and_flags, special_kind, status_number, timers,
    unequal_ids,
};
use crate::system::procfs;

/// A task that has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoppedTask<'a> {
    pub(super) id: i32,
    /// The connection as the kernel names it: `socket:[4711]`.
    pub(super) connection: &'a str,
}

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

    fn connection_descriptors(&self) -> BTreeSet<i32> {
        let all = descriptors(self.id).unwrap_or_default();
        all.into_iter().filter(|(_, name)| name == self.connection).map(|(number, _)| number).collect()
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

/// Collects what the kernel shows of a stopped process. `made`: the processes that it or its
/// children have made, and that have not ended. `created`: the timers that it has created, for a
/// kernel that does not list them.
///
/// # Errors
/// `/proc` is not there, or this process may not read it.
pub(super) fn shown(
    process: i32,
    connection: &str,
    made: &[i32],
    created: usize,
    tokens: &[Token],
) -> io::Result<Shown> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let own_status = fs::read_to_string("/proc/self/status")?;
    let maps = mappings(&fs::read_to_string(format!("/proc/{process}/maps"))?);
    let secure = is_secure(&fs::read(format!("/proc/{process}/auxv"))?);
    let told = || secure.then(|| "it was told that its rights are not its caller's".to_owned());
    let (descriptors, locks) = found_descriptors(process, connection)?;
    let listed = fs::read_to_string(format!("/proc/{process}/timers")).map(|text| timers(&text));
    let shared = maps.iter().filter(|map| map.is_shared && map.is_writable);
    // Those that have ended and wait to be reaped, too.
    let children: BTreeSet<i32> = procfs::children(process).into_iter().chain(made.iter().copied()).collect();
    Ok(Shown {
        threads: fs::read_dir(format!("/proc/{process}/task"))?.count().saturating_sub(1),
        children: children.into_iter().map(name_of).collect(),
        descriptors,
        locks,
        timers: listed.unwrap_or(created),
        shared_memory: shared.map(|map| map.name.clone()).collect(),
        private_kib: status_number(&status, "RssAnon").unwrap_or(0),
        rights: unequal_ids(&status).or_else(told),
        own_filter: filters(&status) != filters(&own_status),
        copied_variables: copied_variables(process, &maps, tokens)?,
    })
}

fn name_of(process: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The descriptors that matter, and the locks on files.
fn found_descriptors(process: i32, connection: &str) -> io::Result<(Vec<FoundDescriptor>, Vec<String>)> {
    let own_stderr = fs::read_link("/proc/self/fd/2").map(|name| name.display().to_string()).ok();
    let (mut found, mut held) = (Vec::new(), Vec::new());
    for (number, name) in descriptors(process)? {
        // A file by the same name may have been opened again, with an offset of its own.
        let is_same = number == 2 || !name.starts_with('/') || name.starts_with("/dev/");
        if name == connection || is_same && own_stderr.as_ref() == Some(&name) {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
        held.extend(locks(&info).into_iter().map(|lock| format!("{lock} {name}")));
        found.push(FoundDescriptor { number, kind: kind(process, number, &name, &info) });
    }
    Ok((found, held))
}

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
            DescriptorKind::File { path: name.to_owned(), offset, hindrance }
        }
        _ => special_kind(name, info),
    }
}

/// Why a file cannot be opened again as it was; `None` if it can.
fn cannot_open(path: &str, flags: u32) -> Option<io::Error> {
    const ACCESS: u32 = 3;
    let access = flags & ACCESS;
    let (read, write) = (access != 1, access != 0);
    OpenOptions::new().read(read).write(write).open(path).err()
}

/// The variables of which the program has private copies in memory that it can write.
fn copied_variables(process: i32, maps: &[Mapping], tokens: &[Token]) -> io::Result<BTreeSet<&'static str>> {
    let pages = File::open(format!("/proc/{process}/pagemap"))?;
    let mut found = BTreeSet::new();
    for map in maps.iter().filter(|map| map.is_writable && !map.name.starts_with("[v")) {
        for (start, end) in touched(&pages, map)? {
            found.extend(copies_between(process, start, end, tokens)?);
        }
    }
    Ok(found)
}

/// The parts of a mapping that the program has touched: the rest is zero, or as in the file.
fn touched(pages: &File, map: &Mapping) -> io::Result<Vec<(u64, u64)>> {
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    const PIECE: usize = 8192;
    let size = rustix::param::page_size() as u64;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut at = map.start;
    while at < map.end {
        let count = usize::try_from((map.end - at) / size).unwrap_or(PIECE).min(PIECE);
        let mut words = vec![0; count * 8];
        pages.read_exact_at(&mut words, at / size * 8)?;
        for word in words.chunks_exact(8) {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            if word & PRESENT_OR_SWAPPED != 0 {
                match parts.last_mut() {
                    Some((_, end)) if *end == at => *end += size,
                    _ => parts.push((at, at + size)),
                }
            }
            at += size;
        }
    }
    Ok(parts)
}

/// Searches a part of the memory, in pieces.
fn copies_between(
    process: i32,
    start: u64,
    end: u64,
    tokens: &[Token],
) -> io::Result<BTreeSet<&'static str>> {
    const PIECE: u64 = 1 << 20;
    let mut found = BTreeSet::new();
    let (mut at, mut memory) = (start, Vec::new());
    while at < end {
        let length = usize::try_from(PIECE.min(end - at)).unwrap_or(0);
        // The end of the piece before it: a value at the boundary is seen whole, with its name.
        memory.drain(..memory.len().saturating_sub(OVERLAP));
        let kept = memory.len();
        memory.resize(kept + length, 0);
        let read = read_memory(process, at, &mut memory[kept..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        memory.truncate(kept + read);
        found.extend(private_copies(&memory, kept, tokens));
        at += read as u64;
    }
    Ok(found)
}
