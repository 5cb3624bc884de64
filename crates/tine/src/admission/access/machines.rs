//! Rules about clients of vsock sockets: by the context identifier of their machine.

use crate::error::Error;

/// What a rule about a machine begins with.
const VSOCK: &str = "vsock:";

/// The rules, each with whether it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineRules(Vec<(u32, bool)>);

impl MachineRules {
    /// Whether a rule is one about a machine.
    pub(super) fn are_meant(text: &str) -> bool {
        text.starts_with(VSOCK)
    }

    /// Adds a rule about `vsock:CID`.
    ///
    /// # Errors
    /// The text is no such rule, or another rule contradicts it.
    pub(super) fn add(&mut self, text: &str, allows: bool) -> Result<(), Error> {
        let number = text.strip_prefix(VSOCK).filter(|cid| cid.bytes().all(|byte| byte.is_ascii_digit()));
        let cid = number.and_then(|cid| cid.parse().ok()).ok_or_else(|| {
            Error::usage(
                format_args!("invalid machine '{text}'"),
                "write vsock:CID, with a number from 0 to 4294967295",
            )
        })?;
        if self.0.contains(&(cid, !allows)) {
            return Err(Error::usage(
                format_args!("'{text}' is both allowed and denied"),
                "remove one of them",
            ));
        }
        self.0.push((cid, allows));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the rules allow a machine; `None` if they do not decide about it. Once one is
    /// allowed, the others are denied.
    pub(super) fn decide(&self, cid: u32) -> Option<bool> {
        let own = self.0.iter().find(|(machine, _)| *machine == cid).map(|(_, allows)| *allows);
        own.or(self.0.iter().any(|(_, allows)| *allows).then_some(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[(&str, bool)]) -> MachineRules {
        let mut rules = MachineRules::default();
        texts.iter().for_each(|(text, allows)| rules.add(text, *allows).expect(text));
        rules
    }

    #[test]
    fn machines_are_allowed_and_denied() {
        for (texts, cid, expected) in [
            (&[][..], 2, None),
            (&[("vsock:2", true)], 2, Some(true)),
            (&[("vsock:2", true)], 3, Some(false)),
            (&[("vsock:2", false)], 2, Some(false)),
            (&[("vsock:2", false)], 3, None),
            (&[("vsock:2", false), ("vsock:3", true)], 4, Some(false)),
            (&[("vsock:4294967295", true)], u32::MAX, Some(true)),
        ] {
            assert_eq!(rules(texts).decide(cid), expected, "{texts:?} {cid}");
        }
    }

    #[test]
    fn invalid_rules_are_refused() {
        for text in ["vsock:", "vsock", "vsock:-1", "vsock:+1", "vsock:4294967296", "vsock:2:1", "2"] {
            MachineRules::default().add(text, true).expect_err(text);
        }
        rules(&[("vsock:1", true)]).add("vsock:1", false).expect_err("a contradiction");
        rules(&[("vsock:1", true)]).add("vsock:1", true).expect("twice the same is none");
    }
}
