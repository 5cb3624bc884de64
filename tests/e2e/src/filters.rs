//! Filters of system calls for servers under test, applied by the program `denied` (`src/bin`).

use std::ffi::OsString;
use std::process::Command;

use crate::server::{built, run, tine};

/// What Docker's default profile denies to a container without further capabilities
/// (`profiles/seccomp/default.json` of docker.io 20.10.24 in Debian 12), except calls that only
/// some architectures have or that no kernel has any more.
pub const DOCKER: &[&str] = &[
    concat!(
        "EPERM:acct,add_key,bpf,clock_settime,delete_module,fanotify_init,finit_module,fsconfig,fsmount,",
        "fsopen,fspick,get_mempolicy,init_module,kcmp,kexec_file_load,kexec_load,keyctl,lookup_dcookie,",
        "mbind,migrate_pages,mount,mount_setattr,move_mount,move_pages,name_to_handle_at,namespaces,",
        "open_by_handle_at,open_tree,perf_event_open,pidfd_getfd,pivot_root,pkey_alloc,pkey_free,",
        "pkey_mprotect,process_madvise,process_vm_readv,process_vm_writev,quotactl,reboot,request_key,",
        "set_mempolicy,setdomainname,sethostname,setns,settimeofday,swapoff,swapon,syslog,umount2,",
        "unshare,userfaultfd,vhangup",
    ),
    "ENOSYS:clone3",
];

/// The same for Podman's (`seccomp.json` of golang-github-containers-common 0.50.1 in Debian 12).
pub const PODMAN: &[&str] = &[
    concat!(
        "EPERM:acct,bpf,clock_settime,delete_module,fanotify_init,finit_module,init_module,",
        "kcmp,kexec_file_load,kexec_load,lookup_dcookie,migrate_pages,move_pages,open_by_handle_at,",
        "perf_event_open,process_madvise,quotactl,setdomainname,sethostname,settimeofday,swapoff,",
        "swapon,userfaultfd,vhangup,vmsplice",
    ),
    "ENOSYS:add_key,futex_waitv,io_uring_enter,io_uring_register,io_uring_setup,request_key",
];

/// The calls that Docker's default profile denied in 2019 and permits now: those that were too new
/// for it.
pub const OLD_DOCKER: &str = "EPERM:clone3,close_range,faccessat2,openat2,pidfd_getfd,pidfd_open,pidfd_send_signal,epoll_pwait2,rseq,statx";

/// The limits of a kernel in user space such as gVisor: no pidfds, no socket diagnostics, no sealed
/// memory, none of the newest calls.
pub const USER_SPACE_KERNEL: &[&str] = &[
    "ENOSYS:clone3,close_range,faccessat2,openat2,pidfd_open,pidfd_send_signal,epoll_pwait2,io_uring_setup",
    "EINVAL:seals,memory-map",
    "EAFNOSUPPORT:netlink",
];

/// The words before a command that is to run under these filters, each `ERROR:CALL,CALL…`.
#[must_use]
pub fn under(filters: &[&str]) -> Vec<OsString> {
    let mut words = vec![built("denied").into_os_string()];
    words.extend(filters.iter().chain(&["--"]).map(OsString::from));
    words
}

/// Runs `tine` under filters until it ends. Returns its exit code, output and errors.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run_under(filters: &[&str], arguments: &[&str]) -> (i32, String, String) {
    let words = under(filters);
    run(Command::new(&words[0]).args(&words[1..]).arg(tine()).args(arguments))
}
