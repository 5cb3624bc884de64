//! The planted code for aarch64, and the registers around it.
//!
//! At an `svc` instruction no register is free. A copy goes on by rt_sigreturn(2), from a signal
//! frame in the data of the template that no signal has made: it restores all registers and the
//! blocked signals at once. A program with a shadow stack (GCS, Linux 6.13) cannot be copied so.
//!
//! The code leaves the stack of the program alone until then, and uses no vector register.

use std::arch::global_asm;
use std::io;
use std::mem::size_of;

use super::registers;
use crate::trace::{TraceEvent, Tracer, request};

pub(super) type Registers = libc::user_regs_struct;

/// The machine instruction of a system call, `svc #0`.
pub(super) const CALL_INSTRUCTION: [u8; 4] = 0xd400_0001_u32.to_le_bytes();

global_asm!(
    ".pushsection .text.tine_planted, \"ax\"",
    ".balign 4",
    ".globl tine_planted_start",
    ".globl tine_planted_end",
    "tine_planted_start:",
    // x19: the data of `layout`.
    "2: mov x8, {recvmsg}",
    "ldr x0, [x19, {channel}]",
    "add x1, x19, {header}",
    "mov x2, {flags}",
    "svc #0",
    "cmn x0, {interrupted}",
    "b.eq 2b",
    "cmp x0, #0",
    "b.le 8f",
    "mov x20, x0",
    "mov x8, {clone}",
    "ldr x0, [x19, {clone_flags}]",
    "mov x1, xzr",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "svc #0",
    "cbz x0, 4f",
    // A copy answers for itself. Without one, the template answers with the negative error number.
    "cmp x0, #0",
    "b.ge 7f",
    "stp x0, xzr, [x19, {reply}]",
    "mov x8, {sendto}",
    "ldr x0, [x19, {channel}]",
    "add x1, x19, {reply}",
    "mov x2, #16",
    "mov x3, {nosignal}",
    "mov x4, xzr",
    "mov x5, xzr",
    "svc #0",
    // It closes what it has received: the length in the head of the control message, which is 16
    // bytes itself, says how much.
    "7: ldr x21, [x19, {control}]",
    "str xzr, [x19, {control}]",
    "add x22, x19, {control} + 16",
    "3: sub x21, x21, #4",
    "cmp x21, #16",
    "b.lt 9f",
    "mov x8, {close}",
    "ldr w0, [x22], #4",
    "svc #0",
    "b 3b",
    // It forgets the message, which no other copy is to see.
    "9: add x9, x19, {message}",
    "2: str xzr, [x9], #8",
    "subs x20, x20, #8",
    "b.gt 2b",
    "mov x9, {control_bytes}",
    "str x9, [x19, {control_length}]",
    "b tine_planted_start",
    // The other end of the channel is closed.
    "8: mov x8, {exit_group}",
    "mov x0, xzr",
    "svc #0",
    "brk #0",
    // The copy takes its steps. x20: the next one; x21: its number.
    "4: add x20, x19, {message}",
    "mov x21, xzr",
    "5: ldr x9, [x20]",
    "cmp x9, {step_call}",
    "b.eq 6f",
    "cmp x9, {step_copy}",
    "b.eq 7f",
    "cmp x9, {step_thread}",
    "b.eq 3f",
    // The last one: the program goes on. The message is not for it.
    "add x9, x19, {message}",
    "2: str xzr, [x9], #8",
    "cmp x9, x20",
    "b.lo 2b",
    "add x9, x19, {image}",
    "mov sp, x9",
    "mov x8, {rt_sigreturn}",
    "svc #0",
    "brk #0",
    // A system call, with the result that it must have.
    "6: ldp x8, x0, [x20, #8]",
    "ldp x1, x2, [x20, #24]",
    "ldp x3, x4, [x20, #40]",
    "ldr x5, [x20, #56]",
    "svc #0",
    "ldr x9, [x20, #64]",
    "cmp x0, x9",
    "b.ne 8f",
    "add x20, x20, #72",
    "add x21, x21, #1",
    "b 5b",
    // Bytes for the memory of the program.
    "7: ldp x9, x10, [x20, #8]",
    "add x20, x20, #24",
    "cbz x10, 11f",
    "2: ldrb w11, [x20], #1",
    "strb w11, [x9], #1",
    "subs x10, x10, #1",
    "b.ne 2b",
    "11: add x20, x20, #7",
    "and x20, x20, #-8",
    "add x21, x21, #1",
    "b 5b",
    // The id of the thread, for the kernel to clear and for the C library.
    "3: mov x8, {set_tid_address}",
    "ldp x0, x23, [x20, #8]",
    "svc #0",
    "str w0, [x23]",
    "add x20, x20, #24",
    "add x21, x21, #1",
    "b 5b",
    // A step has failed: its number and result are reported.
    "8: orr x21, x21, {failed_bit}",
    "stp x21, x0, [x19, {reply}]",
    "mov x8, {sendto}",
    "ldr x0, [x19, {channel}]",
    "add x1, x19, {reply}",
    "mov x2, #16",
    "mov x3, {nosignal}",
    "mov x4, xzr",
    "mov x5, xzr",
    "svc #0",
    "mov x8, {exit_group}",
    "mov x0, {failed}",
    "svc #0",
    "brk #0",
    // The handler of SIGSYS, for a call that would accept another client. x2: the context.
    ".globl tine_planted_trap",
    "tine_planted_trap:",
    "adr x19, tine_planted_end",
    "ldr x19, [x19]",
    "mov x20, x2",
    "add x22, x19, {scratch}",
    "mov x8, {newfstatat}",
    "mov x0, #-100",
    "add x1, x19, {path}",
    "mov x2, x22",
    "mov x3, xzr",
    "svc #0",
    "tbnz x0, #63, 2f",
    // The number of links.
    "ldr w9, [x22, #20]",
    "cmp w9, #3",
    "b.hi 4f",
    "2: mov x8, {fcntl}",
    "ldr w0, [x19, {connection}]",
    "mov x1, {getfd}",
    "svc #0",
    "tbnz x0, #63, 3f",
    // Still open: no client yet, after its input or a moment.
    "ldr w9, [x19, {connection}]",
    "mov w10, {readable}",
    "stp w9, w10, [x22]",
    "mov x9, {moment} & 0xffff",
    "movk x9, {moment} >> 16, lsl #16",
    "stp xzr, x9, [x22, #8]",
    "mov x8, {ppoll}",
    "mov x0, x22",
    "mov x1, #1",
    "add x2, x22, #8",
    "mov x3, xzr",
    "mov x4, xzr",
    "svc #0",
    "mov x9, {again}",
    "str x9, [x20, {result}]",
    "ret",
    // Its children first.
    "3: mov x8, {wait4}",
    "mov x0, #-1",
    "mov x1, xzr",
    "mov x2, {all_children}",
    "mov x3, xzr",
    "svc #0",
    "cmn x0, {interrupted}",
    "b.eq 3b",
    "tbz x0, #63, 3b",
    "4: mov x8, {exit}",
    "mov x0, xzr",
    "svc #0",
    "brk #0",
    "tine_planted_end:",
    ".popsection",
    recvmsg = const libc::SYS_recvmsg,
    clone = const libc::SYS_clone,
    sendto = const libc::SYS_sendto,
    close = const libc::SYS_close,
    exit_group = const libc::SYS_exit_group,
    set_tid_address = const libc::SYS_set_tid_address,
    rt_sigreturn = const libc::SYS_rt_sigreturn,
    newfstatat = const libc::SYS_newfstatat,
    fcntl = const libc::SYS_fcntl,
    getfd = const libc::F_GETFD,
    ppoll = const libc::SYS_ppoll,
    wait4 = const libc::SYS_wait4,
    exit = const libc::SYS_exit,
    path = const super::layout::PATH,
    scratch = const super::layout::SCRATCH,
    connection = const super::layout::CONNECTION,
    readable = const libc::POLLIN,
    moment = const super::layout::MOMENT,
    again = const -libc::EAGAIN,
    all_children = const libc::__WALL,
    // The first register in `struct ucontext`.
    result = const CONTEXT + 8,
    interrupted = const libc::EINTR,
    flags = const libc::MSG_CMSG_CLOEXEC,
    nosignal = const libc::MSG_NOSIGNAL,
    failed = const super::layout::EXIT_FAILED,
    failed_bit = const 1_u64 << super::layout::FAILED_BIT,
    channel = const super::layout::CHANNEL,
    clone_flags = const super::layout::CLONE_FLAGS,
    header = const super::layout::HEADER,
    control_length = const super::layout::CONTROL_LENGTH,
    control = const super::layout::CONTROL,
    control_bytes = const super::layout::CONTROL_BYTES,
    reply = const super::layout::REPLY,
    image = const super::layout::IMAGE,
    message = const super::layout::MESSAGE,
    step_call = const super::steps::CALL,
    step_copy = const super::steps::COPY,
    step_thread = const super::steps::THREAD,
);

/// Where the program makes its system call.
pub(super) fn call_site(at: &Registers) -> u64 {
    at.pc.wrapping_sub(CALL_INSTRUCTION.len() as u64)
}

/// The registers with which a task leaves out the call that it is about to make: x0 is none of the
/// results by which the kernel starts a call again.
pub(super) fn without_call(at: &Registers) -> Registers {
    let mut registers = *at;
    registers.regs[0] = 0;
    registers
}

/// Has the kernel leave out the call that a task is about to make.
pub(super) fn leave_call_out(task: i32) -> io::Result<()> {
    /// The number of the call (`NT_ARM_SYSTEM_CALL` of elf.h), which is not x8 any more.
    const CALL_NUMBER: libc::c_long = 0x404;
    registers::set_bytes(task, CALL_NUMBER, &mut (-1_i32).to_ne_bytes())
}

/// The registers that a task had at its call, which it has left out; it stands behind it.
///
/// At a stop at a call, x7 says whether this is the entry or the exit, and nothing that a tracer
/// writes to it is kept (`report_syscall` of arch/arm64/kernel/ptrace.c). The stop of
/// `PTRACE_INTERRUPT`, on the way back to the program, shows it as it is.
pub(super) fn true_registers(tracer: &mut Tracer<'_>, task: i32, at: &Registers) -> io::Result<Registers> {
    /// It is the same on all architectures.
    const INTERRUPT: libc::c_long = 0x4207;
    // SAFETY: the request has numbers as arguments.
    unsafe { request(INTERRUPT, task, 0, 0) }?;
    tracer.resume(task, None)?;
    loop {
        let stop = tracer.next(None)?.ok_or(io::ErrorKind::TimedOut)?;
        match stop.event {
            _ if stop.task != task => {}
            TraceEvent::Began => break,
            event => return Err(io::Error::other(format!("the program did not stop: {event:?}"))),
        }
    }
    let mut registers = *at;
    registers.regs[7] = registers::get(task)?.regs[7];
    Ok(registers)
}

/// The registers by which a task that stands behind a system call makes another one.
pub(super) fn with_call(at: &Registers, number: libc::c_long, arguments: [u64; 6]) -> Registers {
    let mut registers = *at;
    registers.regs[..6].copy_from_slice(&arguments);
    registers.regs[8] = number.cast_unsigned();
    registers.pc = call_site(at);
    registers
}

/// The registers by which a task enters the planted code.
pub(super) fn at_code(at: &Registers, code: u64, data: u64) -> Registers {
    let mut registers = without_call(at);
    registers.regs[19] = data;
    registers.pc = code;
    registers
}

/// The words of the image that a copy goes on from.
pub(super) const IMAGE_WORDS: usize = (SIGNAL_INFO + CONTEXT + MACHINE_CONTEXT) / 8 + 66 + 2;

/// Bytes of a `siginfo_t`, of a `struct ucontext` and of a `struct sigcontext`, each up to its last
/// field (asm/ucontext.h, asm/sigcontext.h).
const SIGNAL_INFO: usize = 128;
const CONTEXT: usize = 176;
const MACHINE_CONTEXT: usize = 288;

unsafe extern "C" {
    static tine_planted_start: u8;
    static tine_planted_trap: u8;
}

/// Where in the code the handler of SIGSYS is; the kernel knows where it returns to.
pub(super) fn trap_places() -> [u64; 2] {
    [((&raw const tine_planted_trap).addr() - (&raw const tine_planted_start).addr()) as u64, 0]
}

/// The image of a task that is about to make a system call: the signal frame from which it goes on
/// with that call, or behind it with this result, with these blocked signals.
pub(super) fn image(task: i32, at: &Registers, signals: u64, result: Option<i32>) -> io::Result<Vec<u64>> {
    /// Flags of an alternate stack that are refused: it stays as it is (sigaltstack(2)).
    const NO_STACK: u64 = 3;
    /// The head of a `struct fpsimd_context`: `FPSIMD_MAGIC` and its bytes.
    const VECTORS: u64 = 0x4650_8001 | 0x210 << 32;
    let (context, machine) = (SIGNAL_INFO / 8, (SIGNAL_INFO + CONTEXT) / 8);
    let mut words = vec![0; IMAGE_WORDS];
    words[context + 3] = NO_STACK;
    words[context + 5] = signals;
    // Behind the address of a fault.
    words[machine + 1..machine + 32].copy_from_slice(&at.regs);
    let place = if result.is_some() { at.pc } else { call_site(at) };
    words[machine + 32..machine + 35].copy_from_slice(&[at.sp, place, at.pstate]);
    if let Some(result) = result {
        words[machine + 1] = i64::from(result).cast_unsigned();
    }
    let records = &mut words[machine + MACHINE_CONTEXT / 8..];
    let (vectors, modes) = vector_registers(task)?;
    records[0] = VECTORS;
    records[1] = modes;
    // The record at the end is zero.
    records[2..66].copy_from_slice(&vectors);
    Ok(words)
}

/// The vector registers, two words each, and the word of their status and control.
fn vector_registers(task: i32) -> io::Result<([u64; 64], u64)> {
    /// `NT_PRFPREG` of elf.h: `struct user_fpsimd_state`.
    const VECTORS: libc::c_long = 2;
    let mut bytes = [0; 66 * size_of::<u64>()];
    registers::get_bytes(task, VECTORS, &mut bytes)?;
    let mut words = [0; 66];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    let mut vectors = [0; 64];
    vectors.copy_from_slice(&words[..64]);
    Ok((vectors, words[64]))
}

/// Where the C library keeps what belongs to a thread.
pub(super) fn thread_pointer(task: i32, _at: &Registers) -> Option<u64> {
    /// `tpidr_el0` (`NT_ARM_TLS` of elf.h).
    const THREAD_POINTER: libc::c_long = 0x401;
    let mut bytes = [0; 8];
    registers::get_bytes(task, THREAD_POINTER, &mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Where musl keeps the id of a thread (`struct pthread`, src/internal/pthread_impl.h), from the
/// thread pointer: the structure is in front of it.
pub(super) const MUSL_THREAD_ID: i64 = 32 - 200;
