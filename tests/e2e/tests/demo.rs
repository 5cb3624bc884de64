//! `tine demo`: each step in a terminal of 80 columns and 24 lines, in both languages, and that it
//! shows what is so; that it leaves nothing behind, whatever ends it.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::demo::{CHINESE, Demo, ENGLISH, Language, MARK, STEPS, rows, wait_until_gone};
use tine_e2e::filters::{DOCKER, PODMAN, USER_SPACE_KERNEL, run_under};
use tine_e2e::tmux::PROMPT;
use tine_e2e::{kill, procfs, run, tine, wait_until};

/// Waits until the processes on a screen are what the kernel has: one that waits runs for a moment
/// now and then.
fn wait_until_real(screen: &str) {
    for (pid, parent, state, name) in rows(screen) {
        wait_until(&format!("process {pid} is as shown:\n{screen}"), || {
            let found = procfs::process(pid)?;
            ((found.parent, found.state, &found.name) == (parent, state, &name)).then_some(())
        });
    }
}

/// Asserts that a screen has the supervisor and all of its children. Returns the supervisor.
fn assert_all_children(screen: &str) -> i32 {
    let rows = rows(screen);
    let supervisor = rows.first().unwrap_or_else(|| panic!("no process:\n{screen}")).0;
    let mut shown: Vec<i32> = rows[1..].iter().map(|row| row.0).collect();
    let mut children: Vec<i32> = procfs::children(supervisor).iter().map(|child| child.pid).collect();
    shown.sort_unstable();
    children.sort_unstable();
    assert_eq!(shown, children, "{screen}");
    supervisor
}

/// Runs the commands of a screen that show processes and sockets, until they show the same.
fn wait_until_same_outside(screen: &str) {
    let commands = screen.lines().filter_map(|line| line.strip_prefix("  $ "));
    for command in commands.filter(|command| command.starts_with("ps ") || command.starts_with("ss ")) {
        wait_until(&format!("{command} shows the same as\n{screen}"), || {
            let (code, out, err) = run(Command::new("sh").args(["-c", command]));
            assert_eq!((code, err.as_str()), (0, ""), "{command}");
            let found = rows(&out);
            let is_same = match command.starts_with("ps ") {
                true => rows(screen).iter().all(|row| found.contains(row)),
                false => out.contains(&format!("127.0.0.1:{}", port(screen))),
            };
            is_same.then_some(())
        });
    }
}

/// The number of connection processes on a screen.
fn connections(screen: &str) -> usize {
    rows(screen).iter().filter(|row| row.3.starts_with("tine: conn ")).count()
}

/// The number after a text.
fn number_after(screen: &str, text: &str) -> i32 {
    let (_, rest) = screen.split_once(text).unwrap_or_else(|| panic!("no {text:?}:\n{screen}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {text:?}:\n{screen}"))
}

fn port(screen: &str) -> u16 {
    u16::try_from(number_after(screen, "'sport = :")).expect("a port")
}

/// What each step says is compared with the kernel while it waits.
fn check_all_steps(language: &Language) {
    let demo = Demo::start(language.name, language, "");
    let mut screens = vec![demo.wait_for(1)];
    let supervisor = assert_all_children(&screens[0]);
    assert_eq!(procfs::process(supervisor).map(|one| one.parent), Some(demo.terminal.foreground()));
    for step in 2..=STEPS {
        wait_until_real(&screens[step - 2]);
        wait_until_same_outside(&screens[step - 2]);
        demo.terminal.press("Enter");
        let screen = match step {
            STEPS => demo.terminal.wait_for("\ncode "),
            _ => demo.wait_for(step),
        };
        check_step(step, &screen, supervisor);
        screens.push(screen);
    }
    check_texts(language, &screens);
    check_facts(&screens, supervisor);
    demo.wait_until_gone();
}

/// What a step shows of processes is what the kernel has now.
fn check_step(step: usize, screen: &str, supervisor: i32) {
    let expected = match step {
        2 => 1,
        4 => 3,
        7 | 8 => 2,
        5 => return check_descriptors(screen),
        6 => {
            let states: Vec<char> = rows(screen).iter().map(|row| row.2).collect();
            assert_eq!(states, ['Z'], "{screen}");
            let state = procfs::process(supervisor).map(|supervisor| supervisor.state);
            return assert_eq!(state, Some('T'), "{screen}");
        }
        _ => return,
    };
    assert_eq!(assert_all_children(screen), supervisor);
    assert_eq!(connections(screen), expected, "{screen}");
}

/// The process that step 5 shows has what it says: one socket.
fn check_descriptors(screen: &str) {
    let pid = number_after(screen, "/proc/");
    let open = procfs::descriptors(pid);
    for (number, target) in &open {
        assert!(screen.contains(&format!("\n    {number} -> {target}\n")), "{number} -> {target}:\n{screen}");
    }
    assert_eq!(screen.matches(" -> ").count(), open.len(), "{screen}");
    let sockets = open.iter().filter(|(_, target)| target.starts_with("socket:")).count();
    assert_eq!(sockets, 1, "{open:?}");
    // While others come and go, the table of the kernel may have a socket twice, or not at all.
    let socket = wait_until("the socket is in the table", || procfs::tcp_sockets(pid).pop());
    assert!(!socket.is_listener, "{socket:?}");
    assert!(screen.contains(&format!("127.0.0.1:{}", socket.peer_port)), "{screen}");
}

/// Each screen has its title, and commands for another terminal.
fn check_texts(language: &Language, screens: &[String]) {
    let Language { titles, outside, .. } = *language;
    for ((screen, title), step) in screens.iter().zip(titles).zip(1..) {
        let first = screen.lines().next().unwrap_or_default();
        assert!(
            first.contains(&format!("  {step}/{STEPS}  ")) && first.contains(title),
            "{title}:\n{screen}"
        );
        let (_, commands) = screen.split_once(outside).unwrap_or_else(|| panic!("{outside}:\n{screen}"));
        assert_eq!(commands.matches("\n  $ ").count(), 2, "{screen}");
    }
}

/// What the steps say about processes that are gone when they can be asked, and the end.
fn check_facts(screens: &[String], supervisor: i32) {
    let victim = rows(&screens[5])[0].0;
    assert!(screens[2].contains(r#""hello, tine\n""#), "{}", screens[2]);
    let outcome = format!("pid={victim} outcome=\"signal KILL\"");
    assert!(screens[6].contains(&outcome), "{}", screens[6]);
    assert!(screens[7].contains("ECONNREFUSED") && screens[7].contains("SIGTERM"), "{}", screens[7]);
    assert_eq!(screens[8].matches("outcome=\"exit 0\"").count(), 2, "{}", screens[8]);
    assert!(screens[8].contains("stop connections=3\n"), "{}", screens[8]);
    assert!(screens[8].contains("\ncode 0\n"), "{}", screens[8]);
    assert!(procfs::process(supervisor).is_none(), "{}", screens[8]);
}

#[test]
fn each_step_shows_what_is_so_in_english() {
    check_all_steps(&ENGLISH);
}

#[test]
fn each_step_shows_what_is_so_in_chinese() {
    check_all_steps(&CHINESE);
}

#[test]
fn keys_and_signals_end_it_and_leave_nothing() {
    for (name, step, end, code) in [
        ("q", 1, "q", 0),
        ("interrupt", 4, "C-c", 130),
        ("stopped", 6, "C-c", 130),
        ("end-of-input", 7, "C-d", 0),
        ("term", 8, "TERM", 130),
        ("kill", 6, "KILL", 137),
    ] {
        let demo = Demo::start(name, &ENGLISH, "");
        demo.reach(step);
        match end {
            "TERM" => kill(demo.terminal.foreground(), Signal::TERM),
            "KILL" => kill(demo.terminal.foreground(), Signal::KILL),
            key => demo.terminal.press(key),
        }
        demo.terminal.wait_for(&format!("code {code}\n{}", PROMPT.trim_end()));
        demo.wait_until_gone();
        if end != "KILL" {
            // What is typed is shown again.
            demo.terminal.type_text("echo back");
            demo.terminal.wait_for(&format!("{PROMPT}echo back"));
        }
    }
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    for step in [2, 6] {
        let demo = Demo::start(&format!("gone-{step}"), &CHINESE, "");
        demo.reach(step);
        let Demo { terminal, mark, .. } = demo;
        drop(terminal);
        wait_until_gone(&mark);
    }
}

#[test]
fn what_does_not_hold_is_an_error() {
    let demo = Demo::start("wrong", &ENGLISH, "");
    let rows = rows(&demo.reach(2));
    kill(rows[0].0, Signal::KILL);
    // The kernel ends the others with it, not at once.
    wait_until("no process of the server is left", || {
        rows[1..].iter().all(|row| !procfs::is_running(row.0)).then_some(())
    });
    demo.terminal.press("Enter");
    let screen = demo.terminal.wait_for("\ncode ");
    assert!(screen.contains("tine: step 3 of 9: ") && screen.contains("\ncode 111\n"), "{screen}");
    demo.wait_until_gone();
}

#[test]
fn with_a_time_it_goes_on_by_itself() {
    for (name, variables, is_bold) in
        [("time", "", true), ("no-colour", "NO_COLOR=1", false), ("dumb", "TERM=dumb", false)]
    {
        let demo = Demo::start(name, &Language { variables, ..ENGLISH }, "--pause 1ms");
        let screen = demo.terminal.wait_for("\ncode ");
        assert!(screen.contains("  9/9  The end") && screen.contains("\ncode 0\n"), "{screen}");
        assert_eq!(demo.terminal.styled_screen().contains("\x1b[1m"), is_bold, "{variables}");
        demo.wait_until_gone();
    }
    let demo = Demo::start("long-time", &ENGLISH, "--pause 1h");
    demo.terminal.wait_for("Next step in 1h   Enter: now   q: quit");
    demo.terminal.press("Enter");
    demo.terminal.wait_for("  2/9  Accept and fork");
}

/// The columns of a line: what is not of the scripts of Europe is two columns wide here.
fn columns(line: &str) -> usize {
    line.chars().map(|character| if character < '\u{1100}' { 1 } else { 2 }).sum()
}

#[test]
fn without_a_terminal_all_steps_are_printed() {
    for language in [ENGLISH, CHINESE] {
        let mark = format!("plain-{}-{}", language.name, std::process::id());
        let mut command = Command::new(tine());
        command.args(["demo", "--lang", language.name]).env(MARK, &mark).env("TERM", "xterm");
        let (code, out, err) = run(&mut command);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        for (step, title) in (1..).zip(language.titles) {
            let is_title = |line: &str| {
                line.starts_with(&format!("tine demo  {step}/{STEPS}  ")) && line.contains(title)
            };
            assert_eq!(out.lines().filter(|line| is_title(line)).count(), 1, "{title}:\n{out}");
        }
        assert!(!out.contains('\x1b') && !out.contains(language.prompt), "{out:?}");
        for line in out.lines() {
            assert!(columns(line) <= 80, "{} columns: {line}", columns(line));
        }
        wait_until_gone(&mark);
    }
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let (code, out, err) = run_under(&["EPERM:eventfd2"], &["demo"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (111, "", 1), "{err}");
    assert!(err.contains("step 1 of 9: the server does not start: "), "{err}");
    assert!(err.contains("operation not permitted; permit the system call"), "{err}");
}

#[test]
fn in_containers_it_shows_the_same() {
    for filters in [DOCKER, PODMAN, USER_SPACE_KERNEL] {
        let (code, out, err) = run_under(filters, &["demo", "--lang", "en"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("  9/9  The end"), "{out}");
    }
}

#[test]
fn a_wrong_language_is_a_usage_error() {
    let (code, out, err) = run(Command::new(tine()).args(["demo", "--lang", "fr"]));
    assert_eq!((code, out.as_str(), err.lines().count()), (100, "", 1), "{err}");
    assert!(err.contains("--lang") && err.contains("en, zh"), "{err}");
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let mark = format!("reader-{}", std::process::id());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(tine());
    command.arg("demo").env(MARK, &mark).stdin(Stdio::null()).stdout(writer);
    let output = command.output().expect("tine starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(111), "{err}");
    assert!(err.contains("cannot write to standard output"), "{err}");
    wait_until_gone(&mark);
}
