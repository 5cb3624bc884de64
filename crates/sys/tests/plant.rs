//! Programs that are made templates, and their copies. The tests fork.

#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
mod main_thread;
#[cfg(target_arch = "x86_64")]
mod template;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("registers") => subject::registers(),
        _ => main_thread::run(tests::TESTS),
    }
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
                // Carry and sign, with the flags that are always set.
                "push 0x283", "popfq",
                "mov qword ptr [rsp - 8], 0x77",
                "syscall",
                "mov rcx, [rsp - 8]", "cmp rcx, 0x77", "jne 2f",
                // The flags, as the call has left them in r11.
                "and r11d, 0x81", "cmp r11d, 0x81", "jne 2f",
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

#[cfg(target_arch = "x86_64")]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use tine_sys::plant::Answer;
    use tine_sys::process::{How, has_ended, wait_for};

    use super::template::{Subject, exchange};

    pub(super) const TESTS: &[(&str, fn())] = &[
        ("a_copy_goes_on_with_all_registers", registers),
        ("copies_have_connections_and_ids_of_their_own", connections),
        ("a_step_that_fails_is_reported", failure),
        ("a_copy_can_try_its_steps", trial),
        ("a_copy_cannot_signal_its_template", signals),
        ("the_end_of_the_channel_ends_the_template", end),
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

    /// The id of a copy, and what it has answered itself: in either order.
    fn both_answers(subject: &Subject) -> (i32, Answer) {
        match (subject.answer(), subject.answer()) {
            (Answer::Copied(pid), other) | (other, Answer::Copied(pid)) => (pid, other),
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
        assert_eq!(failed, Answer::Failed(1, i64::from(std::process::id())));
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
            [(parent, Answer::Tried, 0), (1, Answer::Failed(1, i64::from(parent)), 111)]
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
