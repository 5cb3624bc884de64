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
use crate::jail::path_view::{OutsidePath, PathView};
use crate::system::users::Identity;

/// Where a program is searched for, and who executes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProgramSearch<'a> {
    /// The working directory of the program.
    pub(super) directory: Option<&'a Path>,
    /// The `PATH` of the program; that of the server if it is not set.
    pub(super) path: Option<&'a OsStr>,
    /// The user that it runs as; that of this process if it is not set.
    pub(super) identity: Option<&'a Identity>,
    /// What the program sees of the system, if that is not all of it.
    pub(super) view: Option<&'a PathView>,
}

impl ProgramSearch<'_> {
    /// The file of a program, as the program sees it: the name itself if it contains a slash
    /// (relative to the working directory), else the first executable file of that name in `PATH`.
    pub(super) fn find(&self, name: &OsStr) -> Result<PathBuf, Error> {
        if name.as_bytes().contains(&b'/') {
            let start = if self.view.is_some() { "/" } else { "." };
            let file = self.directory.unwrap_or(Path::new(start)).join(name);
            return self
                .check(&file)
                .map(|()| file)
                .map_err(|why| cannot_execute(&name.to_string_lossy(), &why));
        }
        let path = self
            .path
            .map(OsStr::to_owned)
            .or_else(|| std::env::var_os("PATH"))
            .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut first_failure = None;
        for candidate in std::env::split_paths(&path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
        {
            match self.check(&candidate) {
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

    /// Checks a file, and the chain of interpreters that it needs. Relative paths of interpreters
    /// begin at the working directory of the program.
    fn check(&self, path: &Path) -> Result<(), NotExecutable> {
        let mut file = path.to_owned();
        for depth in 0..=MAX_SCRIPTS {
            let named = |why| match depth {
                0 => why,
                _ => NotExecutable::Interpreter(format!("{} ({})", file.display(), short_reason(&why))),
            };
            // Without a root of its own, a jail has the program itself wherever it is.
            let is_there = depth == 0 && self.view.is_none_or(|view| view.root.is_none());
            if !is_there && self.is_hidden(&file) {
                return Err(named(NotExecutable::Missing));
            }
            self.check_file(&file).map_err(named)?;
            // A file can be executable without being readable; then execve(2) decides, at each
            // connection.
            let Ok(first) = first_bytes(&self.outside(&file).path) else { return Ok(()) };
            match format(&first) {
                FileFormat::Elf => return self.check_loader(&file, &first),
                FileFormat::Script(interpreter) => {
                    file = self.directory.unwrap_or(Path::new("")).join(interpreter);
                }
                FileFormat::BadScript(why) => return Err(named(NotExecutable::Line(why))),
                FileFormat::Unknown if binfmt::takes(&file, &first) => return Ok(()),
                FileFormat::Unknown => return Err(named(NotExecutable::Format)),
            }
        }
        Err(NotExecutable::Other("its interpreters are scripts, more than five deep".to_owned()))
    }

    /// Checks the dynamic loader of a binary for this kind of machine, which is missing where a
    /// binary was built for another C library.
    fn check_loader(&self, path: &Path, first: &[u8]) -> Result<(), NotExecutable> {
        let own = first_bytes(Path::new("/proc/self/exe")).unwrap_or_default();
        let file = File::open(self.outside(path).path).ok();
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            let read = file.as_ref()?.read_at(&mut bytes, offset).ok()?;
            bytes.truncate(read);
            Some(bytes)
        };
        let Some(loader) = loader(first, &own, read) else { return Ok(()) };
        let checked = match self.is_hidden(&loader) {
            true => Err(NotExecutable::Missing),
            false => self.check_file(&loader),
        };
        checked.map_err(|why| {
            NotExecutable::Interpreter(format!("{} ({})", loader.display(), short_reason(&why)))
        })
    }

    fn check_file(&self, path: &Path) -> Result<(), NotExecutable> {
        let OutsidePath { path, above } = self.outside(path);
        let file = std::fs::metadata(&path).map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => NotExecutable::Missing,
            std::io::ErrorKind::PermissionDenied => NotExecutable::Forbidden,
            _ => NotExecutable::Other(reason(&why)),
        })?;
        if !file.is_file() {
            return Err(NotExecutable::NotAFile);
        }
        let directories = path.ancestors().skip(1).take_while(|directory| *directory != above);
        let reachable = directories
            .filter_map(|directory| std::fs::metadata(directory).ok())
            .all(|directory| permits(&directory, self.identity));
        if !permits(&file, self.identity) || !reachable {
            return Err(NotExecutable::Forbidden);
        }
        // Not even root executes a file there (mount(8)).
        let is_noexec =
            rustix::fs::statvfs(&path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
        if is_noexec { Err(NotExecutable::Noexec) } else { Ok(()) }
    }

    /// Whether the program sees something else there than what the system has.
    fn is_hidden(&self, path: &Path) -> bool {
        self.view.is_some_and(|view| view.hides(path))
    }

    /// Where the system has a path of the program.
    fn outside(&self, path: &Path) -> OutsidePath {
        match self.view {
            Some(view) => view.outside(path),
            None => PathView::default().outside(path),
        }
    }
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

/// The first bytes of a file, as many as the kernel reads.
fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(FIRST_BYTES);
    File::open(path)?.take(FIRST_BYTES as u64).read_to_end(&mut first)?;
    Ok(first)
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
            let search = ProgramSearch { identity, ..ProgramSearch::default() };
            assert_eq!(search.check(&path), result, "{path:?}");
        }
        let (here, name) = (ProgramSearch::default(), OsStr::new);
        assert!(here.find(name("sh")).expect("exists").ends_with("sh"));
        assert!(ProgramSearch { directory: Some(&files.0), ..here }.find(name("./good")).is_ok());
        assert!(here.find(name("no-such-program")).is_err());
        let path = ProgramSearch { path: Some(files.0.as_os_str()), ..here };
        assert_eq!(path.find(name("good")).expect("in its PATH"), files.0.join("good"));
        assert!(path.find(name("sh")).is_err());
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
        let search = ProgramSearch { directory: Some(&files.0), ..ProgramSearch::default() };
        let check = |text: &str| search.check(&files.file("it", 0o755, text));
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
    fn paths_below_another_root_begin_there() {
        let files = Files::new("root");
        let bin = files.0.join("bin");
        std::fs::create_dir_all(&bin).expect("a directory");
        files.file("bin/tool", 0o755, "#!/bin/shell\n");
        std::os::unix::fs::symlink("/bin/tool", bin.join("link")).expect("a link");
        let view = PathView { root: Some(files.0.clone()), ..PathView::default() };
        let search = ProgramSearch { view: Some(&view), ..ProgramSearch::default() };
        let missing = search.find(OsStr::new("/bin/link")).expect_err("no interpreter").to_string();
        assert!(missing.contains("/bin/shell (no such file)"), "{missing}");
        std::fs::copy("/bin/true", bin.join("shell")).expect("a copy");
        let loader = search.find(OsStr::new("/bin/shell")).expect_err("no loader").to_string();
        assert!(loader.contains("its interpreter /lib"), "{loader}");
        files.file("bin/shell", 0o755, "#!/bin/other\n");
        files.file("bin/other", 0o755, "\x7fELF");
        assert_eq!(search.find(OsStr::new("../bin/link")).expect("all is there"), Path::new("/../bin/link"));
        let path = ProgramSearch { path: Some(OsStr::new("/usr/bin:/bin")), ..search };
        assert_eq!(path.find(OsStr::new("link")).expect("in its PATH"), Path::new("/bin/link"));
    }

    #[test]
    fn a_carriage_return_is_visible_in_the_error() {
        let files = Files::new("cr");
        let path = files.file("dos", 0o755, "#!/bin/sh\r\nexit\r\n");
        let error = ProgramSearch::default().find(path.as_os_str());
        let error = error.expect_err("no such interpreter").to_string();
        assert!(error.contains("its interpreter /bin/sh\\r (no such file); the first line ends"), "{error}");
    }
}
