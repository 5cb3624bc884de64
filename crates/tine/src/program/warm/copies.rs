//! Searches memory for values of the placeholder that a program has copied out of its environment.

use std::collections::BTreeSet;

use super::placeholder::Token;

/// Bytes by which two pieces of memory that are searched one after the other overlap: more than a
/// value with its name.
pub(super) const OVERLAP: usize = 128;

/// The variables of which the memory has a copy of its own: the value without the name and `=` in
/// front of it. A copy with its name is what the C library's getenv(3) sees, and can be written
/// over. What lies in the first `seen` bytes was searched before: it is here for the names.
pub(super) fn private_copies(memory: &[u8], seen: usize, tokens: &[Token]) -> BTreeSet<&'static str> {
    let mut begins = [false; 256];
    tokens.iter().for_each(|token| begins[usize::from(token.bytes[0])] = true);
    let mut found = BTreeSet::new();
    for (at, byte) in memory.iter().enumerate() {
        if begins[usize::from(*byte)] {
            // With the byte behind it.
            let is_new = |token: &&Token| at + token.bytes.len() >= seen;
            let here = tokens.iter().filter(is_new).filter(|token| memory[at..].starts_with(&token.bytes));
            let private = here.filter(|token| is_private(memory, at, token));
            found.extend(private.flat_map(|token| token.names));
        }
    }
    found
}

fn is_private(memory: &[u8], at: usize, token: &Token) -> bool {
    let before = &memory[..at];
    if token.names.iter().any(|name| has_name(before, name)) {
        return false;
    }
    let next = memory.get(at + token.bytes.len());
    let continues = before.last().is_some_and(u8::is_ascii_alphanumeric);
    !token.is_short || next == Some(&0) && !continues
}

fn has_name(before: &[u8], name: &str) -> bool {
    before.strip_suffix(b"=").is_some_and(|before| before.ends_with(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_its_name_is_a_private_copy() {
        let token =
            |names, value: &str| Token { names, is_short: value.len() < 8, bytes: value.as_bytes().to_vec() };
        let tokens =
            [token(&["TCPREMOTEIP", "REMOTE_ADDR"], "2001:db8::7"), token(&["REMOTE_PORT"], "51234")];
        for (memory, expected) in [
            ("REMOTE_ADDR=2001:db8::7\0TCPREMOTEIP=2001:db8::7\0REMOTE_PORT=51234\0", &[][..]),
            ("\x012001:db8::7\0", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("2001:db8::7", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("CLIENT=2001:db8::7\0", &["REMOTE_ADDR", "TCPREMOTEIP"]),
            ("\x0051234\0", &["REMOTE_PORT"]),
            ("51234\0", &["REMOTE_PORT"]),
            ("\x00512345\0", &[]),
            ("\x00151234\0", &[]),
            ("\x0051234", &[]),
            ("REMOTE_PORT=51234\0 51234\0", &["REMOTE_PORT"]),
            ("", &[]),
        ] {
            let found: Vec<_> = private_copies(memory.as_bytes(), 0, &tokens).into_iter().collect();
            assert_eq!(found, expected, "{memory:?}");
        }
        // The name of the first value is cut off.
        let memory = b"DR=2001:db8::7\0TCPREMOTEIP=2001:db8::7\0";
        assert_eq!(private_copies(memory, 20, &tokens).len(), 0);
        assert_eq!(private_copies(memory, 0, &tokens).len(), 2);
    }
}
