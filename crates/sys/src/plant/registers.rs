//! The registers of a task that its tracer has stopped, and what the kernel knows of the thread.

use std::fs;
use std::io;
use std::mem::size_of;

use super::machine::{self, Registers};
use crate::check;
use crate::other_memory::read_memory;
use crate::trace::request;

mod requests {
    pub(super) const WRITE_WORD: libc::c_long = 5;
    pub(super) const GET_REGISTERS: libc::c_long = 0x4204;
    pub(super) const SET_REGISTERS: libc::c_long = 0x4205;
    pub(super) const GET_SIGNAL_MASK: libc::c_long = 0x420a;
    pub(super) const SET_SIGNAL_MASK: libc::c_long = 0x420b;
}

/// The set of general registers (`NT_PRSTATUS` of elf.h).
const GENERAL: libc::c_long = 1;

/// The general registers.
pub(super) fn get(task: i32) -> io::Result<Registers> {
    // SAFETY: registers are integers, for which all bytes are valid.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    // SAFETY: the request writes to the place of the vector, up to its length, and the length.
    unsafe { request(requests::GET_REGISTERS, task, GENERAL, (&raw mut place) as libc::c_long) }?;
    Ok(registers)
}

pub(super) fn set(task: i32, registers: &Registers) -> io::Result<()> {
    let mut registers = *registers;
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    // SAFETY: the request reads from the place of the vector, up to its length.
    unsafe { request(requests::SET_REGISTERS, task, GENERAL, (&raw mut place) as libc::c_long) }.map(drop)
}

/// The bytes of another set of registers.
#[cfg(target_arch = "aarch64")]
pub(super) fn get_bytes(task: i32, set: libc::c_long, bytes: &mut [u8]) -> io::Result<()> {
    let mut place = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the request writes to the place of the vector, up to its length, and the length.
    unsafe { request(requests::GET_REGISTERS, task, set, (&raw mut place) as libc::c_long) }?;
    if place.iov_len == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(target_arch = "aarch64")]
pub(super) fn set_bytes(task: i32, set: libc::c_long, bytes: &mut [u8]) -> io::Result<()> {
    let mut place = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the request reads from the place of the vector, up to its length.
    unsafe { request(requests::SET_REGISTERS, task, set, (&raw mut place) as libc::c_long) }.map(drop)
}

/// Writes to the memory of a task word by word, also where it may only read.
pub(super) fn write_words(task: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    const WORD: usize = size_of::<libc::c_long>();
    for (at, bytes) in (address..).step_by(WORD).zip(bytes.chunks(WORD)) {
        let mut word = [0; WORD];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = libc::c_long::from_ne_bytes(word);
        // SAFETY: both arguments are numbers for the kernel, which checks the address.
        unsafe { request(requests::WRITE_WORD, task, at.cast_signed(), word) }?;
    }
    Ok(())
}

/// Blocks all signals of a task. Returns those that were blocked.
pub(super) fn block_all_signals(task: i32) -> io::Result<u64> {
    let (mut before, mut all) = (0_u64, u64::MAX);
    // SAFETY: the requests write and read a set of as many bytes as the third argument says.
    unsafe {
        request(requests::GET_SIGNAL_MASK, task, 8, (&raw mut before) as libc::c_long)?;
        request(requests::SET_SIGNAL_MASK, task, 8, (&raw mut all) as libc::c_long)?;
    }
    Ok(before)
}

/// The list of robust mutexes of a thread, and its length (get_robust_list(2)).
pub(super) fn robust_list(task: i32) -> [u64; 2] {
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: get_robust_list writes one pointer and one size to the addresses given.
    let returned = unsafe { libc::syscall(libc::SYS_get_robust_list, task, &raw mut head, &raw mut length) };
    if check(returned).is_ok() { [head, length] } else { [0, 0] }
}

/// Where the C library keeps the id of the thread: in the word that the kernel clears at its end
/// (glibc), or in another one (musl); `None` where a program without either has it nowhere.
pub(super) fn word_of_thread_id(task: i32, at: &Registers, cleared: u64) -> Option<u64> {
    let id = id_in_namespace(task)?;
    let thread = machine::thread_pointer(task, at)?;
    let of_musl = thread.wrapping_add_signed(machine::MUSL_THREAD_ID);
    [cleared, of_musl].into_iter().find(|word| number(task, *word) == Some(id))
}

/// The id of a task as it sees it itself.
fn id_in_namespace(task: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().last()?.parse().ok()
}

/// Whether the program may be restricted by Landlock as it is: it has CAP_SYS_ADMIN or
/// `PR_SET_NO_NEW_PRIVS` (landlock_restrict_self(2)).
pub(super) fn may_restrict(task: i32) -> bool {
    const ADMINISTRATOR: u64 = 1 << 21;
    let status = fs::read_to_string(format!("/proc/{task}/status")).unwrap_or_default();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let effective = value("CapEff:").and_then(|text| u64::from_str_radix(text, 16).ok());
    value("NoNewPrivs:") == Some("1") || effective.is_some_and(|effective| effective & ADMINISTRATOR != 0)
}

/// A number of four bytes in the memory of a task.
fn number(task: i32, address: u64) -> Option<i32> {
    let mut bytes = [0; 4];
    (read_memory(task, address, &mut bytes).ok()? == 4).then(|| i32::from_ne_bytes(bytes))
}

/// The stack canary of a thread.
#[cfg(target_arch = "x86_64")]
pub(super) fn canary(task: i32) -> Option<u64> {
    let thread = machine::thread_pointer(task, &get(task).ok()?)?;
    let mut bytes = [0; 8];
    let read = read_memory(task, thread.wrapping_add(machine::CANARY), &mut bytes).ok()?;
    (read == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}
