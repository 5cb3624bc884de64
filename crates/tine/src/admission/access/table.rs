//! The most specific of many blocks that an address is in, found in logarithmic time, in words that can lie in shared
//! memory.

use std::net::IpAddr;

use super::prefix::{Prefix, bits, mask};
use super::words::RuleWords;

/// No block around it.
const NONE: u32 = u32::MAX;

// The words: how many rows, what holds where no row does, where the rules about names are (0 if there are none), then the
// rows, then the texts, of which those rules are the last.
const ROWS: usize = 0;
const OTHERWISE: usize = 1;
const NAMES: usize = 2;
const HEAD: usize = 3;
/// Bytes of a text, at most.
pub(super) const LONGEST: usize = 1 << 20;
// A row: the first address (two words), length and the row of the block around it, the answer.
const ROW_WORDS: usize = 4;

/// What a block stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The rule.
    pub(super) rule: u32,
    /// Whether it allows.
    pub(super) allows: bool,
    /// Where its text is, beside the table; 0 if it has none.
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

/// A block's answer and the number of leading bits by which it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableMatch {
    pub(super) answer: Answer,
    pub(super) length: u8,
}

/// The words of a table of these, of equal blocks the last one, and of texts, each with its index as the answers know it; and of
/// rules about names, as [`super::names`] has them.
pub(super) fn words(
    mut blocks: Vec<(Prefix, Answer)>,
    texts: &[Vec<u8>],
    names: &[u8],
    otherwise: bool,
) -> Vec<u64> {
    // Stable: of equal ones, the last comes last.
    blocks.sort_by_key(|(prefix, _)| *prefix);
    blocks.reverse();
    blocks.dedup_by_key(|(prefix, _)| *prefix);
    blocks.reverse();
    let mut all = vec![blocks.len() as u64, u64::from(otherwise), 0];
    let mut enclosing: Vec<u32> = Vec::new();
    let mut places = Vec::with_capacity(texts.len());
    let mut next = HEAD + blocks.len() * ROW_WORDS;
    for text in texts {
        places.push(next as u32);
        next += 1 + text.len().div_ceil(8);
    }
    for (at, (prefix, answer)) in blocks.iter().enumerate() {
        while enclosing.last().is_some_and(|outer| !blocks[*outer as usize].0.contains(*prefix)) {
            enclosing.pop();
        }
        let (first, length) = prefix.to_parts();
        let parent = enclosing.last().copied().unwrap_or(NONE);
        let text = (answer.text as usize).checked_sub(1).and_then(|index| places.get(index)).copied();
        let answer = Answer { text: text.unwrap_or(0), ..*answer };
        let shape = u64::from(length) << 32 | u64::from(parent);
        all.extend([(first >> 64) as u64, first as u64, shape, answer.to_word()]);
        enclosing.push(at as u32);
    }
    texts.iter().for_each(|text| push_text(&mut all, text));
    if !names.is_empty() {
        all[NAMES] = all.len() as u64;
        push_text(&mut all, names);
    }
    all
}

fn push_text(all: &mut Vec<u64>, text: &[u8]) {
    all.push(text.len() as u64);
    all.extend(text.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }));
}

/// What holds where no block is around an address.
pub(super) fn otherwise(table: impl RuleWords) -> bool {
    table.word(OTHERWISE) == 1
}

/// What the most specific block that an address is in stands for.
pub(super) fn find(table: impl RuleWords, address: IpAddr) -> Option<TableMatch> {
    let wanted = bits(address);
    let row = |at: u32, word: usize| table.word(HEAD + at as usize * ROW_WORDS + word);
    let first = |at: u32| u128::from(row(at, 0)) << 64 | u128::from(row(at, 1));
    let (mut low, mut high) = (0, table.word(ROWS) as u32);
    while low < high {
        let middle = low + (high - low) / 2;
        if first(middle) <= wanted { low = middle + 1 } else { high = middle }
    }
    // Blocks before it that do not have the address lie within those that may.
    let mut at = low.checked_sub(1)?;
    // No address lies in more blocks than it has bits, but for words that change meanwhile.
    for _ in 0..=128 {
        let shape = row(at, 2);
        let length = (shape >> 32) as u8;
        if wanted & mask(length) == first(at) {
            return Some(TableMatch { answer: Answer::from_word(row(at, 3)), length });
        }
        at = shape as u32;
        if at == NONE {
            return None;
        }
    }
    None
}

/// The rules about names; nothing where there are none.
pub(super) fn names(table: impl RuleWords) -> Vec<u8> {
    match table.word(NAMES) as u32 {
        0 => Vec::new(),
        place => text(table, place),
    }
}

/// Whether there are rules about names.
pub(super) fn has_names(table: impl RuleWords) -> bool {
    table.word(NAMES) != 0
}

/// A text beside the table.
pub(super) fn text(table: impl RuleWords, place: u32) -> Vec<u8> {
    let length = (table.word(place as usize) as usize).min(LONGEST);
    let mut bytes: Vec<u8> =
        (0..length.div_ceil(8)).flat_map(|at| table.word(place as usize + 1 + at).to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::seqlock::SeqLocked;
    use super::*;

    fn answer(rule: u32) -> Answer {
        Answer { rule, allows: rule.is_multiple_of(2), text: 0 }
    }

    fn table(blocks: &[(Prefix, u32)]) -> SeqLocked {
        let blocks = blocks.iter().map(|(block, rule)| (*block, answer(*rule))).collect();
        SeqLocked::new(&words(blocks, &[], &[], true), false).expect("memory")
    }

    fn rule_for(table: &SeqLocked, address: IpAddr) -> Option<u32> {
        table.read(|edition| find(edition, address)).map(|found| found.answer.rule)
    }

    #[test]
    fn the_most_specific_block_counts() {
        let blocks = [
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.3", 3),
            ("10.1.0.0/24", 4),
            ("2001:db8::/32", 5),
            ("10.1.2.3", 6),
        ];
        let some = table(&blocks.map(|(text, rule)| (text.parse().expect(text), rule)));
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
            assert_eq!(rule_for(&some, address.parse().expect(address)), rule, "{address}");
        }
        let here = IpAddr::from([255, 255, 255, 255]);
        assert_eq!(rule_for(&table(&[]), here), None);
        assert_eq!(rule_for(&table(&[("any".parse().expect("any"), 7)]), here), Some(7));
    }

    #[test]
    fn as_a_search_of_all_blocks_would() {
        // Numbers that look random, the same each time, in a small space so that blocks overlap.
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        for _ in 0..50 {
            let blocks: Vec<(Prefix, u32)> = (0..200)
                .map(|number| {
                    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 | random() & 0xfff);
                    (Prefix::new(address.into(), 20 + (random() % 13) as u8), number)
                })
                .collect();
            let table = table(&blocks);
            for _ in 0..200 {
                let address: IpAddr = std::net::Ipv4Addr::from_bits(0x0a00_0000 | random() & 0x1fff).into();
                let own = Prefix::new(address, 32);
                let holds = blocks.iter().filter(|(prefix, _)| prefix.contains(own));
                let best = holds.max_by_key(|(prefix, number)| (prefix.to_parts().1, *number));
                assert_eq!(rule_for(&table, address), best.map(|(_, number)| *number), "{address}");
            }
        }
    }

    #[test]
    fn a_hundred_thousand_blocks() {
        let blocks: Vec<(Prefix, u32)> = (0..100_000u32)
            .map(|number| (Prefix::new(std::net::Ipv4Addr::from_bits(number << 8).into(), 24), number))
            .collect();
        let table = table(&blocks);
        assert_eq!(rule_for(&table, [1, 134, 159, 255].into()), Some(99_999));
        assert_eq!(rule_for(&table, [1, 134, 160, 0].into()), None);
    }

    #[test]
    fn texts_lie_beside_their_blocks() {
        let with = |text: u32| Answer { rule: text, allows: true, text };
        let blocks = vec![
            ("10.0.0.0/8".parse().expect("a block"), with(2)),
            ("10.1.0.0/16".parse().expect("a block"), with(0)),
            ("10.2.0.0/16".parse().expect("a block"), with(1)),
        ];
        let texts = [b"short".to_vec(), b"longer than a word".to_vec()];
        let table = SeqLocked::new(&words(blocks, &texts, b"names", false), false).expect("memory");
        for (address, said) in [
            ([10, 9, 9, 9], Some("longer than a word")),
            ([10, 1, 1, 1], None),
            ([10, 2, 0, 1], Some("short")),
        ] {
            let place = table.read(|edition| find(edition, address.into())).expect("a block").answer.text;
            let found = (place != 0).then(|| table.read(|edition| text(edition, place)));
            assert_eq!(found.as_deref(), said.map(str::as_bytes));
        }
        assert!(!table.read(|table| otherwise(table)) && table.read(|table| has_names(table)));
        assert_eq!(table.read(|table| names(table)), b"names");
    }

    #[test]
    fn nonsense_ends() {
        // As if another edition were being written: every word is wrong.
        let table = SeqLocked::new(&vec![u64::MAX / 3; 4000], false).expect("memory");
        let _ = table.read(|edition| find(edition, [10, 0, 0, 1].into()));
        let loops = SeqLocked::new(&[1, 0, 0, 0, 1, 128 << 32, 0], false).expect("memory");
        assert_eq!(loops.read(|edition| find(edition, [10, 0, 0, 1].into())), None);
        assert!(table.read(|edition| text(edition, 5)).len() <= LONGEST);
    }
}
