//! Finds the file of a program, and checks at the start of the server that it can be executed.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, reason};
use crate::system::users::Identity;

/// The file of a program: the name itself if it contains a slash (relative to the working directory
/// of the program), else the first executable file of that name in `PATH`.
pub(super) fn find(
    name: &OsStr,
    directory: Option<&Path>,
    identity: Option<&Identity>,
) -> Result<PathBuf, Error> {
    if name.as_bytes().contains(&b'/') {
        let file = directory.unwrap_or(Path::new(".")).join(name);
        return check(&file, identity)
            .map(|()| file)
            .map_err(|why| cannot_execute(&name.to_string_lossy(), &why));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut first_failure = None;
    for candidate in std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
    {
        match check(&candidate, identity) {
            Ok(()) => return Ok(candidate),
            Err(NotExecutable::Missing) => {}
            Err(why) => first_failure = first_failure.or(Some((candidate, why))),
        }
    }
    Err(match first_failure {
        Some((candidate, why)) => cannot_execute(&candidate.to_string_lossy(), &why),
        None => Error::new(
            ErrorKind::Program,
            format_args!("there is no program '{}' in PATH", name.to_string_lossy()),
            "check the spelling, or use the absolute path",
        ),
    })
}

/// Why a file cannot be executed.
#[derive(Debug, PartialEq, Eq)]
enum NotExecutable {
    Missing,
    NotAFile,
    Forbidden,
    /// Neither an ELF file nor a script with an interpreter line.
    Format,
    /// The interpreter of the script cannot be executed: its path and the cause.
    Interpreter(String),
    Other(String),
}

fn cannot_execute(name: &str, why: &NotExecutable) -> Error {
    let (why, next) = match why {
        NotExecutable::Missing => ("no such file".to_owned(), "check the path"),
        NotExecutable::NotAFile => ("not a regular file".to_owned(), "choose a program"),
        NotExecutable::Forbidden => (
            "permission denied".to_owned(),
            "make it executable for the user that it runs as (chmod), or run it as another user",
        ),
        NotExecutable::Format => (
            "neither an ELF binary nor a script that starts with #!".to_owned(),
            "add a first line such as #!/bin/sh",
        ),
        NotExecutable::Interpreter(which) => (
            format!("its interpreter {which}"),
            "correct the first line of the script, or install the interpreter",
        ),
        NotExecutable::Other(why) => (why.clone(), "check the path"),
    };
    Error::new(ErrorKind::Program, format_args!("cannot execute '{name}': {why}"), next)
}

fn check(path: &Path, identity: Option<&Identity>) -> Result<(), NotExecutable> {
    check_file(path, identity)?;
    let mut first = [0; 256];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first));
    match read {
        // A file can be executable without being readable; then execve(2) decides, at each
        // connection.
        Err(_) => Ok(()),
        Ok(length) => match interpreter(&first[..length]) {
            Some(interpreter) => check_file(&interpreter, identity).map_err(|why| {
                NotExecutable::Interpreter(format!("{} ({})", interpreter.display(), short_reason(&why)))
            }),
            None if first.starts_with(b"\x7fELF") => Ok(()),
            None => Err(NotExecutable::Format),
        },
    }
}

fn short_reason(why: &NotExecutable) -> &'static str {
    match why {
        NotExecutable::Missing => "no such file",
        NotExecutable::Forbidden => "permission denied",
        _ => "not executable",
    }
}

/// The interpreter that the first line of a script names (execve(2)).
fn interpreter(first: &[u8]) -> Option<PathBuf> {
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

fn check_file(path: &Path, identity: Option<&Identity>) -> Result<(), NotExecutable> {
    let file = std::fs::metadata(path).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => NotExecutable::Missing,
        std::io::ErrorKind::PermissionDenied => NotExecutable::Forbidden,
        _ => NotExecutable::Other(reason(&why)),
    })?;
    if !file.is_file() {
        return Err(NotExecutable::NotAFile);
    }
    let directories = path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
    let reachable = directories
        .filter_map(|directory| std::fs::metadata(directory).ok())
        .all(|directory| permits(&directory, identity));
    if permits(&file, identity) && reachable { Ok(()) } else { Err(NotExecutable::Forbidden) }
}

/// Whether the mode bits let an identity execute a file or search a directory (path_resolution(7)).
fn permits(file: &std::fs::Metadata, identity: Option<&Identity>) -> bool {
    let own = || {
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let groups = rustix::process::getgroups().unwrap_or_default();
        Identity { uid: Some(ids.0), gid: ids.1, groups: groups.iter().map(|group| group.as_raw()).collect() }
    };
    let identity = identity.cloned().unwrap_or_else(own);
    let uid = identity.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let mode = file.mode();
    if uid == 0 {
        return file.is_dir() || mode & 0o111 != 0;
    }
    let bit = if file.uid() == uid {
        0o100
    } else if file.gid() == identity.gid || identity.groups.contains(&file.gid()) {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn executable_files_and_the_causes_of_failure() {
        let folder = std::env::temp_dir().join(format!("tine-find-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a directory");
        let file = |name: &str, mode: u32, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
            path
        };
        let other_user = Identity { uid: Some(61_234), gid: 61_234, groups: Vec::new() };
        for (path, identity, result) in [
            (file("good", 0o755, "#!/bin/sh\n"), None, Ok(())),
            (file("spaced", 0o755, "#! /bin/sh -e\n"), None, Ok(())),
            (file("mine", 0o700, "#!/bin/sh\n"), Some(&other_user), Err(NotExecutable::Forbidden)),
            (file("plain", 0o644, "#!/bin/sh\n"), None, Err(NotExecutable::Forbidden)),
            (file("text", 0o755, "echo\n"), None, Err(NotExecutable::Format)),
            (
                file("lost", 0o755, "#!/no/such/sh\n"),
                None,
                Err(NotExecutable::Interpreter("/no/such/sh (no such file)".into())),
            ),
            (folder.join("missing"), None, Err(NotExecutable::Missing)),
            (folder.clone(), None, Err(NotExecutable::NotAFile)),
        ] {
            assert_eq!(check(&path, identity), result, "{path:?}");
        }
        assert!(find(OsStr::new("sh"), None, None).expect("exists").ends_with("sh"));
        assert!(find(OsStr::new("./good"), Some(&folder), None).is_ok());
        assert!(find(OsStr::new("no-such-program"), None, None).is_err());
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
