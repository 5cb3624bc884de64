//! A shell in which a transcript is run, line by line, as a reader does: the next command is given
//! when what the text shows has been printed.

use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tine_e2e::{Folder, TEST_TIMEOUT, built};
use tine_sys::wait;

use crate::blocks::Step;
use crate::comparison::{Numbers, matches, with_numbers};

/// Follows the output of a command. No program prints it.
const MARK: u8 = 1;

/// The commands of the shell are not its standard input: a command in the text could read that. It
/// has no other descriptor that this process has inherited: the text counts them.
const START: &str = "
    ip link set lo up && exec 3<&0 < /dev/null
    for path in /proc/self/fd/*; do
        number=${path##*/}
        [ $number -le 3 ] || eval \"exec $number>&-\"
    done
    exec bash --norc --noprofile /dev/fd/3";

/// A shell in a network of its own, in which ports can be those of the text, and in a pid
/// namespace, whose processes end with it.
pub(crate) struct Session {
    shell: Child,
    commands: ChildStdin,
    /// Standard output and standard error. A program writes an error in pieces: in one pipe, a line
    /// of another program could come between them.
    output: [PipeReader; 2],
    printed: [Vec<u8>; 2],
    numbers: Numbers,
    _folder: Folder,
}

impl Session {
    pub(crate) fn start(name: &str) -> Session {
        let folder = Folder::new(&format!("tutorial-{name}"));
        let [(output, stdout), (errors, stderr)] = [(); 2].map(|()| std::io::pipe().expect("a pipe"));
        let mut shell = Command::new("unshare");
        shell.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", START]);
        shell
            .current_dir(&folder.0)
            .env_clear()
            .env("PATH", path())
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb");
        shell.env("COLUMNS", "100");
        shell.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
        let mut shell = shell.spawn().expect("util-linux is installed");
        let commands = shell.stdin.take().expect("it is a pipe");
        // The shell has opened it a second time.
        let mut session = Session {
            shell,
            commands,
            output: [output, errors],
            printed: [Vec::new(), Vec::new()],
            numbers: Numbers::new(),
            _folder: folder,
        };
        session.run(&Step { command: "exec 3<&-".to_owned(), output: Vec::new() });
        session
    }

    /// Gives a command, and waits until it has ended and all has been printed that the text shows.
    pub(crate) fn run(&mut self, step: &Step) {
        let command = with_numbers(&step.command, &self.numbers);
        // The exit code of the command is still there for the next one.
        let line = format!("{command}\ncode=$?; printf '\\001'; (exit $code)\n");
        self.commands.write_all(line.as_bytes()).expect("the shell runs");
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            // A line can arrive in parts, and the mark between them.
            let has_ended = self.printed[0].contains(&MARK);
            let without_mark =
                |printed: &Vec<u8>| printed.iter().copied().filter(|byte| *byte != MARK).collect();
            let texts: [Vec<u8>; 2] = self.printed.each_ref().map(without_mark);
            let lines = texts.each_ref().map(|text| String::from_utf8_lossy(text).into_owned());
            let lines: Vec<String> = lines.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
            let is_whole =
                has_ended && texts.iter().all(|text| text.last().is_none_or(|last| *last == b'\n'));
            if is_whole && matches(&step.output, &lines, &mut self.numbers) {
                break;
            }
            let is_too_much = has_ended && lines.len() > step.output.len();
            let is_late = is_too_much || !self.receive(deadline);
            assert!(!is_late, "$ {command}\nshown:\n{:#?}\nprinted:\n{lines:#?}", step.output);
        }
        self.printed.iter_mut().for_each(Vec::clear);
    }

    /// Receives more output. False if none came in time.
    fn receive(&mut self, deadline: Instant) -> bool {
        let mut events =
            self.output.each_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        if wait::until(&mut events, Some(deadline)).expect("two pipes") == 0 {
            return false;
        }
        let ready = events.map(|event| !event.revents().is_empty());
        let mut received = 0;
        for ((pipe, printed), _) in
            self.output.iter_mut().zip(&mut self.printed).zip(ready).filter(|(_, ready)| *ready)
        {
            let mut buffer = [0; 4096];
            let length = pipe.read(&mut buffer).expect("a pipe");
            printed.extend(&buffer[..length]);
            received += length;
        }
        received > 0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Where the programs are that were built with this test, and those of the system.
fn path() -> String {
    let programs: PathBuf = built("one-client");
    let folder = programs.parent().map(Path::display).expect("a folder");
    format!("{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
