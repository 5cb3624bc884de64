//! The commands of docs/jails.md for programs in a full jail: their files, and servers that are
//! started with them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::documents::{blocks, section};
use crate::folder::Folder;
use crate::server::{Server, ServerCommand, tine};

/// The content of a file that no jail has.
pub const SECRET: &str = "outside\n";

/// The section of the page.
#[must_use]
pub fn recipes() -> &'static str {
    section(include_str!("../../../docs/jails.md"), "Programs in a full jail")
}

/// The files of a recipe, which are below `/srv` on the page.
pub struct Site {
    /// What is `/srv`.
    pub folder: Folder,
    recipe: &'static str,
}

impl Site {
    /// A directory for this recipe, with a file outside of what its jail has.
    #[must_use]
    pub fn new(recipe: &'static str, name: &str) -> Site {
        let folder = Folder::new(name);
        folder.write("secret", SECRET);
        Site { folder, recipe }
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.path(name)
    }

    /// The path of the file outside.
    #[must_use]
    pub fn secret(&self) -> String {
        self.path("secret")
    }

    /// A block of the recipe.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn block(&self, number: usize) -> String {
        let recipes = blocks(recipes());
        let (_, blocks) = recipes.iter().find(|(name, _)| *name == self.recipe).expect("a recipe");
        blocks[number].replace("/srv/", &self.path(""))
    }

    /// Writes the file that a block of the recipe shows, which begins with its path, and more.
    ///
    /// # Panics
    /// If it does not begin so, or its folder does not exist.
    pub fn write_block(&self, number: usize, more: &str) {
        let text = self.block(number);
        let (path, _) = text.strip_prefix("# ").expect("a path").split_once('\n').expect("a line");
        std::fs::write(path, text.clone() + more).expect("its folder exists");
    }

    /// Makes a directory with this mode.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn directory(&self, name: &str, mode: u32) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        path
    }

    /// Starts a command of the recipe in a full jail of root, in one of `nobody`, and as `nobody`
    /// without a jail. The check is told whether what is outside can be read.
    pub fn in_each_way(&self, number: usize, mut check: impl FnMut(&Server, bool)) {
        let command = self.block(number);
        let of_nobody = command.replacen("--jail", "--jail --user nobody", 1);
        for jailed in [&command, &of_nobody] {
            check(&start(jailed), false);
        }
        check(&start_words(&without_jail(&of_nobody)), true);
    }
}

/// Starts a command of the page in its jail, and checks that it is in force.
///
/// # Panics
/// If it is not.
#[must_use]
pub fn start(command: &str) -> Server {
    let server = start_words(command);
    server.log.wait_for("listen", 1);
    let layers = server.log.of("jail");
    for layer in ["namespaces", "root", "seccomp", "capabilities"] {
        assert!(layers.iter().any(|line| line["layer"] == layer && line["state"] == "on"), "{layers:?}");
    }
    server
}

/// Starts a command of the page on a port that the kernel chooses. A shell reads its words.
///
/// # Panics
/// If it is no command of `tine serve` with a port and a program.
#[must_use]
pub fn start_words(command: &str) -> Server {
    let (options, program) = command.split_once(" -- ").expect("a program");
    let (options, port) = options.rsplit_once(' ').expect("options");
    port.parse::<u16>().expect("a port");
    let options = options.strip_prefix("tine serve").expect("a command of tine");
    let words = format!("exec \"$TINE\" serve --log json -1 {options} 127.0.0.1:0 -- {program}");
    let mut server = ServerCommand::program("sh", &["-c", &words]);
    server.command().env("TINE", tine()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    server.start()
}

/// A command without its jail and what only a full jail has.
#[must_use]
pub fn without_jail(command: &str) -> String {
    let mut words = command.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--jail" => {}
            "--bind-read-only-paths" | "--read-write-paths" => _ = words.next(),
            word => kept.push(word),
        }
    }
    kept.join(" ")
}
