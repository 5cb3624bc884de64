//! System calls in place. The C library's `syscall` is on another page of code, and each page that
//! a fresh process touches for the first time is a fault of about a microsecond.

/// `clone(2)` with a null stack and no thread-local storage: a fork. Returns the id, 0 in the
/// child, or the negative error number.
///
/// # Safety
/// This process has one thread. `flags` does not have CLONE_VM. The pointers are null, or valid for
/// writes and meant for the ids.
#[inline]
pub(crate) unsafe fn clone(
    flags: libc::c_long,
    parent: *mut libc::c_int,
    child: *mut libc::c_int,
) -> libc::c_long {
    // The order of the last two arguments differs between architectures (clone(2)).
    #[cfg(target_arch = "x86_64")]
    let (fourth, fifth) = (child as libc::c_long, 0);
    #[cfg(not(target_arch = "x86_64"))]
    let (fourth, fifth) = (0, child as libc::c_long);
    // SAFETY: as the caller guarantees.
    unsafe { call5(libc::SYS_clone, [flags, 0, parent as libc::c_long, fourth, fifth]) }
}

/// The same into a pid namespace of its own, with two numbers in the arguments that the kernel
/// ignores without thread-local storage and without a place for the id in the child.
///
/// # Safety
/// That of [`clone`]; `flags` has neither CLONE_SETTLS, nor CLONE_CHILD_SETTID and
/// CLONE_CHILD_CLEARTID.
pub(crate) unsafe fn clone_apart(
    flags: libc::c_long,
    parent: *mut libc::c_int,
    ignored: [u64; 2],
) -> libc::c_long {
    let [fourth, fifth] = ignored.map(|number| number as libc::c_long);
    let flags = flags | libc::c_long::from(libc::CLONE_NEWPID);
    // SAFETY: as the caller guarantees.
    unsafe { call5(libc::SYS_clone, [flags, 0, parent as libc::c_long, fourth, fifth]) }
}

/// A system call with two arguments.
///
/// # Safety
/// That of the system call.
#[inline]
pub(crate) unsafe fn call2(number: libc::c_long, first: libc::c_long, second: libc::c_long) -> libc::c_long {
    // SAFETY: as the caller guarantees; the kernel ignores further arguments.
    unsafe { call5(number, [first, second, 0, 0, 0]) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn call5(number: libc::c_long, args: [libc::c_long; 5]) -> libc::c_long {
    let returned;
    // SAFETY: the registers are those of the x86-64 convention (syscall(2)); memory may change.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => returned,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    returned
}

#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn call5(number: libc::c_long, args: [libc::c_long; 5]) -> libc::c_long {
    let returned;
    // SAFETY: the registers are those of the arm64 convention (syscall(2)); memory may change.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => returned,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            options(nostack)
        );
    }
    returned
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
unsafe fn call5(number: libc::c_long, args: [libc::c_long; 5]) -> libc::c_long {
    // SAFETY: as the caller guarantees.
    let returned = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if returned == -1 {
        return -libc::c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
    }
    returned
}

/// `close(2)`.
///
/// # Safety
/// The descriptor has no owner that is used or dropped later.
#[inline]
pub(crate) unsafe fn close(number: libc::c_int) -> libc::c_long {
    // SAFETY: as the caller guarantees.
    unsafe { call2(libc::SYS_close, libc::c_long::from(number), 0) }
}

/// `close_range(2)` from `first` to `last`, both included.
///
/// # Safety
/// As of [`close`] for each of them, unless the flags leave them open.
#[inline]
pub(crate) unsafe fn close_range(first: libc::c_int, last: u32, flags: libc::c_uint) -> libc::c_long {
    let range = [libc::c_long::from(first), libc::c_long::from(last)];
    // SAFETY: as the caller guarantees.
    unsafe { call5(libc::SYS_close_range, [range[0], range[1], libc::c_long::from(flags), 0, 0]) }
}
