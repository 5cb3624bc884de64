//! The planted code for x86-64, and the registers around it.
//!
//! At a `syscall` instruction, `rcx` and `r11` are free: the call itself overwrites them. The code
//! uses neither the stack of the program nor vector registers. The flags that a copy goes on with
//! are those of arithmetic; the others are as the System V ABI has them at each call.

use std::arch::global_asm;
use std::io;

use crate::trace::Tracer;

pub(super) type Registers = libc::user_regs_struct;

/// The machine instruction of a system call.
pub(super) const CALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// The words of the image that a copy goes on from, in the order in which the code loads them.
pub(super) const IMAGE_WORDS: usize = 16;

global_asm!(
    ".pushsection .text.tine_planted, \"ax\"",
    ".globl tine_planted_start",
    ".globl tine_planted_end",
    "tine_planted_start:",
    // rbx: the data of `layout`.
    "2: mov rax, {recvmsg}",
    "mov rdi, [rbx + {channel}]",
    "lea rsi, [rbx + {header}]",
    "mov edx, {flags}",
    "syscall",
    "cmp rax, {interrupted}",
    "je 2b",
    "test rax, rax",
    "jle 8f",
    "mov r12, rax",
    "mov rax, {clone}",
    "mov rdi, [rbx + {clone_flags}]",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "test rax, rax",
    "jz 4f",
    // A copy answers for itself. Without one, the template answers with the negative error number.
    "jns 7f",
    "mov [rbx + {reply}], rax",
    "mov qword ptr [rbx + {reply} + 8], 0",
    "mov rax, {sendto}",
    "mov rdi, [rbx + {channel}]",
    "lea rsi, [rbx + {reply}]",
    "mov edx, 16",
    "mov r10d, {nosignal}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    // It closes what it has received: the length in the head of the control message, which is 16
    // bytes itself, says how much.
    "7: mov r13, [rbx + {control}]",
    "mov qword ptr [rbx + {control}], 0",
    "lea r14, [rbx + {control} + 16]",
    "3: sub r13, 4",
    "cmp r13, 16",
    "jl 9f",
    "mov rax, {close}",
    "mov edi, [r14]",
    "syscall",
    "add r14, 4",
    "jmp 3b",
    // It forgets the message, which no other copy is to see.
    "9: cld",
    "lea rdi, [rbx + {message}]",
    "mov rcx, r12",
    "xor eax, eax",
    "rep stosb",
    "mov qword ptr [rbx + {control_length}], {control_bytes}",
    "jmp 2b",
    // The other end of the channel is closed.
    "8: mov rax, {exit_group}",
    "xor edi, edi",
    "syscall",
    "ud2",
    // The copy takes its steps. r12: the next one; r13: its number.
    "4: cld",
    "lea r12, [rbx + {message}]",
    "xor r13d, r13d",
    "5: mov rax, [r12]",
    "cmp rax, {step_call}",
    "je 6f",
    "cmp rax, {step_copy}",
    "je 7f",
    "cmp rax, {step_thread}",
    "je 3f",
    // The last one: the program goes on. The message is not for it.
    "lea rdi, [rbx + {message}]",
    "mov rcx, r12",
    "sub rcx, rdi",
    "xor eax, eax",
    "rep stosb",
    // Signals are not blocked any more, so the stack stays that of the program. A sum of the
    // overflow flag and 127 overflows again; the flags in ah leave that one as it is.
    "mov rax, [rbx + {image}]",
    "add al, 127",
    "sahf",
    "mov rcx, rbx",
    "mov rbx, [rcx + {image} + 8]",
    "mov rax, [rcx + {image} + 16]",
    "mov rdi, [rcx + {image} + 24]",
    "mov rsi, [rcx + {image} + 32]",
    "mov rdx, [rcx + {image} + 40]",
    "mov r10, [rcx + {image} + 48]",
    "mov r8, [rcx + {image} + 56]",
    "mov r9, [rcx + {image} + 64]",
    "mov rbp, [rcx + {image} + 72]",
    "mov r12, [rcx + {image} + 80]",
    "mov r13, [rcx + {image} + 88]",
    "mov r14, [rcx + {image} + 96]",
    "mov r15, [rcx + {image} + 104]",
    "mov r11, [rcx + {image} + 112]",
    "mov rcx, [rcx + {image} + 120]",
    "jmp rcx",
    // A system call, with the result that it must have.
    "6: mov rax, [r12 + 8]",
    "mov rdi, [r12 + 16]",
    "mov rsi, [r12 + 24]",
    "mov rdx, [r12 + 32]",
    "mov r10, [r12 + 40]",
    "mov r8, [r12 + 48]",
    "mov r9, [r12 + 56]",
    "syscall",
    "cmp rax, [r12 + 64]",
    "jne 8f",
    "add r12, 72",
    "inc r13",
    "jmp 5b",
    // Bytes for the memory of the program.
    "7: mov rdi, [r12 + 8]",
    "mov rcx, [r12 + 16]",
    "lea rsi, [r12 + 24]",
    "rep movsb",
    "lea r12, [rsi + 7]",
    "and r12, -8",
    "inc r13",
    "jmp 5b",
    // The id of the thread, for the kernel to clear and for the C library.
    "3: mov rax, {set_tid_address}",
    "mov rdi, [r12 + 8]",
    "syscall",
    "mov rcx, [r12 + 16]",
    "mov [rcx], eax",
    "add r12, 24",
    "inc r13",
    "jmp 5b",
    // A step has failed: its number and result are reported.
    "8: bts r13, {failed_bit}",
    "mov [rbx + {reply}], r13",
    "mov [rbx + {reply} + 8], rax",
    "mov rax, {sendto}",
    "mov rdi, [rbx + {channel}]",
    "lea rsi, [rbx + {reply}]",
    "mov edx, 16",
    "mov r10d, {nosignal}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "mov rax, {exit_group}",
    "mov edi, {failed}",
    "syscall",
    "ud2",
    // The handler of SIGSYS, for a call that would accept another client. rdx: the context.
    ".globl tine_planted_trap",
    "tine_planted_trap:",
    "mov rbx, [rip + tine_planted_end]",
    "mov r12, rdx",
    "mov rax, {newfstatat}",
    "mov rdi, -100",
    "lea rsi, [rbx + {path}]",
    "lea rdx, [rbx + {scratch}]",
    "xor r10d, r10d",
    "syscall",
    "test rax, rax",
    "js 2f",
    // The number of links.
    "cmp qword ptr [rbx + {scratch} + 16], 3",
    "ja 4f",
    "2: mov rax, {fcntl}",
    "mov edi, [rbx + {connection}]",
    "mov esi, {getfd}",
    "syscall",
    "test rax, rax",
    "js 3f",
    // Still open: no client yet, after its input or a moment.
    "mov edi, [rbx + {connection}]",
    "mov [rbx + {scratch}], edi",
    "mov dword ptr [rbx + {scratch} + 4], {readable}",
    "mov qword ptr [rbx + {scratch} + 8], 0",
    "mov qword ptr [rbx + {scratch} + 16], {moment}",
    "mov rax, {ppoll}",
    "lea rdi, [rbx + {scratch}]",
    "mov esi, 1",
    "lea rdx, [rbx + {scratch} + 8]",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "mov qword ptr [r12 + {result}], {again}",
    "ret",
    // Its children first.
    "3: mov rax, {wait4}",
    "mov rdi, -1",
    "xor esi, esi",
    "mov edx, {all_children}",
    "xor r10d, r10d",
    "syscall",
    "cmp rax, {interrupted}",
    "je 3b",
    "test rax, rax",
    "jns 3b",
    "4: mov rax, {exit}",
    "xor edi, edi",
    "syscall",
    "ud2",
    ".globl tine_planted_restorer",
    "tine_planted_restorer:",
    "mov rax, {rt_sigreturn}",
    "syscall",
    "ud2",
    "tine_planted_end:",
    ".popsection",
    recvmsg = const libc::SYS_recvmsg,
    clone = const libc::SYS_clone,
    sendto = const libc::SYS_sendto,
    close = const libc::SYS_close,
    exit_group = const libc::SYS_exit_group,
    set_tid_address = const libc::SYS_set_tid_address,
    newfstatat = const libc::SYS_newfstatat,
    fcntl = const libc::SYS_fcntl,
    getfd = const libc::F_GETFD,
    ppoll = const libc::SYS_ppoll,
    wait4 = const libc::SYS_wait4,
    exit = const libc::SYS_exit,
    rt_sigreturn = const libc::SYS_rt_sigreturn,
    path = const super::layout::PATH,
    scratch = const super::layout::SCRATCH,
    connection = const super::layout::CONNECTION,
    readable = const libc::POLLIN,
    moment = const super::layout::MOMENT,
    again = const -libc::EAGAIN,
    all_children = const libc::__WALL,
    // `rax` in `struct ucontext`.
    result = const 144,
    interrupted = const -libc::EINTR,
    flags = const libc::MSG_CMSG_CLOEXEC,
    nosignal = const libc::MSG_NOSIGNAL,
    failed = const super::layout::EXIT_FAILED,
    failed_bit = const super::layout::FAILED_BIT,
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
    at.rip.wrapping_sub(CALL_INSTRUCTION.len() as u64)
}

/// The registers by which the kernel leaves out the call that a task is about to make.
pub(super) fn without_call(at: &Registers) -> Registers {
    Registers { orig_rax: u64::MAX, ..*at }
}

/// There is nothing else to do on this architecture.
pub(super) fn leave_call_out(_task: i32) -> io::Result<()> {
    Ok(())
}

/// The registers by which a task that stands behind a system call makes another one.
pub(super) fn with_call(at: &Registers, number: libc::c_long, arguments: [u64; 6]) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let rax = number.cast_unsigned();
    Registers { rip: call_site(at), rax, orig_rax: u64::MAX, rdi, rsi, rdx, r10, r8, r9, ..*at }
}

/// The registers by which a task enters the planted code.
pub(super) fn at_code(at: &Registers, code: u64, data: u64) -> Registers {
    Registers { rip: code, rbx: data, orig_rax: u64::MAX, ..*at }
}

/// A tracer sees all registers at a call.
pub(super) fn true_registers(_tracer: &mut Tracer<'_>, _task: i32, at: &Registers) -> io::Result<Registers> {
    Ok(*at)
}

unsafe extern "C" {
    static tine_planted_start: u8;
    static tine_planted_trap: u8;
    static tine_planted_restorer: u8;
}

/// Where in the code the handler of SIGSYS is, and where it returns to.
pub(super) fn trap_places() -> [u64; 2] {
    [&raw const tine_planted_trap, &raw const tine_planted_restorer]
        .map(|place| (place.addr() - (&raw const tine_planted_start).addr()) as u64)
}

/// The image of a task that is about to make a system call: it goes on with that call, or behind it
/// with this result. The blocked signals are set by a step.
pub(super) fn image(_task: i32, at: &Registers, _signals: u64, result: Option<i32>) -> io::Result<Vec<u64>> {
    let (rax, place) = match result {
        Some(result) => (i64::from(result).cast_unsigned(), at.rip),
        None => (at.orig_rax, call_site(at)),
    };
    let words: [u64; IMAGE_WORDS] = [
        (at.eflags & 0xff) << 8 | at.eflags >> 11 & 1,
        at.rbx,
        rax,
        at.rdi,
        at.rsi,
        at.rdx,
        at.r10,
        at.r8,
        at.r9,
        at.rbp,
        at.r12,
        at.r13,
        at.r14,
        at.r15,
        at.r11,
        place,
    ];
    Ok(words.to_vec())
}

/// Where the C library keeps what belongs to a thread.
pub(super) fn thread_pointer(_task: i32, at: &Registers) -> Option<u64> {
    Some(at.fs_base)
}

/// Where musl keeps the id of a thread (`struct pthread`, src/internal/pthread_impl.h), from the
/// thread pointer.
pub(super) const MUSL_THREAD_ID: i64 = 0x30;

/// Where the stack canary is, from the thread pointer (System V ABI for x86-64).
pub(super) const CANARY: u64 = 0x28;
