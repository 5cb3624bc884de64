//! The tutorial: each program in it is one of `examples/tutorial`, and each command prints what the
//! text shows, in both languages.

mod blocks;
mod comparison;
mod session;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use blocks::{Block, blocks, chapters, steps};
use session::Session;
use tine_e2e::{built, run};

const ENGLISH: &str = include_str!("../../../../docs/tutorial.md");
const CHINESE: &str = include_str!("../../../../docs/tutorial.zh.md");

/// The source files of the programs, by their names.
fn programs() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tutorial/src");
    let of = |path: &Path| fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = of(&folder).chain(of(&folder.join("bin"))).filter(|path| path.is_file());
    let named = files.map(|path| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("text"))
    });
    named.collect()
}

fn of_kind<'a>(document: &'a str, kind: &str) -> Vec<Block<'a>> {
    blocks(document).into_iter().filter(|block| block.kind == kind).collect()
}

#[test]
fn every_program_is_whole_in_both_languages() {
    let programs = programs();
    for (language, document) in [("English", ENGLISH), ("Chinese", CHINESE)] {
        let shown = of_kind(document, "rust");
        for (name, source) in &programs {
            assert!(source.lines().count() < 80, "{name} is too long to be read at once");
            let of_name = |block: &&Block| block.caption.contains(&format!("`{name}`"));
            let block = shown.iter().find(of_name).unwrap_or_else(|| panic!("{name} is not in {language}"));
            assert_eq!(block.text, source.trim_end(), "{name} in {language}");
        }
        assert_eq!(shown.len(), programs.len(), "a program in {language} is none of the folder");
    }
}

#[test]
fn both_languages_show_the_same_commands_in_the_same_chapters() {
    let (english, chinese) = (chapters(ENGLISH), chapters(CHINESE));
    assert_eq!(english.len(), chinese.len());
    for ((name, one), (_, other)) in english.iter().zip(&chinese) {
        let texts =
            |document| of_kind(document, "console").iter().map(|block| block.text).collect::<Vec<_>>();
        assert_eq!(texts(one), texts(other), "{name}");
        let pictures = |text: &str| text.matches("](pictures/tutorial/").count();
        assert_eq!(pictures(one), pictures(other), "{name}");
    }
}

#[test]
fn what_the_text_installs_is_what_the_tests_install() {
    let packages = include_str!("../../../../scripts/packages");
    for document in [ENGLISH, CHINESE] {
        let install = document.lines().find_map(|line| line.strip_prefix("sudo apt-get install --yes "));
        let named: Vec<&str> = install.expect("a line that installs").split_whitespace().collect();
        assert!(named.contains(&"tcpdump"), "{named:?}");
        for name in named {
            assert!(packages.lines().any(|line| line == name), "{name} is not in scripts/packages");
        }
    }
}

#[test]
fn the_shell_finds_the_programs_as_the_text_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for document in [ENGLISH, CHINESE] {
        let line = document.lines().find(|line| line.starts_with("export PATH=")).expect("a path");
        let mut shell = Command::new("bash");
        shell.current_dir(&root).args(["-c", &format!("{line}; command -v one-client")]);
        let (code, found, errors) = run(&mut shell);
        assert_eq!(code, 0, "{line}: {errors}");
        let found = fs::canonicalize(found.trim_end()).expect("a program");
        assert_eq!(found, fs::canonicalize(built("one-client")).expect("a program"));
    }
}

/// Runs the commands of a chapter, in a shell for each block.
fn run_chapter(number: usize) {
    let chapters = chapters(ENGLISH);
    let (heading, text) = chapters[number - 1];
    assert!(heading.starts_with(&format!("{number}. ")), "{heading}");
    let transcripts = of_kind(text, "console");
    assert!(!transcripts.is_empty(), "{heading} shows nothing");
    for (at, transcript) in transcripts.iter().enumerate() {
        let mut session = Session::start(&format!("{number}-{at}"));
        steps(transcript.text).iter().for_each(|step| session.run(step));
    }
}

/// One test for each chapter.
macro_rules! chapters {
    ($($name:ident $number:literal)*) => {
        $(#[test]
        fn $name() {
            run_chapter($number);
        })*

        #[test]
        fn every_chapter_is_run() {
            assert_eq!([$($number),*].len(), chapters(ENGLISH).len());
        }
    };
}

chapters! {
    one_client_at_a_time 1
    a_process_for_each_connection 2
    reaping 3
    descriptors 4
    the_end_of_a_connection 5
    bytes_are_not_messages 6
    limits 7
    pools 8
    memory_and_locks 9
    many_clients 10
    measuring 11
    the_whole_server 12
}
