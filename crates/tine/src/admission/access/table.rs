//! A table of blocks that finds the most specific block of an address in logarithmic time. It is
//! encoded in 64-bit words, which can be in shared memory.

use std::net::IpAddr;

use super::prefix::{Prefix, bits, mask};
use super::words::RuleWords;

/// The parent of a row that no other block contains.
const NO_PARENT: u32 = u32::MAX;

// The header: the number of rows, 1 if clients in no block are allowed, the index of the rules by
// host name (0 if there are none). Then come the rows, then the texts; the rules by host name are
// the last text.
const ROWS: usize = 0;
const DEFAULT_ALLOWS: usize = 1;
const NAMES: usize = 2;
pub(super) const HEADER_WORDS: usize = 3;
/// The maximum length of a text in bytes.
pub(super) const MAX_TEXT: usize = 1 << 20;
// A row: the first address (two words), the prefix length and the row of the smallest block that
// contains this one, the answer.
pub(super) const ROW_WORDS: usize = 4;

/// The rule for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The number of the rule.
    pub(super) rule: u32,
    /// Whether the rule allows.
    pub(super) allows: bool,
    /// The rule's variables: for [`words`], their index in `texts` plus 1; in a table, the index of
    /// the word where their text begins. 0 if the rule sets no variables.
    pub(super) text: u32,
}

impl Answer {
    fn to_word(self) -> u64 {
        u64::from(self.text) << 32 | u64::from(self.rule) << 1 | u64::from(self.allows)
    }

    fn from_word(word: u64) -> Answer {
        Answer { rule: word as u32 >> 1, allows: word & 1 == 1, text: (word >> 32) as u32 }
    }
}

/// The answer of the most specific block that contains an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableMatch {
    pub(super) answer: Answer,
    /// The prefix length of the block, in the IPv6 address space.
    pub(super) length: u8,
}

/// Encodes a table. Of equal blocks, the last one counts. `texts` are the variables that answers
/// refer to, `names` the rules by host name, encoded by [`super::names`].
pub(super) fn words(
    mut blocks: Vec<(Prefix, Answer)>,
    texts: &[Vec<u8>],
    names: &[u8],
    default_allows: bool,
) -> Vec<u64> {
    // The sort is stable: of equal blocks, the last one stays last.
    blocks.sort_by_key(|(prefix, _)| *prefix);
    blocks.reverse();
    blocks.dedup_by_key(|(prefix, _)| *prefix);
    blocks.reverse();
    let mut words = vec![blocks.len() as u64, u64::from(default_allows), 0];
    let mut ancestors: Vec<u32> = Vec::new();
    let text_starts = text_starts(HEADER_WORDS + blocks.len() * ROW_WORDS, texts);
    for (row, (prefix, answer)) in blocks.iter().enumerate() {
        while ancestors.last().is_some_and(|outer| !blocks[*outer as usize].0.contains(*prefix)) {
            ancestors.pop();
        }
        let (first, length) = prefix.to_parts();
        let parent = ancestors.last().copied().unwrap_or(NO_PARENT);
        let text = (answer.text as usize).checked_sub(1).and_then(|index| text_starts.get(index)).copied();
        let answer = Answer { text: text.unwrap_or(0), ..*answer };
        let shape = u64::from(length) << 32 | u64::from(parent);
        words.extend([(first >> 64) as u64, first as u64, shape, answer.to_word()]);
        ancestors.push(row as u32);
    }
    texts.iter().for_each(|text| push_text(&mut words, text));
    if !names.is_empty() {
        words[NAMES] = words.len() as u64;
        push_text(&mut words, names);
    }
    words
}

/// The index of the word where each text begins, if the first one begins at `start`.
fn text_starts(start: usize, texts: &[Vec<u8>]) -> Vec<u32> {
    let mut next = start;
    texts
        .iter()
        .map(|text| {
            let start = next as u32;
            next += 1 + text.len().div_ceil(8);
            start
        })
        .collect()
}

/// Appends a text: its length in bytes, then the bytes.
fn push_text(words: &mut Vec<u64>, text: &[u8]) {
    words.push(text.len() as u64);
    words.extend(text.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }));
}

/// Whether addresses that no block contains are allowed.
pub(super) fn default_allows(table: impl RuleWords) -> bool {
    table.word(DEFAULT_ALLOWS) == 1
}

/// Finds the most specific block that contains an address.
pub(super) fn find(table: impl RuleWords, address: IpAddr) -> Option<TableMatch> {
    let wanted = bits(address);
    let row_word = |row: u32, word: usize| table.word(HEADER_WORDS + row as usize * ROW_WORDS + word);
    let first = |row: u32| u128::from(row_word(row, 0)) << 64 | u128::from(row_word(row, 1));
    let (mut low, mut high) = (0, table.word(ROWS) as u32);
    while low < high {
        let middle = low + (high - low) / 2;
        if first(middle) <= wanted { low = middle + 1 } else { high = middle }
    }
    // The last row that begins at or before the address. If its block does not contain the address,
    // only blocks that contain this block can.
    let mut row = low.checked_sub(1)?;
    // An address is in at most 129 blocks. The limit ends the search in words that another process
    // rewrites meanwhile.
    for _ in 0..=128 {
        let shape = row_word(row, 2);
        let length = (shape >> 32) as u8;
        if wanted & mask(length) == first(row) {
            return Some(TableMatch { answer: Answer::from_word(row_word(row, 3)), length });
        }
        row = shape as u32;
        if row == NO_PARENT {
            return None;
        }
    }
    None
}

/// The answer of the block that contains every address, which comes first, if there is one.
pub(super) fn of_every_client(table: impl RuleWords) -> Option<Answer> {
    let row = |word: usize| table.word(HEADER_WORDS + word);
    let contains_all = table.word(ROWS) > 0 && row(0) == 0 && row(1) == 0 && row(2) >> 32 == 0;
    contains_all.then(|| Answer::from_word(row(3)))
}

/// The encoded rules by host name; empty if there are none.
pub(super) fn names(table: impl RuleWords) -> Vec<u8> {
    match table.word(NAMES) as u32 {
        0 => Vec::new(),
        start => text(table, start),
    }
}

/// Whether there are rules by host name.
pub(super) fn has_names(table: impl RuleWords) -> bool {
    table.word(NAMES) != 0
}

/// The text that begins at the word of this index.
pub(super) fn text(table: impl RuleWords, start: u32) -> Vec<u8> {
    let length = (table.word(start as usize) as usize).min(MAX_TEXT);
    let mut bytes: Vec<u8> =
        (0..length.div_ceil(8)).flat_map(|at| table.word(start as usize + 1 + at).to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::seqlock::SeqLocked;
    use super::*;
    use crate::system::random::Random;

    fn answer(rule: u32) -> Answer {
        Answer { rule, allows: rule.is_multiple_of(2), text: 0 }
    }

    fn table(blocks: &[(Prefix, u32)]) -> SeqLocked {
        let blocks = blocks.iter().map(|(block, rule)| (*block, answer(*rule))).collect();
        SeqLocked::new(&words(blocks, &[], &[], true), false).expect("memory")
    }

    fn rule_for(table: &SeqLocked, address: IpAddr) -> Option<u32> {
        table.read(|snapshot| find(snapshot, address)).map(|found| found.answer.rule)
    }

    #[test]
    fn the_most_specific_block_is_found() {
        let blocks = [
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.3", 3),
            ("10.1.0.0/24", 4),
            ("2001:db8::/32", 5),
            ("10.1.2.3", 6),
        ];
        let nested = table(&blocks.map(|(text, rule)| (text.parse().expect(text), rule)));
        for (address, rule) in [
            ("10.9.9.9", Some(1)),
            ("10.1.9.9", Some(2)),
            ("10.1.0.9", Some(4)),
            ("10.1.2.3", Some(6)),
            ("10.1.2.4", Some(2)),
            ("10.255.255.255", Some(1)),
            ("11.0.0.0", None),
            ("9.255.255.255", None),
            ("2001:db8::1", Some(5)),
            ("2001:db9::1", None),
            ("::1", None),
        ] {
            assert_eq!(rule_for(&nested, address.parse().expect(address)), rule, "{address}");
        }
        let last = IpAddr::from([255, 255, 255, 255]);
        assert_eq!(rule_for(&table(&[]), last), None);
        assert_eq!(rule_for(&table(&[("any".parse().expect("any"), 7)]), last), Some(7));
    }

    #[test]
    fn a_table_finds_the_same_block_as_a_linear_search() {
        let mut random = Random::new(7);
        for _ in 0..50 {
            // Blocks of a small network, so that many overlap.
            let blocks: Vec<(Prefix, u32)> = (0..200)
                .map(|number| {
                    let address = Ipv4Addr::from_bits(0x0a00_0000 | random.below(0x1000) as u32);
                    (Prefix::new(address.into(), 20 + random.below(13) as u8), number)
                })
                .collect();
            let table = table(&blocks);
            for _ in 0..200 {
                let address: IpAddr = Ipv4Addr::from_bits(0x0a00_0000 | random.below(0x2000) as u32).into();
                let single = Prefix::new(address, 32);
                let containing = blocks.iter().filter(|(prefix, _)| prefix.contains(single));
                let best = containing.max_by_key(|(prefix, number)| (prefix.to_parts().1, *number));
                assert_eq!(rule_for(&table, address), best.map(|(_, number)| *number), "{address}");
            }
        }
    }

    #[test]
    fn a_table_of_a_hundred_thousand_blocks_is_searched() {
        let blocks: Vec<(Prefix, u32)> = (0..100_000u32)
            .map(|number| (Prefix::new(Ipv4Addr::from_bits(number << 8).into(), 24), number))
            .collect();
        let table = table(&blocks);
        assert_eq!(rule_for(&table, [1, 134, 159, 255].into()), Some(99_999));
        assert_eq!(rule_for(&table, [1, 134, 160, 0].into()), None);
    }

    #[test]
    fn answers_refer_to_their_texts() {
        let answer = |text: u32| Answer { rule: text, allows: true, text };
        let blocks = vec![
            ("10.0.0.0/8".parse().expect("a block"), answer(2)),
            ("10.1.0.0/16".parse().expect("a block"), answer(0)),
            ("10.2.0.0/16".parse().expect("a block"), answer(1)),
        ];
        let texts = [b"short".to_vec(), b"longer than a word".to_vec()];
        let table = SeqLocked::new(&words(blocks, &texts, b"names", false), false).expect("memory");
        for (address, expected) in [
            ([10, 9, 9, 9], Some("longer than a word")),
            ([10, 1, 1, 1], None),
            ([10, 2, 0, 1], Some("short")),
        ] {
            let start = table.read(|snapshot| find(snapshot, address.into())).expect("a block").answer.text;
            let found = (start != 0).then(|| table.read(|snapshot| text(snapshot, start)));
            assert_eq!(found.as_deref(), expected.map(str::as_bytes));
        }
        assert!(
            !table.read(|snapshot| default_allows(snapshot)) && table.read(|snapshot| has_names(snapshot))
        );
        assert_eq!(table.read(|snapshot| names(snapshot)), b"names");
    }

    #[test]
    fn a_search_of_invalid_words_ends() {
        // The words as a reader may see them while they are rewritten: every one is wrong.
        let table = SeqLocked::new(&vec![u64::MAX / 3; 4000], false).expect("memory");
        let _ = table.read(|snapshot| find(snapshot, [10, 0, 0, 1].into()));
        // A row that is its own parent.
        let cycle = SeqLocked::new(&[1, 0, 0, 0, 1, 128 << 32, 0], false).expect("memory");
        assert_eq!(cycle.read(|snapshot| find(snapshot, [10, 0, 0, 1].into())), None);
        assert!(table.read(|snapshot| text(snapshot, 5)).len() <= MAX_TEXT);
    }
}
