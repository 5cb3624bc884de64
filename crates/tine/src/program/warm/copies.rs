//! Searches memory for values of the placeholder that a program has copied out of its environment,
//! and for its stack canary.

use std::collections::BTreeSet;

use super::placeholder::Token;

/// Bytes by which two pieces of memory that are searched one after the other overlap: more than a
/// value with its name.
pub(super) const OVERLAP: usize = 128;

/// What was found in the memory of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryFinds {
    /// The variables that it has copied without their names.
    pub(super) private: BTreeSet<&'static str>,
    /// Values behind `NAME=`, as the C library's getenv(3) sees them.
    pub(super) places: Vec<ValuePlace>,
    /// The addresses of its stack canary, where functions that run have left it, too.
    pub(super) canaries: Vec<u64>,
}

/// A value of a variable that can be written over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValuePlace {
    pub(super) name: String,
    pub(super) address: u64,
    /// The length of the value, without its zero byte.
    pub(super) length: usize,
}

/// A piece of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// Where it is in the program.
    pub(super) address: u64,
    /// Bytes at its beginning that were searched before: they are here for the names.
    pub(super) seen: usize,
}

impl MemoryFinds {
    /// Adds what is in a piece. A value with its name can be written over; one without is the
    /// program's own. `canary`: the value that protects its stack, if it has one.
    pub(super) fn search(&mut self, piece: Piece, tokens: &[Token], canary: Option<u64>) {
        let mut begins = [false; 256];
        tokens.iter().for_each(|token| begins[usize::from(token.bytes[0])] = true);
        let Piece { bytes, address, seen } = piece;
        for (at, byte) in bytes.iter().enumerate() {
            if begins[usize::from(*byte)] {
                // With the byte behind it.
                let is_new = |token: &&Token| at + token.bytes.len() >= seen;
                let here = tokens.iter().filter(is_new).filter(|token| bytes[at..].starts_with(&token.bytes));
                for token in here {
                    let next = bytes.get(at + token.bytes.len());
                    match (name_before(&bytes[..at], token), next) {
                        (Some(name), Some(0)) => self.places.push(ValuePlace {
                            name: name.to_owned(),
                            address: address + at as u64,
                            length: token.bytes.len(),
                        }),
                        // It is seen again with what is behind it.
                        (Some(_), None) => {}
                        _ if is_private(bytes, at, token) => self.private.extend(token.names),
                        _ => {}
                    }
                }
            }
        }
        let Some(canary) = canary.map(u64::to_ne_bytes) else { return };
        let words = bytes[seen..].chunks_exact(8).enumerate();
        let same = words.filter(|(_, word)| **word == canary);
        self.canaries.extend(same.map(|(number, _)| address + (seen + 8 * number) as u64));
    }
}

/// The name in front of a value, as in an environment.
fn name_before(before: &[u8], token: &Token) -> Option<&'static str> {
    let before = before.strip_suffix(b"=")?;
    token.names.iter().find(|name| before.ends_with(name.as_bytes())).copied()
}

fn is_private(memory: &[u8], at: usize, token: &Token) -> bool {
    let next = memory.get(at + token.bytes.len());
    let continues = memory[..at].last().is_some_and(u8::is_ascii_alphanumeric);
    !token.is_short || next == Some(&0) && !continues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> [Token; 2] {
        let token =
            |names, value: &str| Token { names, is_short: value.len() < 8, bytes: value.as_bytes().to_vec() };
        [token(&["TCPREMOTEIP", "REMOTE_ADDR"], "2001:db8::7"), token(&["REMOTE_PORT"], "51234")]
    }

    fn found(bytes: &[u8], seen: usize) -> MemoryFinds {
        let mut found = MemoryFinds::default();
        found.search(Piece { bytes, address: 0x1000, seen }, &tokens(), None);
        found
    }

    #[test]
    fn a_value_without_its_name_is_a_private_copy() {
        for (memory, expected) in [
            ("REMOTE_ADDR=2001:db8::7\0TCPREMOTEIP=2001:db8::7\0REMOTE_PORT=51234\0", &[][..]),
            ("\x012001:db8::7\0", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("2001:db8::7", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("CLIENT=2001:db8::7\0", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("REMOTE_ADDR=2001:db8::7\n", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("\x0051234\0", &["REMOTE_PORT"]),
            ("51234\0", &["REMOTE_PORT"]),
            ("\x00512345\0", &[]),
            ("\x00151234\0", &[]),
            ("\x0051234", &[]),
            ("REMOTE_PORT=51234\0 51234\0", &["REMOTE_PORT"]),
            ("", &[]),
        ] {
            let found: Vec<_> = found(memory.as_bytes(), 0).private.into_iter().collect();
            assert_eq!(found, expected, "{memory:?}");
        }
        // The name of the first value is cut off.
        let memory = b"DR=2001:db8::7\0TCPREMOTEIP=2001:db8::7\0";
        assert_eq!(found(memory, 20).private.len(), 0);
        assert_eq!(found(memory, 0).private.len(), 2);
    }

    #[test]
    fn a_value_with_its_name_is_a_place() {
        let memory = b"xREMOTE_ADDR=2001:db8::7\0REMOTE_PORT=51234\0";
        let place = |name: &str, address, length| ValuePlace { name: name.into(), address, length };
        assert_eq!(
            found(memory, 0).places,
            [place("REMOTE_ADDR", 0x100d, 11), place("REMOTE_PORT", 0x1025, 5)]
        );
        // Searched before.
        assert_eq!(found(memory, 26).places, [place("REMOTE_PORT", 0x1025, 5)]);
    }

    #[test]
    fn canaries_are_whole_words() {
        let words = [1, 0x1122_3344_5566_7700, 0x2233_4455_6677_0011, 0x1122_3344_5566_7700_u64];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut found = MemoryFinds::default();
        found.search(Piece { bytes: &bytes, address: 0x1000, seen: 0 }, &tokens(), Some(words[1]));
        assert_eq!(found.canaries, [0x1008, 0x1018]);
        let mut rest = MemoryFinds::default();
        rest.search(Piece { bytes: &bytes, address: 0x1000, seen: 16 }, &tokens(), Some(words[1]));
        assert_eq!(rest.canaries, [0x1018]);
    }
}
