//! Files for results. They are created before the load starts, so that an invalid path costs
//! nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tine::cli::next_move;
use tine_load::report::{Report, csv::csv, hgrm::hgrm, html::html, text::text};

use crate::args::load::Outputs;
use crate::error::Error;

/// Formats a report.
type Form = fn(&Report) -> String;

/// The files of a report, open for writing.
pub(super) struct Files {
    files: Vec<(PathBuf, File, Form)>,
    json_on_stdout: bool,
}

impl Files {
    /// Creates all files.
    ///
    /// # Errors
    /// The error of the first file that cannot be created.
    pub(super) fn open(outputs: &Outputs) -> Result<Files, Error> {
        let json_on_stdout = outputs.json.as_deref() == Some(Path::new("-"));
        let requested: [(&Option<PathBuf>, Form); 4] =
            [(&outputs.json, json), (&outputs.hgrm, hgrm), (&outputs.csv, csv), (&outputs.html, html)];
        let mut files = Vec::new();
        for (path, form) in requested.into_iter().filter_map(|(path, form)| Some((path.clone()?, form))) {
            if path != Path::new("-") {
                files.push((path.clone(), create(&path)?, form));
            }
        }
        Ok(Files { files, json_on_stdout })
    }

    /// Writes a report to all files, and its summary to standard output.
    ///
    /// # Errors
    /// The error of the first file that cannot be written; the others are written.
    pub(super) fn write(self, report: &Report, is_quiet: bool) -> Result<(), Error> {
        let printed = match (self.json_on_stdout, is_quiet) {
            (true, _) => print(&json(report)),
            (false, true) => Ok(()),
            (false, false) => print(&text(report)),
        };
        let written = self.files.into_iter().map(|(path, mut file, form)| {
            file.write_all(form(report).as_bytes()).map_err(|why| cannot_write(&path, &why))
        });
        let mut all: Vec<Result<(), Error>> = written.collect();
        all.push(printed);
        all.into_iter().collect()
    }
}

/// Creates a file.
///
/// # Errors
/// Those of open(2).
pub(super) fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|why| cannot_write(path, &why))
}

/// Writes a value as JSON.
///
/// # Errors
/// Those of write(2).
pub(super) fn write_json(mut file: File, path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    // Serializing cannot fail: all maps have strings for keys.
    let text = serde_json::to_vec(value).unwrap_or_default();
    file.write_all(&text).map_err(|why| cannot_write(path, &why))
}

fn json(report: &Report) -> String {
    // Serializing cannot fail: all maps have strings for keys.
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    text
}

/// Prints a summary on standard output.
pub(super) fn print(text: &str) -> Result<(), Error> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|why| Error::system("cannot print the summary", &why, next_move::of_output(&why)))
}

fn cannot_write(path: &Path, why: &std::io::Error) -> Error {
    Error::system(format_args!("cannot write {}", path.display()), why, next_move::of_file(why))
}
