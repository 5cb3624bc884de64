//! `tine demo` in a terminal.

use crate::procfs;
use crate::server::tine;
use crate::tmux::Terminal;
use crate::wait::wait_until;

/// An environment variable that every process of a demo inherits.
pub const MARK: &str = "TINE_DEMO_MARK";

/// The number of steps.
pub const STEPS: usize = 9;

/// A language: how it is chosen, and what it says.
pub struct Language {
    /// Its code.
    pub name: &'static str,
    /// The variables that choose it, or another one.
    pub variables: &'static str,
    /// The option that chooses it, if the variables do not.
    pub options: &'static str,
    /// The end of a screen that waits.
    pub prompt: &'static str,
    /// A part of the title of each step.
    pub titles: [&'static str; STEPS],
    /// Above the commands.
    pub outside: &'static str,
}

/// English, by the option.
pub const ENGLISH: Language = Language {
    name: "en",
    variables: "LC_ALL=zh_CN.UTF-8",
    options: "--lang en",
    prompt: "Enter: next step   q: quit",
    titles: [
        "Start",
        "Accept and fork",
        "Exchange",
        "More clients",
        "has open",
        "Kill",
        "Reap",
        "Drain",
        "The end",
    ],
    outside: "See it from outside",
};

/// Chinese, by the locale.
pub const CHINESE: Language = Language {
    name: "zh",
    variables: "LC_ALL= LC_MESSAGES= LANG=zh_CN.UTF-8",
    options: "",
    prompt: "回车：下一步   q：退出",
    titles: ["启动", "接受连接", "收发数据", "更多客户端", "文件描述符", "杀死", "回收", "平滑停止", "结束"],
    outside: "从外部观察",
};

/// A demo in a terminal.
pub struct Demo {
    /// The terminal.
    pub terminal: Terminal,
    /// The value of [`MARK`] in its processes.
    pub mark: String,
    prompt: &'static str,
}

impl Demo {
    /// Starts the demo. When it ends, its exit code is on the screen.
    #[must_use]
    pub fn start(name: &str, language: &Language, options: &str) -> Demo {
        let mark = format!("{name}-{}", std::process::id());
        let terminal = Terminal::new(&format!("demo-{name}"), 80, 24);
        let Language { variables, options: of_language, prompt, .. } = *language;
        let words = format!("{MARK}={mark} {variables} {}", tine().display());
        terminal.type_line(&format!("{words} demo {of_language} {options}; echo \"code $?\""));
        Demo { terminal, mark, prompt }
    }

    /// Waits until a step is on the screen, and until it waits for a key. The title is in the first
    /// line: so all of it fits.
    #[must_use]
    pub fn wait_for(&self, step: usize) -> String {
        let begin = format!("tine demo  {step}/{STEPS}  ");
        self.terminal.wait_until(&format!("step {step} waits"), |screen| {
            screen.starts_with(&begin) && screen.trim_end().ends_with(self.prompt)
        })
    }

    /// Goes on until a step waits.
    pub fn reach(&self, step: usize) -> String {
        let mut screen = self.wait_for(1);
        for next in 2..=step {
            self.terminal.press("Enter");
            screen = self.wait_for(next);
        }
        screen
    }

    /// Waits until none of its processes is left.
    pub fn wait_until_gone(&self) {
        wait_until_gone(&self.mark);
    }
}

/// Waits until no process with this mark is left.
pub fn wait_until_gone(mark: &str) {
    let variable = format!("{MARK}={mark}");
    wait_until("no process of the demo is left", || procfs::all_with(&variable).is_empty().then_some(()));
}

/// A process on a screen: its id, parent, state and name.
pub type Row = (i32, i32, char, String);

/// The processes on a screen, from top to bottom.
#[must_use]
pub fn rows(screen: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut state = words.next()?.chars();
        let letter = state.next().filter(|_| state.next().is_none())?;
        let name: Vec<&str> = words.filter(|word| *word != "\\_").collect();
        Some((pid, parent, letter, name.join(" ")))
    };
    screen.lines().filter_map(row).collect()
}
