//! The room that a copy makes for itself, as its first steps.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tine_sys::plant::CopySteps;

use crate::jail::copy_room::CopyRoom;
use crate::jail::mounts::KindOfMount;

/// A room, and the user and the group of the copies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnRoom {
    room: CopyRoom,
    user: u32,
    group: u32,
}

impl OwnRoom {
    pub(super) fn new(room: CopyRoom, [user, group]: [u32; 2]) -> OwnRoom {
        OwnRoom { room, user, group }
    }

    /// Makes the room, in namespaces that the copy was created in, and has it give up the rights to
    /// make another one.
    ///
    /// # Errors
    /// A path is too long for a message.
    pub(super) fn write(&self, steps: &mut CopySteps) -> io::Result<()> {
        steps.keep_ids(self.user, self.group);
        if self.room.has_loopback {
            steps.raise_loopback();
        }
        for mount in &self.room.mounts {
            let [kind, options] = [mount.kind, &mount.options].map(CString::new);
            steps.mount(&kind?, &text(&mount.path)?, mount.flags, &options?)?;
        }
        // What was mounted may cover it.
        steps.enter_directory(&text(&self.room.directory)?)?;
        if !self.room.filter.is_empty() {
            steps.add_filter(&self.room.filter)?;
        }
        steps.drop_capabilities_last(self.room.last_capability);
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        let CopyRoom { mounts, has_loopback, filter, directory, last_capability } = &self.room;
        let mounts = mounts.iter().map(|mount| json!([mount.kind, mount.path, mount.flags, mount.options]));
        json!({
            "mounts": mounts.collect::<Value>(),
            "loopback": has_loopback,
            "filter": filter,
            "directory": directory,
            "capability": last_capability,
            "ids": [self.user, self.group],
        })
    }

    /// The reverse of [`OwnRoom::to_json`]; `None` for another text.
    pub(super) fn from_json(room: &Value) -> Option<OwnRoom> {
        let mount = |mount: &Value| {
            let kind = ["proc", "tmpfs"].into_iter().find(|kind| mount[0] == *kind)?;
            let (path, flags) = (PathBuf::from(mount[1].as_str()?), mount[2].as_u64()?);
            Some(KindOfMount { kind, path, flags, options: mount[3].as_str()?.to_owned() })
        };
        let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let room_itself = CopyRoom {
            mounts: room["mounts"].as_array()?.iter().map(mount).collect::<Option<_>>()?,
            has_loopback: room["loopback"].as_bool()?,
            filter: room["filter"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
            directory: room["directory"].as_str()?.into(),
            last_capability: number(&room["capability"])?,
        };
        let ids = [number(&room["ids"][0])?, number(&room["ids"][1])?];
        Some(OwnRoom::new(room_itself, ids))
    }
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn room() -> OwnRoom {
        let mount = |kind, path: &str| KindOfMount {
            kind,
            path: path.into(),
            flags: 6,
            options: "mode=1777".to_owned(),
        };
        let room = CopyRoom {
            mounts: vec![mount("proc", "/proc"), mount("tmpfs", "/tmp")],
            has_loopback: true,
            filter: vec![1, u64::MAX],
            directory: "/tmp/x".into(),
            last_capability: 40,
        };
        OwnRoom::new(room, [5, 6])
    }

    #[test]
    fn a_room_is_the_same_as_a_text() {
        let json = room().to_json();
        assert_eq!(OwnRoom::from_json(&json), Some(room()));
        for key in ["mounts", "loopback", "filter", "directory", "capability", "ids"] {
            let mut other = json.clone();
            other[key] = json!({});
            assert_eq!(OwnRoom::from_json(&other), None, "{key}");
        }
        let mut other = json;
        other["mounts"][0][0] = json!("ext4");
        assert_eq!(OwnRoom::from_json(&other), None);
    }
}
