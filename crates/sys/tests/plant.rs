//! Programs that are made templates, and their copies. The tests fork.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() {}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod main_thread;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod template;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("registers") => subject::registers(),
        Some("accepts") => accepts(),
        _ => main_thread::run(tests::TESTS),
    }
}

/// A program that this file is, too: accepts clients of descriptor 0, one after the other, and
/// sends each back what it has sent. Says how often there was none.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn accepts() -> std::process::ExitCode {
    use std::io::{Read as _, Write as _};
    use std::os::fd::FromRawFd as _;

    let accept = || {
        // SAFETY: without places for an address, the arguments are numbers.
        unsafe { libc::accept4(0, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) }
    };
    let client = accept();
    assert_eq!(client, 3, "{}", std::io::Error::last_os_error());
    let (mut none, mut byte) = (0, [0]);
    // SAFETY: it was just accepted.
    let mut client = unsafe { std::os::unix::net::UnixStream::from_raw_fd(client) };
    while client.read(&mut byte).is_ok_and(|length| length == 1) {
        // A copy that has its client already gets no other one.
        none += i32::from(accept() == -1 && std::io::Error::last_os_error().raw_os_error() == Some(11));
        client.write_all(&byte).expect("a client");
    }
    write!(client, " {none}").expect("a client");
    drop(client);
    accept();
    panic!("another client");
}

/// A program that this file is, too.
#[cfg(target_arch = "x86_64")]
mod subject {
    use std::arch::asm;
    use std::process::ExitCode;

    #[repr(C)]
    #[derive(Default)]
    struct Place {
        vector: [u64; 2],
        found: [u64; 2],
        byte: [u8; 8],
        read: i64,
        wrong: u64,
    }

    /// Fills what a system call leaves as it is, reads a byte from descriptor 0, and says what has
    /// changed meanwhile.
    pub(super) fn registers() -> ExitCode {
        let mut all = Place { vector: [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00], ..Place::default() };
        // SAFETY: the assembly restores the stack pointer, rbx and rbp, writes below the stack
        // pointer as any function may (the red zone), and to the place that it gets.
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "push rdi",
                "movdqu xmm15, [rdi]",
                "lea rsi, [rdi + 32]",
                "mov qword ptr [rsp - 128], 0x78",
                "mov rbx, 101", "mov rbp, 102", "mov r12, 103", "mov r13, 104", "mov r14, 105",
                "mov r15, 106", "mov r8, 107", "mov r9, 108", "mov r10, 109",
                "xor eax, eax", "xor edi, edi", "mov edx, 1",
                // Carry, sign and overflow, with the flags that are always set.
                "push 0xa83", "popfq",
                "mov qword ptr [rsp - 8], 0x77",
                "syscall",
                "mov rcx, [rsp - 8]", "cmp rcx, 0x77", "jne 2f",
                // The flags, as the call has left them in r11.
                "and r11d, 0x8d5", "cmp r11d, 0x881", "jne 2f",
                "cmp rbx, 101", "jne 2f", "cmp rbp, 102", "jne 2f", "cmp r12, 103", "jne 2f",
                "cmp r13, 104", "jne 2f", "cmp r14, 105", "jne 2f", "cmp r15, 106", "jne 2f",
                "cmp r8, 107", "jne 2f", "cmp r9, 108", "jne 2f", "cmp r10, 109", "jne 2f",
                "cmp edi, 0", "jne 2f", "cmp edx, 1", "jne 2f",
                "cmp qword ptr [rsp - 128], 0x78", "jne 2f",
                "xor ecx, ecx", "jmp 3f",
                "2: mov ecx, 1",
                "3: pop rdi", "mov [rdi + 40], rax", "mov [rdi + 48], rcx", "movdqu [rdi + 16], xmm15",
                "pop rbp",
                "pop rbx",
                inout("rdi") &raw mut all => _,
                out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("r8") _,
                out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _,
                out("r15") _, out("xmm15") _,
            );
        }
        let Place { vector, found, byte, read, wrong } = all;
        println!("{read} {} {wrong} {}", byte[0], found == vector);
        ExitCode::SUCCESS
    }
}

/// The same program for aarch64.
#[cfg(target_arch = "aarch64")]
mod subject {
    use std::arch::global_asm;
    use std::process::ExitCode;

    #[repr(C)]
    #[derive(Default)]
    struct Place {
        general: [u64; 31],
        flags: u64,
        modes: u64,
        status: u64,
        vectors: [[u64; 2]; 32],
        byte: [u8; 8],
    }

    unsafe extern "C" {
        /// Writes the place only.
        fn tine_test_registers(place: *mut Place);
    }

    global_asm!(
        ".globl tine_test_registers",
        "tine_test_registers:",
        "sub sp, sp, #192",
        "stp x19, x20, [sp]",
        "stp x21, x22, [sp, #16]",
        "stp x23, x24, [sp, #32]",
        "stp x25, x26, [sp, #48]",
        "stp x27, x28, [sp, #64]",
        "stp x29, x30, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "stp x18, x0, [sp, #160]",
        r".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        r"mov x9, #(\i + 1000)",
        r"dup v\i\().2d, x9",
        r"mov x9, #(\i + 2000)",
        r"mov v\i\().d[1], x9",
        ".endr",
        // Rounding towards zero; all exceptions have been.
        "mov x9, #0xc00000",
        "msr fpcr, x9",
        "mov x9, #0x1f",
        "msr fpsr, x9",
        // Negative and overflow.
        "mov x9, #0x90000000",
        "msr nzcv, x9",
        "add x1, x0, #784",
        "mov x0, #0",
        "mov x2, #1",
        "mov x8, #63",
        r".irp i,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
        r"mov x\i, #(\i + 100)",
        ".endr",
        "svc #0",
        "str x9, [sp, #176]",
        "ldr x9, [sp, #168]",
        r".irp i,0,1,2,3,4,5,6,7,8,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
        r"str x\i, [x9, #(8 * \i)]",
        ".endr",
        "ldr x10, [sp, #176]",
        "str x10, [x9, #72]",
        "mrs x10, nzcv",
        "str x10, [x9, #248]",
        "mrs x10, fpcr",
        "str x10, [x9, #256]",
        "msr fpcr, xzr",
        "mrs x10, fpsr",
        "str x10, [x9, #264]",
        r".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        r"str q\i, [x9, #(272 + 16 * \i)]",
        ".endr",
        "ldp x19, x20, [sp]",
        "ldp x21, x22, [sp, #16]",
        "ldp x23, x24, [sp, #32]",
        "ldp x25, x26, [sp, #48]",
        "ldp x27, x28, [sp, #64]",
        "ldp x29, x30, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldr x18, [sp, #160]",
        "add sp, sp, #192",
        "ret",
    );

    /// Fills what a system call leaves as it is, reads a byte from descriptor 0, and says what has
    /// changed meanwhile: the set of general registers, and whether the rest is the same.
    pub(super) fn registers() -> ExitCode {
        let mut all = Place::default();
        // SAFETY: the function restores what belongs to its caller.
        unsafe { tine_test_registers(&raw mut all) };
        let byte = (&raw const all.byte).addr() as u64;
        let wrong: u64 = (1..31)
            .filter(|number| {
                let expected = match number {
                    1 => byte,
                    2 => 1,
                    8 => libc::SYS_read as u64,
                    _ => number + 100,
                };
                all.general[*number as usize] != expected
            })
            .fold(0, |wrong, number| wrong | 1 << number);
        let same =
            all.vectors.iter().zip(0..).all(|(vector, number)| *vector == [number + 1000, number + 2000]);
        let modes = (all.flags, all.modes, all.status) == (0x9000_0000, 0xc0_0000, 0x1f);
        println!("{} {} {wrong} {}", all.general[0], all.byte[0], same && modes);
        ExitCode::SUCCESS
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use std::time::{Duration, Instant};

    use tine_sys::namespaces::Kinds;
    use tine_sys::plant::{Accepting, Answer, CopySteps, OF_A_COPY, Planting, wait_for_stop};
    use tine_sys::process::{How, has_ended, wait_for};
    use tine_sys::trace::TracedCall;

    use super::template::{Subject, exchange};

    pub(super) const TESTS: &[(&str, fn())] = &[
        ("a_copy_goes_on_with_all_registers", registers),
        ("copies_have_connections_and_ids_of_their_own", connections),
        ("a_step_that_fails_is_reported", failure),
        ("a_copy_can_try_its_steps", trial),
        ("a_copy_cannot_signal_its_template", signals),
        ("the_end_of_the_channel_ends_the_template", end),
        ("a_copy_can_stop_before_it_goes_on", stop),
        ("a_copy_can_make_a_room_of_its_own", room),
        ("a_copy_accepts_one_client", accepting),
        #[cfg(target_arch = "x86_64")]
        ("a_signal_finds_a_copy_on_its_own_stack", super::stack::own_stack),
    ];

    fn registers() {
        let own = std::fs::read_link("/proc/self/exe").expect("/proc");
        let own = std::ffi::CString::new(own.into_os_string().into_encoded_bytes()).expect("a path");
        let subject = Subject::new(&own, &["plant", "registers"]);
        for letter in [b"a", b"b"] {
            let (pid, stream) = subject.copy(|_| {});
            assert_eq!(
                String::from_utf8_lossy(&exchange(stream, letter)),
                format!("1 {} 0 true\n", letter[0])
            );
            assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
        }
    }

    fn connections() {
        let subject = Subject::new(c"/bin/sh", &["sh", "-c", "read a; echo $a; ls /proc/self/fd; echo $$"]);
        let mut pids = BTreeSet::from([subject.pid]);
        for text in ["one", "two"] {
            let (pid, stream) = subject.copy(|_| {});
            let answer = exchange(stream, format!("{text}\n").as_bytes());
            let answer = String::from_utf8_lossy(&answer);
            let lines: Vec<&str> = answer.lines().collect();
            // The shell has kept its id, which is documented; `ls` has its directory open.
            assert_eq!(lines, [text, "0", "1", "2", "3", &subject.pid.to_string()]);
            assert!(pids.insert(pid));
            assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
        }
    }

    /// The id of a copy, and what it has answered then.
    fn both_answers(subject: &Subject) -> (i32, Answer) {
        match (subject.answer(), subject.answer()) {
            (Answer::Copied(pid), other) => (pid, other),
            answers => panic!("{answers:?}"),
        }
    }

    fn failure() {
        let subject = Subject::new(c"/bin/cat", &["cat"]);
        let (own, other) = UnixStream::pair().expect("sockets");
        let mut steps = subject.base.begin();
        steps.receive();
        steps.die_with(1);
        let message = subject.base.finish(steps).expect("short");
        subject.channel.ask(&message, &[other.as_fd()]).expect("it runs");
        drop(other);
        let (pid, failed) = both_answers(&subject);
        assert_eq!(failed, Answer::Failed(3, i64::from(std::process::id())));
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(111));
        assert_eq!(exchange(own, b""), b"");
        let (pid, stream) = subject.copy(|_| {});
        assert_eq!(exchange(stream, b"after"), b"after");
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    }

    fn trial() {
        let subject = Subject::new(c"/bin/cat", &["cat"]);
        let parent = std::process::id().cast_signed();
        for (expected, answer, code) in
            [(parent, Answer::Tried, 0), (1, Answer::Failed(3, i64::from(parent)), 111)]
        {
            let mut steps = subject.base.begin();
            steps.die_with(expected);
            let message = subject.base.finish_trial(steps).expect("short");
            subject.channel.ask(&message, &[]).expect("it runs");
            let (pid, other) = both_answers(&subject);
            assert_eq!(other, answer);
            assert_eq!(wait_for(pid).expect("a child"), How::Exited(code));
        }
    }

    fn signals() {
        // The shell of a copy has kept the id of its template in `$$`.
        let subject = Subject::new(c"/bin/sh", &["sh", "-c", "read a; kill -0 $$ 2>/dev/null; echo $?"]);
        let (pid, stream) = subject.copy(|_| {});
        // Landlock has a scope for signals since Linux 6.12.
        let expected: &[u8] = if subject.base.protects_template() { b"1\n" } else { b"0\n" };
        assert_eq!(exchange(stream, b"\n"), expected);
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    }

    fn stop() {
        let subject = Subject::new(c"/bin/cat", &["cat"]);
        let (pid, stream) = subject.copy(CopySteps::stop_last);
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        assert!(wait_for_stop(pid, deadline).expect("a child"));
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc").flatten();
        let open: BTreeSet<_> = open.map(|entry| entry.file_name()).collect();
        assert_eq!(open, ["0", "1", "2"].map(Into::into).into());
        let process = rustix::process::Pid::from_raw(pid).expect("positive");
        rustix::process::kill_process(process, rustix::process::Signal::CONT).expect("ours");
        assert_eq!(exchange(stream, b"later"), b"later");
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
        // One that does not stop.
        let (pid, stream) = subject.copy(|_| {});
        drop(stream);
        assert!(!wait_for_stop(pid, deadline).expect("a child"));
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    }

    fn room() {
        let script = "read a; echo $(ls /tmp) $(id -u); cut -d' ' -f4 /proc/self/stat; readlink /proc/self/cwd; \
            grep -E 'Cap(Eff|Bnd)' /proc/self/status; mkdir /tmp/x";
        let words = ["sh", "-c", script];
        let subject = Subject::with_namespaces(c"/bin/sh", &words, Some(OF_A_COPY.and(Kinds::NETWORK)));
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("/proc");
        let last = last.trim_end().parse().expect("a number");
        for _ in 0..2 {
            let (pid, stream) = subject.copy(|steps| {
                steps.keep_ids(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                steps.raise_loopback();
                steps.mount(c"proc", c"/proc", 0, c"").expect("short");
                steps.mount(c"tmpfs", c"/tmp", 0, c"size=1m").expect("short");
                steps.enter_directory(c"/tmp").expect("short");
                // One instruction, which lets all calls through.
                steps.add_filter(&[0x7fff_0000_0000_0006]).expect("short");
                steps.drop_capabilities_last(last);
            });
            let answer = exchange(stream, b"\n");
            let none = "0000000000000000";
            let user = rustix::process::geteuid().as_raw();
            let expected = format!("{user}\n1\n/tmp\nCapEff:\t{none}\nCapBnd:\t{none}\n");
            assert_eq!(String::from_utf8_lossy(&answer), expected);
            assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
        }
    }

    fn accepting() {
        fn is_accept(call: &TracedCall) -> bool {
            call.number == libc::SYS_accept4.cast_unsigned()
        }
        let own = std::fs::read_link("/proc/self/exe").expect("/proc");
        let own = std::ffi::CString::new(own.into_os_string().into_encoded_bytes()).expect("a path");
        let open = BTreeSet::from([0, 1, 2]);
        let planting = Planting { open: &open, own: None, result: Some(3) };
        let subject = Subject::at(&own, &["plant", "accepts"], is_accept, &planting);
        for text in ["a", "bcd"] {
            let (own, other) = UnixStream::pair().expect("sockets");
            let mut steps = subject.base.begin();
            let received = steps.receive();
            steps.show();
            steps.replace_listener([(0, false)].into_iter());
            let (flags, listeners) = (libc::SOCK_CLOEXEC, vec![0]);
            steps.accept_last(Accepting { received, number: 3, flags, listeners });
            let message = subject.base.finish(steps).expect("short");
            subject.channel.ask(&message, &[other.as_fd()]).expect("it runs");
            drop(other);
            let Answer::Copied(pid) = subject.answer() else { panic!("no copy") };
            let expected = format!("{text} {}", text.len());
            assert_eq!(String::from_utf8_lossy(&exchange(own, text.as_bytes())), expected);
            assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
        }
    }

    fn end() {
        let subject = Subject::new(c"/bin/cat", &["cat"]);
        let (pid, stream) = subject.copy(|_| {});
        let template = subject.pid;
        drop(subject);
        assert_eq!(wait_for(template).expect("a child"), How::Exited(0));
        assert!(!has_ended(pid));
        assert_eq!(exchange(stream, b"still"), b"still");
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    }
}

/// Single steps of a copy.
#[cfg(target_arch = "x86_64")]
mod stack {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use tine_sys::plant::Answer;
    use tine_sys::process::{How, wait_for};

    use super::template::Subject;

    /// The stack pointer of a copy is that of its program at each instruction, from the last step
    /// on: a signal may come at any of them.
    pub(super) fn own_stack() {
        let subject = Subject::new(c"/bin/cat", &["cat"]);
        let (mut own, mut other) = UnixStream::pair().expect("sockets");
        fill(&mut other);
        let mut steps = subject.base.begin();
        let received = steps.receive();
        steps.show();
        [0, 1].into_iter().for_each(|number| steps.duplicate(received, number, false));
        // It waits for room.
        steps.enter_cgroup(received);
        steps.close(received);
        let message = subject.base.finish(steps).expect("short");
        subject.channel.ask(&message, &[other.as_fd()]).expect("it runs");
        drop(other);
        let Answer::Copied(pid) = subject.answer() else { panic!("no copy") };
        // It shows itself in its first step.
        let deadline = Instant::now() + Duration::from_secs(30);
        while request(libc::PTRACE_SEIZE.into(), pid, 0) == -1 {
            assert!(Instant::now() < deadline, "{}", std::io::Error::last_os_error());
            std::thread::yield_now();
        }
        assert_eq!(request(libc::PTRACE_INTERRUPT.into(), pid, 0), 0);
        wait_for_stop(pid);
        own.set_nonblocking(true).expect("a socket");
        while own.read(&mut [0; 65536]).is_ok() {}
        own.set_nonblocking(false).expect("a socket");
        let begin = registers(pid);
        let mut now = begin;
        while now.rip / 4096 == begin.rip / 4096 {
            assert_eq!(now.rsp, begin.rsp, "{} bytes into its page", now.rip % 4096);
            assert_eq!(request(libc::PTRACE_SINGLESTEP.into(), pid, 0), 0);
            wait_for_stop(pid);
            now = registers(pid);
        }
        assert_eq!(now.rsp, begin.rsp);
        assert_eq!(request(libc::PTRACE_DETACH.into(), pid, 0), 0);
        own.shutdown(std::net::Shutdown::Write).expect("open");
        own.read_to_end(&mut Vec::new()).expect("no error");
        assert_eq!(wait_for(pid).expect("a child"), How::Exited(0));
    }

    /// Writes until there is no room.
    fn fill(stream: &mut UnixStream) {
        stream.set_nonblocking(true).expect("a socket");
        for size in [4096, 1] {
            while stream.write(&vec![0; size]).is_ok() {}
        }
        stream.set_nonblocking(false).expect("a socket");
    }

    fn request(number: libc::c_long, pid: i32, data: usize) -> libc::c_long {
        // SAFETY: the requests here have numbers as arguments, or a place of enough bytes.
        unsafe { libc::syscall(libc::SYS_ptrace, number, pid, 0, data) }
    }

    fn registers(pid: i32) -> libc::user_regs_struct {
        // SAFETY: registers are integers, for which all bytes are valid.
        let mut all: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        assert_eq!(request(libc::PTRACE_GETREGS.into(), pid, (&raw mut all).addr()), 0);
        all
    }

    fn wait_for_stop(pid: i32) {
        let mut status = 0;
        // SAFETY: the out-pointer is valid for writes.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }, pid);
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
    }
}
