//! Run scripts of daemontools, runit and s6 that start `tcpserver`, `s6-tcpserver` or
//! `s6-ipcserver`: a chain of commands that ends in a program.

mod chain;
mod listener;
mod script;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use chain::Chain;
use script::{Language, ScriptCommand, ScriptWord};

/// Imports the text of a run script. The service has the name of the script's folder.
pub fn import(text: &str, file: &Path, world: &dyn World) -> ImportedFile {
    let mut import = ImportedFile::default();
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    let folder = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let position = |line: usize| Position::new(Rc::from(file), line);
    let read =
        if text.contains('\0') { Err((1, "it contains a zero byte".to_owned())) } else { script::read(text) };
    let item = match read {
        Err((line, why)) => ImportedItem::Left(position(line), folder, why),
        Ok((language, commands)) => {
            let line = commands.last().map_or(1, |command| command.line);
            match one(language, commands, (file, directory), &folder, world) {
                Ok(service) => ImportedItem::Served(service),
                Err(why) => ImportedItem::Left(position(line), folder, why),
            }
        }
    };
    import.items.push(item);
    import.finish()
}

fn one(
    language: Language,
    mut commands: Vec<ScriptCommand>,
    (file, directory): (&Path, &Path),
    name: &str,
    world: &dyn World,
) -> Result<ImportedService, String> {
    let last = commands.pop().ok_or("it has no command")?;
    let position = Position::new(Rc::from(file), last.line);
    let mut service = ImportedService::new(name, position, ServedBy::BuiltIn("discard"));
    let mut shell = ShellState { directory: directory.to_owned(), ..ShellState::default() };
    if language == Language::Shell {
        for command in commands {
            shell.run(&command, &mut service)?;
        }
    }
    let words = shell.words(&last.words)?;
    let mut chain = Chain {
        words,
        service: &mut service,
        world,
        environment: shell.exported(),
        directory: shell.directory,
        account: None,
        has_listener: false,
    };
    chain.follow()?;
    let Chain { words, environment, directory, account, .. } = chain;
    if account.is_some() {
        return Err("envuidgid sets UID and GID for its program, and tine does not".into());
    }
    service.set("cwd", directory.to_string_lossy());
    service.served_by = ServedBy::Program(words);
    service.set_list("env", environment);
    Ok(service)
}

/// What the commands of a shell script before the last one have set.
#[derive(Default)]
struct ShellState {
    variables: HashMap<String, String>,
    exported: Vec<String>,
    /// The working directory.
    directory: PathBuf,
}

impl ShellState {
    /// Runs a command that only prepares: an assignment, `export`, `cd`, `umask`, `exec 2>&1`.
    fn run(&mut self, command: &ScriptCommand, service: &mut ImportedService) -> Result<(), String> {
        let words = self.words(&command.words)?;
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        match texts[..] {
            // A redirection alone leaves `exec`.
            [] | ["exec"] => Ok(()),
            ["export", ref names @ ..] => {
                for name in names {
                    let name = name.split_once('=').map_or(Ok(*name), |(name, value)| {
                        self.variables.insert(name.to_owned(), value.to_owned());
                        Ok::<&str, String>(name)
                    })?;
                    self.exported.push(name.to_owned());
                }
                Ok(())
            }
            ["cd", folder] => {
                self.directory.push(folder);
                Ok(())
            }
            ["umask", mask] => {
                service.set("umask", mask);
                Ok(())
            }
            [assignment] if is_assignment(assignment) => {
                let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
                self.variables.insert(name.to_owned(), value.to_owned());
                // It is exported already, wherever the script is executed.
                if name == "PATH" {
                    self.exported.push(name.to_owned());
                }
                Ok(())
            }
            [first, ..] => {
                Err(format!("line {} runs {first}: only its last command can be served", command.line))
            }
        }
    }

    /// The words of a command: variables are replaced, `2>&1` is left out.
    fn words(&self, words: &[ScriptWord]) -> Result<Vec<String>, String> {
        let mut result = Vec::new();
        for word in words {
            if !word.is_quoted && matches!(word.text.as_str(), "2>&1" | "</dev/null" | "0</dev/null") {
                continue;
            }
            if !word.is_quoted && word.text.contains(['>', '<']) {
                return Err(format!("it redirects ({}): tine has the connection there", word.text));
            }
            match word.has_variables {
                false => result.push(word.text.clone()),
                true => result.extend(self.replaced(&word.text)?.split_whitespace().map(str::to_owned)),
            }
        }
        Ok(result)
    }

    fn replaced(&self, text: &str) -> Result<String, String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            result.push_str(before);
            let (name, end) = match after.strip_prefix('{') {
                Some(inside) => inside.split_once('}').unwrap_or((inside, "")),
                None => {
                    let length = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    after.split_at(length.unwrap_or(after.len()))
                }
            };
            let value = self.variables.get(name);
            result.push_str(value.ok_or_else(|| format!("it uses ${name}, which it does not set"))?);
            rest = end;
        }
        Ok(result + rest)
    }

    fn exported(&self) -> Vec<String> {
        let value = |name: &String| Some(format!("{name}={}", self.variables.get(name)?));
        self.exported.iter().filter_map(value).collect()
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests;
