//! The helpers of `share/warm`: each language's program is served cold with the right answer, stops
//! at its look in `tine warm-check`, and sees variables that are written over while it is there.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::names::outcome;
use tine_e2e::{Folder, Server, kill, procfs, run, tine, wait_until};

/// A program that uses a helper. It changes a variable, seeds its generator with a constant, asks
/// to be called at its end, and is ready. Then it writes a line of words: a variable of the
/// connection, one that may be missing, the one that it has changed, a random number, what it has
/// read, and many bytes; and a second line, which its buffer holds. Its argument is its exit code.
struct Language {
    /// The program with its options, without the file.
    command: &'static [&'static str],
    file: &'static str,
    text: &'static str,
    /// The path that it looks at.
    marker: &'static str,
    /// What `tine warm-check` has to allow.
    allowed: &'static [&'static str],
    /// Whether it has a generator that the helper seeds.
    has_random: bool,
}

const READY: &str = "/.tine/ready";
const VARIABLES: &str = "/.tine/ready/variables";

/// The bytes at the end of the line: more than a buffer of any of them.
const PADDING: usize = 100_000;

/// Without a site, variables that change it, and files beside the helper.
const PYTHON: Language = Language {
    command: &["/usr/bin/python3", "-I", "-S", "-B"],
    file: "program.py",
    text: r#"
import atexit, os, random, sys
sys.path.insert(0, "HELPERS")
import tine_warm
os.environ["OWN"] = "changed"
random.seed(1)
atexit.register(print, "tidied up")
tine_warm.ready()
words = [os.environ["TCPREMOTEPORT"], os.environ.get("REMOTE_HOST", "none"), os.environ["OWN"]]
print(*words, random.random(), sys.stdin.readline().strip(), "x" * 100000)
print("end")
tine_warm.done(*map(int, sys.argv[1:]))
"#,
    marker: VARIABLES,
    allowed: &[],
    has_random: true,
};

const PERL: Language = Language {
    command: &["perl"],
    file: "program.pl",
    text: r#"
use lib "HELPERS";
use Tine::Warm;
$ENV{OWN} = "changed";
srand(1);
# STDOUT is closed by then.
END { $? = 9 }
Tine::Warm::ready();
my $line = <STDIN> // "";
chomp $line;
my @words = ($ENV{TCPREMOTEPORT}, $ENV{REMOTE_HOST} // "none", $ENV{OWN}, rand(), $line);
print "@words ", "x" x 100000, "\n";
print "end\n";
Tine::Warm::done(@ARGV);
"#,
    marker: VARIABLES,
    allowed: &[],
    has_random: true,
};

const RUBY: Language = Language {
    command: &["ruby", "--disable-gems"],
    file: "program.rb",
    text: r#"
require "HELPERS/tine_warm"
ENV["OWN"] = "changed"
srand(1)
at_exit { puts "tidied up" }
TineWarm.ready
words = [ENV["TCPREMOTEPORT"], ENV["REMOTE_HOST"] || "none", ENV["OWN"], rand, $stdin.gets.to_s.chomp]
puts [*words, 'x' * 100000].join(' ')
puts "end"
TineWarm.done(*ARGV.map(&:to_i))
"#,
    marker: VARIABLES,
    allowed: &["--warm-allow=eventfd,timer"],
    has_random: true,
};

/// Its two sources of variables have to agree.
const PHP: Language = Language {
    command: &["php"],
    file: "program.php",
    text: r#"<?php
require "HELPERS/tine_warm.php";
putenv("OWN=changed");
$_SERVER["OWN"] = "changed";
mt_srand(1);
register_shutdown_function(function () { echo "tidied up"; });
ob_start();
Tine\Warm\ready();
foreach (["TCPREMOTEPORT", "REMOTE_HOST", "OWN"] as $name) {
    $both = [getenv($name), $_SERVER[$name] ?? false];
    echo $both[0] === $both[1] ? $both[0] ?: "none" : json_encode($both), " ";
}
echo mt_rand(), " ", trim(fgets(STDIN)), " ", str_repeat("x", 100000), "\nend\n";
Tine\Warm\done(...array_map("intval", array_slice($argv, 1)));
"#,
    marker: VARIABLES,
    allowed: &[],
    has_random: true,
};

/// A script of Lua 5.1 to 5.4.
const LUA_TEXT: &str = r#"
local warm = dofile("HELPERS/tine_warm.lua")
math.randomseed(1)
tidied = setmetatable({}, { __gc = function() print("tidied up") end })
warm.ready()
local words = { os.getenv("TCPREMOTEPORT"), os.getenv("REMOTE_HOST") or "none", "changed",
  math.random(1000000000), io.read() or "" }
print(table.concat(words, " ") .. " " .. ("x"):rep(100000))
print("end")
warm.done(tonumber(arg[1]))
"#;

const LUA_5_1: Language = Language {
    command: &["lua5.1"],
    file: "program.lua",
    text: LUA_TEXT,
    marker: READY,
    allowed: &[],
    has_random: true,
};

const LUA_5_4: Language = Language { command: &["lua5.4"], ..LUA_5_1 };

/// A script of bash, dash and busybox.
const BASH: Language = Language {
    command: &["bash"],
    file: "program.sh",
    text: r#"
set -eu
. HELPERS/tine-warm.sh
OWN=changed RANDOM=1
tine_ready
port=$TCPREMOTEPORT host=${REMOTE_HOST:-none}
read -r line || line=
printf '%s %s %s %s %s %0100000d\n' "$port" "$host" "$OWN" "${RANDOM-}.${RANDOM-}" "$line" 0
echo end
tine_done "$@"
"#,
    marker: VARIABLES,
    allowed: &[],
    has_random: true,
};

const DASH: Language = Language { command: &["dash"], marker: READY, has_random: false, ..BASH };
const BUSYBOX: Language = Language { command: &["busybox", "sh"], ..DASH };

const ALL: [&Language; 9] = [&PYTHON, &PERL, &RUBY, &PHP, &LUA_5_1, &LUA_5_4, &BASH, &DASH, &BUSYBOX];

/// The words of a program's answer, and that all of it is there.
fn words(answer: &str) -> Vec<&str> {
    let words: Vec<_> = answer.strip_suffix("\nend\n").unwrap_or_default().split(' ').collect();
    let padding = words.last().map_or(0, |word| word.len());
    assert!(words.len() == 6 && padding == PADDING, "{padding} bytes of {answer:.200}");
    words
}

impl Language {
    /// The command with the program in a file of this folder.
    fn command_in(&self, folder: &Folder) -> Vec<String> {
        self.command_with(folder, self.text)
    }

    /// The same with another program.
    fn command_with(&self, folder: &Folder, text: &str) -> Vec<String> {
        let helpers = fs::canonicalize("../../share/warm").expect("the helpers");
        let text = text.replace("HELPERS", &helpers.display().to_string());
        let file = folder.write(self.file, &text).display().to_string();
        self.command.iter().map(|word| (*word).to_owned()).chain([file]).collect()
    }
}

#[test]
fn a_program_with_a_helper_is_served_by_execution() {
    let folder = Folder::new("warm-helpers-cold");
    for language in ALL {
        let command = language.command_in(&folder);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let server = Server::program(&[], &command);
        let answers = [(), ()].map(|()| {
            let mut client = server.connect();
            let answer = client.send("hello\n").read_text();
            let port = client.address().rsplit_once(':').expect("an address").1.to_owned();
            let words = words(&answer);
            assert_eq!(words[..3], [&port, "none", "changed"], "{command:?}");
            assert_eq!(words[4], "hello", "{command:?}");
            words[3].to_owned()
        });
        assert_eq!(answers[0] != answers[1], language.has_random, "{command:?}: {answers:?}");
        for end in server.log.wait_for("end", 2) {
            assert_eq!(outcome(&end), "exit 0", "{command:?}");
        }
    }
}

#[test]
fn a_program_with_a_helper_can_be_started_warm() {
    let folder = Folder::new("warm-helpers-check");
    for language in ALL {
        let program = language.command_in(&folder);
        let mut check = Command::new(tine());
        check.arg("warm-check").args(language.allowed).arg("--").args(&program);
        let (code, out, err) = run(&mut check);
        assert_eq!((code, err.as_str()), (0, ""), "{program:?}: {out}");
        let row = |aspect: &str| {
            let row = out.lines().find(|row| row.starts_with(aspect)).unwrap_or_default();
            row.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(row("stop").contains(&format!(" of {}, after ", language.marker)), "{out}");
        let is_renewed = row("variables").contains(" which renews them after its look at ");
        assert!(row("variables").starts_with("variables ok "), "{out}");
        assert_eq!(is_renewed, language.marker == VARIABLES, "{out}");
    }
}

/// Asserts that a program is refused for its copies of variables alone.
fn assert_refused_for_variables(program: &[&str]) {
    let (code, out, err) = run(Command::new(tine()).args(["warm-check", "--"]).args(program));
    assert_eq!((code, err.as_str()), (100, ""), "{program:?}: {out}");
    let refused: Vec<_> = out.lines().filter(|row| row.contains(" refused ")).collect();
    assert!(refused.len() == 1 && refused[0].starts_with("variables "), "{program:?}: {out}");
}

#[test]
fn without_a_helper_copies_of_the_variables_are_a_reason() {
    let [python, perl, bash, php] = [
        "import os, sys; sys.stdin.readline()",
        "$x = <STDIN>",
        "read x",
        "$port = $_SERVER['REMOTE_PORT']; fgets(STDIN);",
    ];
    assert_refused_for_variables(&["/usr/bin/python3", "-I", "-S", "-c", python]);
    assert_refused_for_variables(&["perl", "-e", perl]);
    assert_refused_for_variables(&["bash", "-c", bash]);
    assert_refused_for_variables(&["php", "-r", php]);
}

#[test]
fn a_helper_that_cannot_renew_the_variables_does_not_say_so() {
    let folder = Folder::new("warm-helpers-honest");
    for language in [&PYTHON, &PERL, &PHP, &BASH] {
        // As where /proc shows another text.
        let program = language.command_in(&folder);
        let program = ["env", "-u", "TINE_CONNECTION"].into_iter().chain(program.iter().map(String::as_str));
        assert_refused_for_variables(&program.collect::<Vec<_>>());
    }
    let renamed = "$0 = 'renamed'; use lib 'HELPERS'; use Tine::Warm; Tine::Warm::ready();";
    let program = PERL.command_with(&folder, renamed);
    assert_refused_for_variables(&program.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_program_ends_with_its_code_and_without_tidying_up() {
    let folder = Folder::new("warm-helpers-end");
    let ended = |command: &[String]| {
        let mut program = Command::new(&command[0]);
        let (code, out, err) = run(program.args(&command[1..]).arg("7").env("TCPREMOTEPORT", "1"));
        assert_eq!((code, err.as_str()), (7, ""), "{command:?}: {out:.200}");
        out
    };
    for language in ALL {
        words(&ended(&language.command_in(&folder)));
    }
    // There is no other way.
    let mut php = PHP.command_in(&folder);
    php.splice(1..1, ["-d".to_owned(), "ffi.enable=false".to_owned()]);
    assert!(ended(&php).ends_with("\ntidied up"));
}

/// What a program writes whose environment is written over while it is at its look, in place, as
/// that of a copy is. strace(1) stops it there.
fn answer_after_renewal(language: &Language, folder: &Folder) -> String {
    let log = folder.path(&language.command.join("-").replace('/', "-"));
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", &log, "-e", "trace=file", "-P", language.marker]);
    strace.args(["-e", "inject=file:signal=STOP"]).args(language.command_in(folder));
    strace.env_clear().env("PATH", "/usr/bin:/bin").env("OWN", "first");
    strace.envs([("TINE_CONNECTION", "7"), ("TCPREMOTEPORT", "50000"), ("REMOTE_HOST", "host")]);
    let mut strace = strace.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("strace is installed");
    let tracer = i32::try_from(strace.id()).expect("a process id");
    let program = wait_until("the program is at its look", || {
        assert!(strace.try_wait().expect("a child").is_none(), "{:?} did not look", language.command);
        let is_there = fs::read_to_string(&log).is_ok_and(|log| log.contains("stopped by SIGSTOP"));
        procfs::children(tracer).first().map(|child| child.pid).filter(|_| is_there)
    });
    write_over_environment(program);
    kill(program, Signal::CONT);
    let output = strace.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(0), "{:?}", language.command);
    String::from_utf8(output.stdout).expect("text")
}

/// Gives one variable another value, and removes one.
fn write_over_environment(process: i32) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it is there");
    // `env_start` and `env_end` are fields 50 and 51 (proc(5)); the third one is behind the name.
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let [start, end] = [fields[47], fields[48]].map(|field| field.trim().parse::<u64>().expect("an address"));
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem"));
    let memory = memory.expect("a child of a child");
    let mut block = vec![0; usize::try_from(end - start).expect("a block")];
    memory.read_exact_at(&mut block, start).expect("its environment");
    for (old, new) in [("TCPREMOTEPORT=50000", "TCPREMOTEPORT=61234"), ("REMOTE_HOST=host", "")] {
        let at = block.windows(old.len()).position(|part| part == old.as_bytes()).expect("a variable");
        block[at..at + old.len()].fill(0);
        block[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    memory.write_all_at(&block, start).expect("its environment");
}

#[test]
fn variables_that_are_written_over_at_the_look_are_seen_after_it() {
    let folder = Folder::new("warm-helpers-renewal");
    for language in ALL {
        let answer = answer_after_renewal(language, &folder);
        assert_eq!(words(&answer)[..3], ["61234", "none", "changed"], "{:?}", language.command);
    }
}

/// It makes a copy of itself at its look, as a server would: by clone(2), without Ruby's knowledge.
const COPIES_ITSELF: &str = r#"
File.singleton_class.prepend(Module.new do
  def exist?(path)
    pid = syscall(RUBY_PLATFORM.start_with?("x86_64") ? 56 : 220, 17, 0, 0, 0, 0)
    return super if pid.zero?
    Process.wait(pid)
    exit!($?.exitstatus || 1)
  end
end)
require "timeout"
require "HELPERS/tine_warm"
TineWarm.ready
input, output = IO.pipe
thread = Thread.new { input.read }
Thread.pass until thread.status == "sleep"
thread.kill.join
puts "killed"
begin
  Timeout.timeout(0.01) { input.read }
rescue Timeout::Error
  puts "timed out"
end
TineWarm.done
"#;

#[test]
fn a_copy_of_a_ruby_program_interrupts_threads_that_wait() {
    let folder = Folder::new("warm-helpers-timer");
    let command = RUBY.command_with(&folder, COPIES_ITSELF);
    let (code, out, err) = run(Command::new(&command[0]).args(&command[1..]).env("TINE_CONNECTION", "7"));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "killed\ntimed out\n", ""));
}

#[test]
fn the_example_of_the_documentation_serves_and_can_be_started_warm() {
    let folder = Folder::new("warm-helpers-example");
    let document = include_str!("../../../docs/operating.md");
    let (_, section) = document.split_once("\n### Helpers for warm programs\n").expect("a section");
    let (_, text) = section.split_once("```python\n").expect("an example");
    let text = text.split("```").next().expect("its text").replace("/usr/share/tine/warm", "HELPERS");
    let command = PYTHON.command_with(&folder, &text);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let server = Server::program(&[], &command);
    let mut client = server.connect();
    let answer: serde_json::Value = serde_json::from_str(&client.read_text()).expect("JSON");
    assert!(
        client.address().ends_with(&format!(":{}", answer["port"].as_str().expect("a port"))),
        "{answer}"
    );
    assert!(matches!(answer["dice"].as_u64(), Some(1..=6)), "{answer}");
    let (code, out, _) =
        run(Command::new(tine()).args(["warm-check", "--warm-until=call", "--"]).args(command));
    assert_eq!(code, 0, "{out}");
}
