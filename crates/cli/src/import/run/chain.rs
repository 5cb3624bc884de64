//! The chain of a run script: commands that each change something and execute the rest, up to the
//! super-server, and after it to the program.

use std::path::PathBuf;

use super::listener;
use crate::import::World;
use crate::import::service::ImportedService;

/// The chain, as far as it is followed.
pub(super) struct Chain<'a> {
    pub(super) words: Vec<String>,
    pub(super) service: &'a mut ImportedService,
    pub(super) world: &'a dyn World,
    /// The working directory: at first the folder of the script, in which it is executed.
    pub(super) directory: PathBuf,
    /// `NAME=VALUE`, of the script and of commands such as envdir.
    pub(super) environment: Vec<String>,
    /// The account of envuidgid, which `-U` of a super-server takes.
    pub(super) account: Option<String>,
    /// The super-server is behind: what follows concerns the program alone.
    pub(super) has_listener: bool,
}

/// The limits of softlimit and s6-softlimit, by letter.
const LIMITS: [(char, &[&str]); 10] = [
    ('m', &["limit-data", "limit-stack", "limit-memlock", "limit-as"]),
    ('d', &["limit-data"]),
    ('s', &["limit-stack"]),
    ('l', &["limit-memlock"]),
    ('a', &["limit-as"]),
    ('o', &["limit-nofile"]),
    ('p', &["limit-nproc"]),
    ('f', &["limit-fsize"]),
    ('c', &["limit-core"]),
    ('t', &["limit-cpu"]),
];

impl Chain<'_> {
    /// Follows the chain to its program.
    ///
    /// # Errors
    /// The reason why the service is left out.
    pub(super) fn follow(&mut self) -> Result<(), String> {
        loop {
            let Some(first) = self.words.first() else { return Err("it ends without a program".into()) };
            let name = first.rsplit('/').next().unwrap_or_default().to_owned();
            if self.has_listener && !is_wrapper(&name) {
                return Ok(());
            }
            let rest = self.words.split_off(1);
            let called = std::mem::replace(&mut self.words, rest);
            if !self.step(&name)? {
                return Err(match self.has_listener {
                    true => format!("{} is not understood", called[0]),
                    false => format!(
                        "it executes {}, which is none of tcpserver, s6-tcpserver and the commands before them",
                        called[0]
                    ),
                });
            }
        }
    }

    /// Takes one command from the chain. False if it is not known.
    fn step(&mut self, name: &str) -> Result<bool, String> {
        match name {
            "exec" | "pgrphack" | "s6-setsid" | "setsid" => {}
            "fdmove" if self.words.starts_with(&["-c".to_owned(), "2".to_owned(), "1".to_owned()]) => {
                self.words.drain(..3);
            }
            "env" => {
                while self.words.first().is_some_and(|word| word.contains('=')) {
                    self.environment.push(self.words.remove(0));
                }
            }
            "setuidgid" | "s6-setuidgid" => {
                let account = self.take("an account")?;
                self.set_user(&account);
            }
            "envuidgid" | "s6-envuidgid" => self.account = Some(self.take("an account")?),
            "envdir" | "s6-envdir" => {
                self.options("fI")?;
                let folder = self.take("a folder")?;
                self.read_environment(&folder)?;
            }
            "softlimit" | "s6-softlimit" => self.limits()?,
            "nice" => {
                let step = match self.words.first().map(String::as_str) {
                    Some("-n") => {
                        self.words.remove(0);
                        self.take("a number")?
                    }
                    _ => "10".to_owned(),
                };
                self.service.set("nice", step);
            }
            "cd" | "s6-cd" => {
                let folder = self.take("a folder")?;
                self.directory.push(folder);
            }
            "umask" => {
                let mask = self.take("a mask")?;
                self.service.set("umask", mask);
            }
            // It would name the super-server.
            "argv0" | "s6-argv0" if self.has_listener => {
                // The name follows the program.
                if self.words.len() < 2 {
                    return Err("argv0 has no name".into());
                }
                let name = self.words.remove(1);
                self.service.set("argv0", name);
            }
            listener if !self.has_listener && listener::is_known(listener) => {
                listener::apply(listener, self)?;
                self.has_listener = true;
            }
            "s6-tcpserver-access" if self.has_listener => listener::apply_access(self)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the next word.
    pub(super) fn take(&mut self, what: &str) -> Result<String, String> {
        match self.words.is_empty() {
            true => Err(format!("{what} is missing at the end of the chain")),
            false => Ok(self.words.remove(0)),
        }
    }

    /// Takes options of these letters, which change nothing here.
    fn options(&mut self, letters: &str) -> Result<(), String> {
        while let Some(word) = self.words.first().filter(|word| word.starts_with('-')) {
            if !word[1..].chars().all(|letter| letters.contains(letter)) {
                return Err(format!("the option {word} is not understood"));
            }
            self.words.remove(0);
        }
        Ok(())
    }

    /// The user of an account, with its group and no others, as setuidgid sets it.
    pub(super) fn set_user(&mut self, account: &str) {
        match account.split_once(':') {
            Some((user, group)) => {
                if !user.is_empty() {
                    self.service.set("user", user);
                }
                if !group.is_empty() {
                    self.service.set("group", group);
                }
            }
            None => self.service.set("user", account),
        }
        self.service.set("supplementary-groups", "none");
    }

    fn limits(&mut self) -> Result<(), String> {
        while let Some(word) = self.words.first().filter(|word| word.starts_with('-')).cloned() {
            self.words.remove(0);
            let letter = word.chars().nth(1).unwrap_or(' ');
            if matches!(word.as_str(), "-h" | "-H") {
                continue;
            }
            let keys = LIMITS.iter().find(|(known, _)| *known == letter).map(|(_, keys)| *keys);
            let keys = keys.ok_or_else(|| format!("the limit {word} is not understood"))?;
            let value = if word.len() > 2 { word[2..].to_owned() } else { self.take("a limit")? };
            let value = if value == "=" { "infinity".to_owned() } else { value };
            let value = if letter == 't' { format!("{value}s") } else { value };
            for key in keys {
                self.service.set(key, value.clone());
            }
        }
        Ok(())
    }

    /// The files of a folder as variables: the first line of each, by its name.
    fn read_environment(&mut self, folder: &str) -> Result<(), String> {
        let path = self.directory.join(folder);
        let files = self.world.list(&path).map_err(|why| format!("cannot read {folder}: {}", why.kind()))?;
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = self
                .world
                .read(&file)
                .map_err(|why| format!("cannot read {folder}/{name}: {}", why.kind()))?;
            if text.is_empty() {
                // An empty file removes the variable.
                self.service.set_list("unset-env", vec![name]);
            } else {
                let line = text.lines().next().unwrap_or_default().trim_end();
                self.environment.push(format!("{name}={line}"));
            }
        }
        self.service.note(format!("{folder} is read once, here"));
        Ok(())
    }
}

/// Whether a command changes something and executes the rest, also behind the super-server.
fn is_wrapper(name: &str) -> bool {
    const WRAPPERS: [&str; 18] = [
        "exec",
        "pgrphack",
        "s6-setsid",
        "setsid",
        "fdmove",
        "env",
        "setuidgid",
        "s6-setuidgid",
        "envdir",
        "s6-envdir",
        "softlimit",
        "s6-softlimit",
        "nice",
        "s6-cd",
        "umask",
        "argv0",
        "s6-argv0",
        "s6-tcpserver-access",
    ];
    WRAPPERS.contains(&name)
}
