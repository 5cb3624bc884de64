//! Where results go: files that are opened before the load begins, so that a wrong name costs nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;
use tine_load::report::{Report, csv::csv, hgrm::hgrm, html::html, text::text};

use crate::args::load::Outputs;

/// What turns a report into a text.
type Form = fn(&Report) -> String;

/// The files that were asked for.
pub struct Files {
    files: Vec<(PathBuf, File, Form)>,
    json_on_stdout: bool,
}

impl Files {
    /// Opens them all.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn open(outputs: &Outputs) -> Result<Files, Error> {
        let json_on_stdout = outputs.json.as_deref() == Some(Path::new("-"));
        let asked: [(&Option<PathBuf>, Form); 4] =
            [(&outputs.json, json), (&outputs.hgrm, hgrm), (&outputs.csv, csv), (&outputs.html, html)];
        let mut files = Vec::new();
        for (path, form) in asked.into_iter().filter_map(|(path, form)| Some((path.clone()?, form))) {
            if path != Path::new("-") {
                files.push((path.clone(), create(&path)?, form));
            }
        }
        Ok(Files { files, json_on_stdout })
    }

    /// Writes a report to all of them, and for people to standard output.
    ///
    /// # Errors
    /// The first that could not be written; the others are.
    pub fn write(self, report: &Report, is_quiet: bool) -> Result<(), Error> {
        let shown = match (self.json_on_stdout, is_quiet) {
            (true, _) => print(&json(report)),
            (false, true) => Ok(()),
            (false, false) => print(&text(report)),
        };
        let written = self.files.into_iter().map(|(path, mut file, form)| {
            file.write_all(form(report).as_bytes()).map_err(|why| cannot_write(&path, &why))
        });
        let mut all: Vec<Result<(), Error>> = written.collect();
        all.push(shown);
        all.into_iter().collect()
    }
}

/// Opens a file to write.
///
/// # Errors
/// Those of open(2).
pub fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|why| cannot_write(path, &why))
}

/// Writes something as JSON.
///
/// # Errors
/// Those of write(2).
pub fn write_json(mut file: File, path: &Path, what: &impl serde::Serialize) -> Result<(), Error> {
    // Maps have strings for keys, so nothing can be refused.
    let text = serde_json::to_vec(what).unwrap_or_default();
    file.write_all(&text).map_err(|why| cannot_write(path, &why))
}

fn json(report: &Report) -> String {
    // Maps have strings for keys, so nothing can be refused.
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    text
}

fn print(text: &str) -> Result<(), Error> {
    let next = "give standard output a reader";
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|why| Error::system("cannot print the summary", &why, next))
}

fn cannot_write(path: &Path, why: &std::io::Error) -> Error {
    let next = "check the path, its permissions and the room on the disk";
    Error::system(format_args!("cannot write {}", path.display()), why, next)
}
