//! The address families of sockets (address_families(7)) that a filter allows.

use std::str::FromStr;

use rustix::net::AddressFamily;
use seccompiler::{SeccompCmpOp, SeccompRule};

use super::rule::rule;
use crate::error::Error;

/// Address families: those that are allowed, or those that are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    allows: bool,
    numbers: Vec<u16>,
}

impl Families {
    /// Those of a jail.
    pub(super) fn of_a_jail() -> Families {
        let families = [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];
        Families { allows: true, numbers: families.map(AddressFamily::as_raw).into() }
    }

    /// The conditions of socket(2) and socketpair(2).
    pub(super) fn rules(&self) -> Vec<SeccompRule> {
        let numbers = self.numbers.iter().map(|number| u64::from(*number));
        match self.allows {
            true => numbers.filter_map(|number| rule(&[(0, SeccompCmpOp::Eq, number)])).collect(),
            false => {
                let none = numbers.map(|number| (0, SeccompCmpOp::Ne, number)).collect::<Vec<_>>();
                rule(&none).into_iter().collect()
            }
        }
    }

    pub(super) fn has(&self, family: AddressFamily) -> bool {
        self.numbers.contains(&family.as_raw()) == self.allows
    }
}

const FAMILIES: &[(&str, AddressFamily)] = &[
    ("AF_UNIX", AddressFamily::UNIX),
    ("AF_LOCAL", AddressFamily::UNIX),
    ("AF_INET", AddressFamily::INET),
    ("AF_INET6", AddressFamily::INET6),
    ("AF_NETLINK", AddressFamily::NETLINK),
    ("AF_PACKET", AddressFamily::PACKET),
    ("AF_KEY", AddressFamily::KEY),
    ("AF_X25", AddressFamily::X25),
    ("AF_AX25", AddressFamily::AX25),
    ("AF_IPX", AddressFamily::IPX),
    ("AF_APPLETALK", AddressFamily::APPLETALK),
    ("AF_LLC", AddressFamily::LLC),
    ("AF_CAN", AddressFamily::CAN),
    ("AF_TIPC", AddressFamily::TIPC),
    ("AF_BLUETOOTH", AddressFamily::BLUETOOTH),
    ("AF_ALG", AddressFamily::from_raw(38)),
    ("AF_NFC", AddressFamily::from_raw(39)),
    ("AF_VSOCK", AddressFamily::from_raw(40)),
    ("AF_QIPCRTR", AddressFamily::from_raw(42)),
    ("AF_SMC", AddressFamily::from_raw(43)),
    ("AF_XDP", AddressFamily::from_raw(44)),
];

impl FromStr for Families {
    type Err = Error;

    fn from_str(text: &str) -> Result<Families, Error> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words == ["none"] {
            return Ok(Families { allows: true, numbers: Vec::new() });
        }
        let refused = words.iter().filter(|word| word.starts_with('~')).count();
        if words.is_empty() || (refused != 0 && refused != words.len()) {
            return Err(Error::usage(
                format_args!("{text:?} is no list of address families"),
                "name those that are allowed, as in AF_UNIX AF_INET, or each that is refused, as in ~AF_PACKET, or write none",
            ));
        }
        let number = |word: &&str| {
            let name = word.trim_start_matches('~');
            let found = FAMILIES.iter().find(|(known, _)| *known == name);
            found.map(|(_, family)| family.as_raw()).ok_or_else(|| {
                Error::usage(
                    format_args!("there is no address family {name:?}"),
                    "name them as address_families(7) does, as in AF_INET6",
                )
            })
        };
        Ok(Families { allows: refused == 0, numbers: words.iter().map(number).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_allowed_or_refused() {
        for (text, unix, netlink) in [
            ("AF_UNIX", true, false),
            ("AF_UNIX AF_NETLINK", true, true),
            ("~AF_NETLINK", true, false),
            ("~AF_UNIX ~AF_NETLINK", false, false),
            ("none", false, false),
        ] {
            let families: Families = text.parse().expect(text);
            assert_eq!(families.has(AddressFamily::UNIX), unix, "{text}");
            assert_eq!(families.has(AddressFamily::NETLINK), netlink, "{text}");
        }
        for text in ["", "AF_NOTHING", "AF_UNIX ~AF_INET", "none AF_UNIX", "unix"] {
            text.parse::<Families>().expect_err(text);
        }
    }
}
