//! Socket units of systemd whose connections have a process each (`Accept=yes`), with their
//! services.

mod environment;
mod exec;
mod sandbox;
mod socket;
mod unit;
mod words;

use std::path::Path;
use std::rc::Rc;

use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use unit::Unit;

/// Imports the text of a socket unit. Its service and the drop-ins of both are read from the folder
/// of the file.
pub fn import(text: &str, file: &Path, world: &dyn World) -> ImportedFile {
    let mut import = ImportedFile::default();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // A socket of a template, `name@instance.socket`, starts the service of its own template.
    let template = stem.split('@').next().unwrap_or_default().to_owned();
    let position = Position::new(Rc::from(file), 1);
    let item = match one(text, file, &template, &position, world) {
        Ok(service) => ImportedItem::Served(service),
        Err(why) => ImportedItem::Left(position, stem, why),
    };
    import.items.push(item);
    import.finish()
}

fn one(
    text: &str,
    file: &Path,
    template: &str,
    position: &Position,
    world: &dyn World,
) -> Result<ImportedService, String> {
    if text.contains('\0') {
        return Err("it contains a zero byte".into());
    }
    let mut sockets = Unit::default();
    sockets.add(text, file);
    add_drop_ins(&mut sockets, file, world)?;
    let mut service = ImportedService::new(template, position.clone(), ServedBy::BuiltIn("discard"));
    socket::apply(&sockets.section("Socket"), &mut service)?;
    let path = file.with_file_name(format!("{template}@.service"));
    let text = world.read(&path).map_err(|why| {
        format!("its service {} cannot be read ({}): put both into one folder", path.display(), why.kind())
    })?;
    let mut services = Unit::default();
    services.add(&text, &path);
    add_drop_ins(&mut services, &path, world)?;
    exec::apply(&services.section("Service"), template, world, &mut service)?;
    Ok(service)
}

/// Adds the files of the folder `UNIT.d`, in the order of their names.
fn add_drop_ins(unit: &mut Unit, file: &Path, world: &dyn World) -> Result<(), String> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    // There is none in most cases.
    for path in world.list(Path::new(&folder)).unwrap_or_default() {
        if path.extension().is_some_and(|extension| extension == "conf") {
            let text = world
                .read(&path)
                .map_err(|why| format!("{} cannot be read: {}", path.display(), why.kind()))?;
            unit.add(&text, &path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
