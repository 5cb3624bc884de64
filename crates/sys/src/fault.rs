//! Notes where a process faults, before the fault ends it.

use std::io;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The words of a note: the signal, the address that could not be used, and the instruction.
pub type FaultWords = [AtomicU64; 3];

/// Set beside the signal if there is an address: not for abort(3), or for a signal that a process
/// has sent.
pub const HAS_ADDRESS: u64 = 1 << 32;

/// The instruction, if it is in none of this program: in a library, or at an address that is none.
pub const NOT_IN_PROGRAM: u64 = u64::MAX;

/// The signals of faults (signal(7)); that of abort(3) has no address.
const FAULTS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Enough for the registers of any processor that there is (`AT_MINSIGSTKSZ`, sigaltstack(2)), and
/// for the few calls of the handler.
const STACK: usize = 64 << 10;

/// Where the note goes; null while none is wanted.
static NOTE: AtomicPtr<FaultWords> = AtomicPtr::new(std::ptr::null_mut());

/// From now on, faults of this process and of those forked from it are noted where [`note_in`]
/// says. A fault ends the process as before: the handler sets the default action and returns to the
/// instruction that faults. A program that is executed has no handler (execve(2)).
///
/// The handler has a stack of its own, so that a stack that has overflowed is noted, too.
///
/// # Errors
/// ENOMEM.
pub fn install() -> io::Result<()> {
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the stack is ours for ever, and nothing else uses it.
    crate::check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }.into())?;
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = note;
    for signal in FAULTS {
        // SAFETY: all zero bytes are a valid sigaction; sigemptyset initialises the mask. The
        // handler makes only calls that are allowed in one (signal-safety(7)).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigemptyset(&raw mut action.sa_mask);
            crate::check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()).into())?;
        }
    }
    Ok(())
}

/// Notes a fault of this process in these words from now on.
pub fn note_in(words: &'static FaultWords) {
    NOTE.store(std::ptr::from_ref(words).cast_mut(), Relaxed);
}

extern "C" fn note(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both pointers, valid for this call (sigaction(2)).
    let (code, address, instruction) =
        unsafe { ((*info).si_code, (*info).si_addr() as u64, instruction(context)) };
    // SAFETY: it is null, or a reference for ever.
    if let Some(words) = unsafe { NOTE.load(Relaxed).as_ref() } {
        let has_address = code > 0 && signal != libc::SIGABRT && signal != libc::SIGSYS;
        words[1].store(address, Relaxed);
        words[2].store(within_program(instruction), Relaxed);
        words[0].store(signal as u64 | if has_address { HAS_ADDRESS } else { 0 }, Relaxed);
    }
    if code <= 0 {
        // A process has sent it: no instruction faults once more. It is pending until this returns.
        // SAFETY: no preconditions.
        unsafe { libc::raise(signal) };
    }
}

/// The instruction at which a signal has come.
///
/// # Safety
/// The pointer is that to the context of a signal handler.
unsafe fn instruction(context: *mut libc::c_void) -> u64 {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: as the caller says.
    #[cfg(target_arch = "x86_64")]
    let instruction = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] } as u64;
    // SAFETY: as the caller says.
    #[cfg(target_arch = "aarch64")]
    let instruction = unsafe { (*context).uc_mcontext.pc };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let instruction = {
        let _ = context;
        0
    };
    instruction
}

unsafe extern "C" {
    // Symbols of the linker (ld(1)); their addresses are meant.
    static __executable_start: u8;
    static etext: u8;
}

/// An instruction of this program, as an offset from its first byte, whatever address it was loaded
/// at: that is what addr2line(1) takes.
fn within_program(instruction: u64) -> u64 {
    let (start, end) = (&raw const __executable_start as u64, &raw const etext as u64);
    if (start..end).contains(&instruction) { instruction - start } else { NOT_IN_PROGRAM }
}
