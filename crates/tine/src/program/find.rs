//! Finds the file of a program, and checks at the start of the server that it can be executed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::binfmt;
use super::format::{FIRST_BYTES, FileFormat, format, loader};
use crate::error::{Error, ErrorKind, reason};
use crate::system::users::Identity;

/// The file of a program: the name itself if it contains a slash (relative to the working directory
/// of the program), else the first executable file of that name in `path`, the `PATH` of the
/// program, or in that of the server if the program's is not set.
pub(super) fn find(
    name: &OsStr,
    directory: Option<&Path>,
    path: Option<&OsStr>,
    identity: Option<&Identity>,
) -> Result<PathBuf, Error> {
    if name.as_bytes().contains(&b'/') {
        let file = directory.unwrap_or(Path::new(".")).join(name);
        return check(&file, directory, identity)
            .map(|()| file)
            .map_err(|why| cannot_execute(&name.to_string_lossy(), &why));
    }
    let path = path
        .map(OsStr::to_owned)
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut first_failure = None;
    for candidate in std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
    {
        match check(&candidate, directory, identity) {
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
    /// Its file system is mounted with `noexec`.
    Noexec,
    /// Neither an ELF file nor a script with an interpreter line.
    Format,
    /// The kernel does not take its first line.
    Line(&'static str),
    /// The interpreter of the script, or the loader of the binary, cannot be executed: its path and
    /// the cause.
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
        NotExecutable::Noexec => (
            "its file system is mounted with noexec".to_owned(),
            "move it to another file system, or mount that one with exec",
        ),
        NotExecutable::Format => (
            "neither an ELF binary nor a script that starts with #!".to_owned(),
            "add a first line such as #!/bin/sh",
        ),
        NotExecutable::Line(why) => ((*why).to_owned(), "write a first line such as #!/bin/sh"),
        NotExecutable::Interpreter(which) if which.contains('\r') => (
            format!("its interpreter {which}"),
            "the first line ends with a carriage return: write the script with Unix line ends",
        ),
        NotExecutable::Interpreter(which) => (
            format!("its interpreter {which}"),
            "correct the first line of the script, or install the interpreter",
        ),
        NotExecutable::Other(why) => (why.clone(), "check the path"),
    };
    Error::new(ErrorKind::Program, format_args!("cannot execute '{name}': {why}"), next)
}

/// The number of interpreters that are scripts themselves (execve(2); `exec_binprm` of the kernel).
const MAX_SCRIPTS: usize = 5;

/// Checks a file, and the chain of interpreters that it needs. Relative paths of interpreters begin
/// at the working directory of the program.
fn check(path: &Path, directory: Option<&Path>, identity: Option<&Identity>) -> Result<(), NotExecutable> {
    let mut file = path.to_owned();
    for depth in 0..=MAX_SCRIPTS {
        let named = |why| match depth {
            0 => why,
            _ => NotExecutable::Interpreter(format!("{} ({})", file.display(), short_reason(&why))),
        };
        check_file(&file, identity).map_err(named)?;
        // A file can be executable without being readable; then execve(2) decides, at each
        // connection.
        let Ok(first) = first_bytes(&file) else { return Ok(()) };
        match format(&first) {
            FileFormat::Elf => return check_loader(&file, &first, identity),
            FileFormat::Script(interpreter) => file = directory.unwrap_or(Path::new("")).join(interpreter),
            FileFormat::BadScript(why) => return Err(named(NotExecutable::Line(why))),
            FileFormat::Unknown if binfmt::takes(&file, &first) => return Ok(()),
            FileFormat::Unknown => return Err(named(NotExecutable::Format)),
        }
    }
    Err(NotExecutable::Other("its interpreters are scripts, more than five deep".to_owned()))
}

/// The first bytes of a file, as many as the kernel reads.
fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(FIRST_BYTES);
    File::open(path)?.take(FIRST_BYTES as u64).read_to_end(&mut first)?;
    Ok(first)
}

/// Checks the dynamic loader of a binary for this kind of machine, which is missing where a binary
/// was built for another C library.
fn check_loader(path: &Path, first: &[u8], identity: Option<&Identity>) -> Result<(), NotExecutable> {
    let own = first_bytes(Path::new("/proc/self/exe")).unwrap_or_default();
    let file = File::open(path).ok();
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        let read = file.as_ref()?.read_at(&mut bytes, offset).ok()?;
        bytes.truncate(read);
        Some(bytes)
    };
    let Some(loader) = loader(first, &own, read) else { return Ok(()) };
    check_file(&loader, identity)
        .map_err(|why| NotExecutable::Interpreter(format!("{} ({})", loader.display(), short_reason(&why))))
}

fn short_reason(why: &NotExecutable) -> &str {
    match why {
        NotExecutable::Missing => "no such file",
        NotExecutable::NotAFile => "not a regular file",
        NotExecutable::Forbidden => "permission denied",
        NotExecutable::Noexec => "its file system is mounted with noexec",
        NotExecutable::Line(why) => why,
        NotExecutable::Format | NotExecutable::Interpreter(_) | NotExecutable::Other(_) => "not executable",
    }
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
    if !permits(&file, identity) || !reachable {
        return Err(NotExecutable::Forbidden);
    }
    // Not even root executes a file there (mount(8)).
    let is_noexec =
        rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if is_noexec { Err(NotExecutable::Noexec) } else { Ok(()) }
}

/// Whether the mode bits let an identity execute a file or search a directory (path_resolution(7)).
fn permits(file: &std::fs::Metadata, identity: Option<&Identity>) -> bool {
    let own = || {
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let groups = rustix::process::getgroups().unwrap_or_default();
        Identity::from_ids(Some(ids.0), ids.1, groups.iter().map(|group| group.as_raw()).collect())
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

    /// A folder with files of a test, removed when it is dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Files {
            let folder = std::env::temp_dir().join(format!("tine-find-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a directory");
            Files(folder)
        }

        fn file(&self, name: &str, mode: u32, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
            path
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn executable_files_and_the_causes_of_failure() {
        let files = Files::new("causes");
        let other_user = Identity::from_ids(Some(61_234), 61_234, Vec::new());
        for (path, identity, result) in [
            (files.file("good", 0o755, "#!/bin/sh\n"), None, Ok(())),
            (files.file("mine", 0o700, "#!/bin/sh\n"), Some(&other_user), Err(NotExecutable::Forbidden)),
            (files.file("plain", 0o644, "#!/bin/sh\n"), None, Err(NotExecutable::Forbidden)),
            (files.0.join("missing"), None, Err(NotExecutable::Missing)),
            (files.0.clone(), None, Err(NotExecutable::NotAFile)),
            (files.0.join("good/below"), None, Err(NotExecutable::Other("not a directory".into()))),
        ] {
            assert_eq!(check(&path, None, identity), result, "{path:?}");
        }
        assert!(find(OsStr::new("sh"), None, None, None).expect("exists").ends_with("sh"));
        assert!(find(OsStr::new("./good"), Some(&files.0), None, None).is_ok());
        assert!(find(OsStr::new("no-such-program"), None, None, None).is_err());
        let path = Some(files.0.as_os_str());
        assert_eq!(find(OsStr::new("good"), None, path, None).expect("in its PATH"), files.0.join("good"));
        assert!(find(OsStr::new("sh"), None, path, None).is_err());
    }

    #[test]
    fn a_chain_of_interpreters_is_followed_to_its_end() {
        let files = Files::new("chain");
        let folder = files.0.display();
        files.file("chain0", 0o755, "#!/bin/sh\n");
        for depth in 1..8 {
            files.file(&format!("chain{depth}"), 0o755, &format!("#!{folder}/chain{}\n", depth - 1));
        }
        files.file("text", 0o755, "exit 0\n");
        let check = |text: &str| check(&files.file("it", 0o755, text), Some(&files.0), None);
        let interpreter = |name: &str, why: &str| Err(NotExecutable::Interpreter(format!("{name} ({why})")));
        let own = |name: &str, why: &str| interpreter(&format!("{folder}/{name}"), why);
        for (text, result) in [
            ("#!./chain0\n".to_owned(), Ok(())),
            (format!("#!{folder}/chain3\n"), Ok(())),
            (
                format!("#!{folder}/chain4\n"),
                Err(NotExecutable::Other("its interpreters are scripts, more than five deep".into())),
            ),
            ("#!/no/such/sh\n".to_owned(), interpreter("/no/such/sh", "no such file")),
            ("#!sh\n".to_owned(), own("sh", "no such file")),
            (format!("#!{folder}/text\n"), own("text", "not executable")),
            (format!("#!{folder}/\n"), own("", "not a regular file")),
        ] {
            assert_eq!(check(&text), result, "{text:?}");
        }
    }

    #[test]
    fn a_carriage_return_is_visible_in_the_error() {
        let files = Files::new("cr");
        let path = files.file("dos", 0o755, "#!/bin/sh\r\nexit\r\n");
        let error = find(path.as_os_str(), None, None, None).expect_err("no such interpreter").to_string();
        assert!(error.contains("its interpreter /bin/sh\\r (no such file); the first line ends"), "{error}");
    }
}
