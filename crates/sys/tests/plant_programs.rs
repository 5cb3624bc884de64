//! Copies of programs in C, with each C library: what the library knows of its thread, and stops at
//! which more than registers has to be kept. The tests fork.
//!
//! The programs are in `tests/programs`, and are compiled here, or are found compiled in the
//! directory that `TINE_TEST_PROGRAMS` names.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() {}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod main_thread;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod template;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn main() -> std::process::ExitCode {
    main_thread::run(tests::TESTS)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use std::ffi::CString;
    use std::io::ErrorKind;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use tine_sys::process::{How, wait_for};

    use super::template::{Subject, exchange};

    pub(super) const TESTS: &[(&str, fn())] = &[
        ("the_c_library_knows_its_thread", thread),
        ("a_copy_goes_on_in_a_signal_handler_on_its_stack", handler),
        ("a_copy_has_the_mask_and_stack_of_signals_and_none_pending", pending),
        ("vector_registers_are_kept", vectors),
        ("robust_mutexes_and_restartable_sequences_are_kept", locks),
    ];

    fn thread() {
        in_each_library("thread", &|letter| {
            format!("early {letter}: 0 EDEADLK, owner 1, raised 2, child 7, thread 1\n")
        });
    }

    fn handler() {
        in_each_library("handler", &|letter| {
            format!("{letter}: on stack 1, listed 1, blocked 1; then: free 1, blocked 0, 3.00\n")
        });
    }

    fn pending() {
        in_each_library("pending", &|letter| {
            format!("{letter}: pending 1 0 1, handled 0 1, other 1, on stack 2\n")
        });
    }

    fn locks() {
        in_each_library("locks", &|letter| format!("{letter}: busy 1, then EOWNERDEAD, still busy 1\n"));
    }

    #[cfg(target_arch = "x86_64")]
    fn vectors() {
        if !is_x86_feature_detected!("avx") {
            println!("not tested: this processor has no AVX");
            return;
        }
        in_each_library("vectors", &|letter| format!("{letter}: read 1, registers 1, modes 1 1\n"));
    }

    /// The test of all registers has them.
    #[cfg(not(target_arch = "x86_64"))]
    fn vectors() {}

    /// The compilers, and how they link.
    const LIBRARIES: [(&str, &str, &[&str]); 4] = [
        ("glibc", "gcc", &[]),
        ("glibc-static", "gcc", &["-static"]),
        ("musl", "musl-gcc", &[]),
        ("musl-static", "musl-gcc", &["-static"]),
    ];

    /// Makes a template of a program with each C library, and compares what two copies of each send
    /// back, by the letter that they get.
    fn in_each_library(name: &str, expected: &dyn Fn(char) -> String) {
        for (library, compiler, options) in LIBRARIES {
            let Some(program) = program(name, library, compiler, options) else { continue };
            let path = CString::new(program.into_os_string().into_encoded_bytes()).expect("a path");
            let subject = Subject::new(&path, &[name]);
            for letter in ['a', 'b'] {
                let (pid, stream) = subject.copy(|_| {});
                assert_ne!(pid, subject.pid);
                let answer = exchange(stream, &[letter as u8]);
                assert_eq!(String::from_utf8_lossy(&answer), expected(letter), "{library}");
                assert_eq!(wait_for(pid).expect("a child"), How::Exited(0), "{library}");
            }
        }
    }

    /// A program for a C library; `None` without the library.
    fn program(name: &str, library: &str, compiler: &str, options: &[&str]) -> Option<PathBuf> {
        let file = format!("{name}-{library}");
        if let Some(folder) = std::env::var_os("TINE_TEST_PROGRAMS") {
            return Some(Path::new(&folder).join(file));
        }
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/programs/{name}.c"));
        let mut command = Command::new(compiler);
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]).args(options);
        match command.arg("-o").args([&program, &source]).status() {
            Ok(status) => assert!(status.success(), "{command:?}"),
            Err(why) if why.kind() == ErrorKind::NotFound => {
                println!("not tested with {library}: {compiler} is not installed");
                return None;
            }
            Err(why) => panic!("{command:?}: {why}"),
        }
        Some(program)
    }
}
