//! `xinetd.conf`, as xinetd.conf(5) describes it.

mod access;
mod attributes;
mod entry;
mod map;
mod refuse;
mod values;

use std::path::Path;
use std::rc::Rc;

use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use attributes::Effective;
use entry::{XinetdLine, XinetdSection};

/// The maximum depth of files that include files.
const DEEPEST: usize = 8;

/// Imports the text of a file and the files that it includes; with `all`, disabled services, too.
pub fn import(text: &str, file: &Path, world: &dyn World, all: bool) -> ImportedFile {
    let mut reader = Reader { world, sections: Vec::new(), import: ImportedFile::default() };
    reader.read(text, file, 0);
    let Reader { sections, mut import, .. } = reader;
    // xinetd reads the first defaults only.
    let mut all_defaults = sections.iter().filter(|section| section.service.is_none());
    let defaults = all_defaults.next();
    import.notes.extend(defaults.into_iter().flat_map(attributes::ignored_defaults));
    let others =
        all_defaults.map(|other| format!("{}: xinetd reads the first defaults only", other.position));
    import.notes.extend(others);
    import.notes.extend(defaults.and_then(|section| {
        let line = section.fault.as_ref()?;
        Some(format!("{}: this line of the defaults is no attribute: {line}", section.position))
    }));
    let fault = defaults.and_then(attributes::fault_of_defaults);
    for section in sections.iter().filter(|section| section.service.is_some()) {
        let effective = Effective::of(section, defaults);
        let name = section.service.clone().unwrap_or_default();
        let found = match &fault {
            Some(fault) => Err(fault.clone()),
            None => map::service(&name, section, &effective, all, world),
        };
        import.items.push(match found {
            Ok(service) => ImportedItem::Served(service),
            Err(why) => ImportedItem::Left(section.position.clone(), name, why),
        });
    }
    import.finish()
}

struct Reader<'a> {
    world: &'a dyn World,
    sections: Vec<XinetdSection>,
    import: ImportedFile,
}

impl Reader<'_> {
    fn read(&mut self, text: &str, file: &Path, depth: usize) {
        let mut open: Option<XinetdSection> = None;
        for (number, line) in text.lines().enumerate() {
            let position = Position::new(Rc::from(file), number + 1);
            match (entry::line(line), &mut open) {
                (XinetdLine::Nothing, _) => {}
                (XinetdLine::Begin(service), None) => open = Some(XinetdSection::new(service, position)),
                (XinetdLine::Brace, Some(section)) if !section.is_open => section.is_open = true,
                (XinetdLine::End, Some(_)) => self.sections.extend(open.take()),
                (XinetdLine::Attribute(attribute), Some(section)) if section.is_open => {
                    section.attributes.push((position, attribute));
                }
                (XinetdLine::Include(path), None) => self.include(&position, file, &path, false, depth),
                (XinetdLine::IncludeFolder(path), None) => self.include(&position, file, &path, true, depth),
                (_, Some(section)) => {
                    section.fault.get_or_insert_with(|| line.trim().to_owned());
                }
                _ => self.fault(&position, line),
            }
        }
        if let Some(section) = open {
            self.import
                .notes
                .push(format!("{}: this section does not end, and is left out", section.position));
        }
    }

    fn fault(&mut self, position: &Position, line: &str) {
        self.import.notes.push(format!("{position}: this is not understood, and left out: {}", line.trim()));
    }

    fn include(&mut self, position: &Position, from: &Path, path: &str, is_folder: bool, depth: usize) {
        let path = from.parent().unwrap_or(Path::new("")).join(path);
        if depth >= DEEPEST {
            return self.import.notes.push(format!("{position}: files include each other, {DEEPEST} deep"));
        }
        let all = if is_folder { self.world.list(&path) } else { Ok(vec![path.clone()]) };
        let all = all.unwrap_or_else(|why| {
            let note = format!("{position}: cannot list {}: {}", path.display(), tine::cli::reason(&why));
            self.import.notes.push(note);
            Vec::new()
        });
        for file in all {
            // Names with a dot, or with a tilde at the end, are no configurations.
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_folder && (name.contains('.') || name.ends_with('~')) {
                continue;
            }
            match self.world.read(&file) {
                Ok(text) => self.read(&text, &file, depth + 1),
                Err(why) => self.import.notes.push(format!(
                    "{position}: cannot read {}: {}",
                    file.display(),
                    tine::cli::reason(&why)
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests;
