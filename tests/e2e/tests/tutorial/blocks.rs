//! The fenced blocks of a document: programs, and transcripts of a shell.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// The word after the fence, such as `console`.
    pub(crate) kind: &'a str,
    /// The line above, without which the reader does not know what it is.
    pub(crate) caption: &'a str,
    pub(crate) text: &'a str,
}

/// A command in a transcript, and what it prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    /// Several lines, if the command has them.
    pub(crate) command: String,
    pub(crate) output: Vec<&'a str>,
}

/// The chapters of a document, which begin with `## ` and a number: heading and text.
pub(crate) fn chapters(document: &str) -> Vec<(&str, &str)> {
    let sections = document.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    sections.filter(|(heading, _)| heading.starts_with(|first: char| first.is_ascii_digit())).collect()
}

/// The fenced blocks of a text, in their order.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    let parts: Vec<&str> = text.split("\n```").collect();
    // Text, block, text, block, …, text: the closing fence begins a text.
    assert!(parts.len() % 2 == 1, "a block has no end");
    parts
        .chunks_exact(2)
        .map(|pair| {
            let caption = pair[0].trim_end().rsplit('\n').next().unwrap_or_default();
            let (kind, text) = pair[1].split_once('\n').unwrap_or((pair[1], ""));
            Block { kind, caption, text }
        })
        .collect()
}

/// The commands of a transcript. A command begins with `$ `, and goes on after `> `.
pub(crate) fn steps(transcript: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step> = Vec::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), output: Vec::new() });
            continue;
        }
        let step = steps.last_mut().expect("a transcript begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if step.output.is_empty() => step.command += &format!("\n{more}"),
            _ => step.output.push(line),
        }
    }
    steps
}

#[test]
fn a_document_has_chapters_blocks_and_steps() {
    let document = "# T\n\n## Before\n\n## 1. One\n\nSee `a.rs`:\n\n```rust\nfn a() {}\n```\n\nThen:\n\n```console\n\
                    $ one\nout\n$ for a in b; do\n> echo; done\n```\n\n## 2. Two\n";
    let chapters = chapters(document);
    assert_eq!(chapters.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["1. One", "2. Two"]);
    let blocks = blocks(chapters[0].1);
    assert_eq!(
        blocks[0],
        Block { kind: "rust", caption: "See `a.rs`:", text: "fn a() {}" },
        "a program, whose file the caption names"
    );
    assert_eq!(
        steps(blocks[1].text),
        [
            Step { command: "one".to_owned(), output: vec!["out"] },
            Step { command: "for a in b; do\necho; done".to_owned(), output: vec![] },
        ]
    );
}
