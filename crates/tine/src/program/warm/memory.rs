//! Looks through the memory of a stopped program.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tine_sys::other_memory::read_memory;

use super::copies::{MemoryFinds, OVERLAP, Piece};
use super::placeholder::Token;
use super::proc_text::Mapping;

/// What is in the memory that a program can write: values of the placeholder, and its canary.
///
/// # Errors
/// `/proc` is not there, or this process may not read it.
pub(super) fn look_through(
    process: i32,
    maps: &[Mapping],
    tokens: &[Token],
    canary: Option<u64>,
) -> io::Result<MemoryFinds> {
    let pages = File::open(format!("/proc/{process}/pagemap"))?;
    let mut found = MemoryFinds::default();
    for map in maps.iter().filter(|map| map.is_writable && !map.name.starts_with("[v")) {
        for (start, end) in touched(&pages, map)? {
            search_between(process, start, end, |piece| found.search(piece, tokens, canary))?;
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
fn search_between(process: i32, start: u64, end: u64, mut search: impl FnMut(Piece)) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
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
        search(Piece { bytes: &memory, address: at - kept as u64, seen: kept });
        at += read as u64;
    }
    Ok(())
}
