//! Confinement of a process that only serves descriptors which it has or is passed: it can open
//! nothing, and makes few system calls (seccomp(2), landlock(7)).

use std::io;

use crate::check;
use crate::process::Alone;

/// The system calls of a process that waits for descriptors, reads and writes them, passes them on,
/// allocates memory, and exits. Number and architecture are checked, so calls by the numbers of
/// another architecture are none of these.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What an observer may call beside these: it accepts clients on listeners that it has, and asks
/// its server over new pairs of sockets.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ALLOWED_OBSERVER: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_clock_nanosleep,
    libc::SYS_sigaltstack,
];

/// System calls that are allowed unless they make memory executable (`PROT_EXEC` in the third
/// argument).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ALLOWED_WITHOUT_EXEC: &[libc::c_long] = &[libc::SYS_mmap, libc::SYS_mprotect];

/// `AUDIT_ARCH_…` (linux/audit.h) of this architecture.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Confines this process for the rest of its life. Any other system call than waiting, reading,
/// writing, passing descriptors, allocating memory and exiting kills it with SIGSYS. Where the
/// kernel has Landlock, it also has no access to files, and opens no TCP connection. It must not
/// execute programs or start threads afterwards.
///
/// # Errors
/// The kernel does not take the filter: EINVAL or ENOSYS without seccomp, EPERM in a sandbox;
/// [`io::ErrorKind::Unsupported`] on other architectures than x86-64 and arm64. Nothing is
/// confined by the filter then.
pub fn confine(_alone: &Alone) -> io::Result<()> {
    confine_to(false)
}

/// Confines the observer of a server, for the rest of its life: as [`confine`], but it also accepts
/// clients on the listeners that it has, sets options of sockets, and makes pairs of sockets. It
/// must not execute programs or start threads afterwards.
///
/// # Errors
/// As [`confine`].
pub fn confine_observer() -> io::Result<()> {
    confine_to(true)
}

fn confine_to(is_observer: bool) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Old kernels do not have it; the filter allows no call that it would forbid.
    let _ = restrict_by_landlock();
    install_filter(is_observer)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn install_filter(is_observer: bool) -> io::Result<()> {
    let mut filter = filter(if is_observer { ALLOWED_OBSERVER } else { &[] });
    let length = filter.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to its instructions, which the kernel checks and copies.
    let returned =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(returned).map(drop)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn install_filter(_is_observer: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The filter, which allows `more` calls, too. Without fcntl(2) among them, that may only ask
/// whether a descriptor is open: Rust's standard library does so before it closes one, where debug
/// assertions are enabled. A program of the classic BPF on `struct seccomp_data` (seccomp(2)).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn filter(more: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    // The lower halves of the second and the third argument, on a little-endian machine.
    const COMMAND_AT: u32 = 16 + 8;
    const PROTECTION_AT: u32 = 16 + 2 * 8;
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let instruction = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // `skip` instructions follow that are for a true condition only.
    let when = |code: u32, k: u32, skip: u8| libc::sock_filter { jf: skip, ..instruction(code, k) };
    let allow = instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    let kill = instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS);
    let mut filter = vec![
        instruction(LOAD, ARCHITECTURE_AT),
        libc::sock_filter { jt: 1, jf: 0, ..instruction(IF_EQUAL, ARCHITECTURE) },
        kill,
        instruction(LOAD, NUMBER_AT),
    ];
    for number in ALLOWED.iter().chain(more) {
        filter.extend([when(IF_EQUAL, *number as u32, 1), allow]);
    }
    for number in ALLOWED_WITHOUT_EXEC {
        filter.extend([
            when(IF_EQUAL, *number as u32, 4),
            instruction(LOAD, PROTECTION_AT),
            when(IF_ANY_BIT, libc::PROT_EXEC as u32, 1),
            kill,
            allow,
        ]);
    }
    filter.extend([
        when(IF_EQUAL, libc::SYS_fcntl as u32, 4),
        instruction(LOAD, COMMAND_AT),
        when(IF_EQUAL, libc::F_GETFD as u32, 1),
        allow,
        kill,
    ]);
    filter.push(kill);
    filter
}

/// `struct landlock_ruleset_attr` (linux/landlock.h).
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scope: u64,
}

/// Forbids everything that the kernel's version of Landlock knows, by a ruleset without rules.
fn restrict_by_landlock() -> io::Result<()> {
    let version = crate::jail::landlock_version()?;
    let rights_on_files = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    let ruleset = Ruleset {
        files: (1 << rights_on_files) - 1,
        // Binding and connecting TCP sockets.
        network: if version >= 4 { 3 } else { 0 },
        // Abstract Unix sockets and signals of other processes.
        scope: if version >= 6 { 3 } else { 0 },
    };
    // Older versions do not take what they do not know, even if it is zero and the size is theirs.
    let size = match version {
        ..=3 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the pointer is valid for reads of `size` bytes.
    let created = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0) };
    let descriptor = check(created)?;
    // SAFETY: it takes a descriptor and no flags.
    let restricted = check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, descriptor, 0) });
    // SAFETY: the descriptor is from the call above, and nothing else uses it.
    unsafe { crate::raw::close(descriptor as libc::c_int) };
    restricted.map(drop)
}
