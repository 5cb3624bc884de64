//! Addresses as other super-servers write them.

use std::net::{IpAddr, Ipv4Addr};

use super::World;

/// The blocks of an entry of xinetd's `only_from`; `None` if it is not an address.
///
/// `1.2.3.4`, `1.2.3.0` (zeros at the end stand for anything), `1.2.{3,4}` (blocks of three
/// numbers), `1.2.3.0/24`, `2001:db8::/32`. `1.2` is an address of inet(3), 1.0.0.2.
pub(super) fn blocks(text: &str) -> Option<Vec<String>> {
    if let Some((start, rest)) = text.split_once('{') {
        let inner = rest.strip_suffix('}')?;
        let decimal = |part: &str| part.parse::<u8>().ok();
        let start = match start {
            "" => Vec::new(),
            start => start.strip_suffix('.')?.split('.').map(decimal).collect::<Option<Vec<u8>>>()?,
        };
        let one = |last: &str| {
            let mut bytes = [0; 4];
            bytes.get_mut(..start.len())?.copy_from_slice(&start);
            *bytes.get_mut(start.len())? = decimal(last)?;
            block(Ipv4Addr::from(bytes).into(), (start.len() as u8 + 1) * 8)
        };
        return inner.split(',').map(one).collect();
    }
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        return Some(vec![block(address, length.parse().ok()?)?]);
    }
    if let Ok(IpAddr::V6(address)) = text.parse() {
        return Some(vec![address.to_string()]);
    }
    let bytes = inet(text)?;
    // Zeros at the end stand for the network.
    let meant = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    block(Ipv4Addr::from(bytes).into(), meant as u8 * 8).map(|block| vec![block])
}

/// An address as inet(3) reads it: the last of one to four numbers fills the rest, and numbers may
/// be octal or hexadecimal.
fn inet(text: &str) -> Option<[u8; 4]> {
    let number = |part: &str| match (part.strip_prefix("0x").or(part.strip_prefix("0X")), part) {
        (Some(hex), _) => u32::from_str_radix(hex, 16).ok(),
        (None, part) if !part.bytes().all(|byte| byte.is_ascii_digit()) => None,
        (None, part) if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        (None, part) => part.parse().ok(),
    };
    let parts = text.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = parts.split_last()?;
    let rest = 4_usize.checked_sub(first.len()).filter(|rest| *rest > 0)?;
    let mut bytes = [0; 4];
    for (byte, part) in bytes.iter_mut().zip(first) {
        *byte = u8::try_from(*part).ok()?;
    }
    let last_bytes = last.to_be_bytes();
    let (beyond, used) = last_bytes.split_at(4 - rest);
    bytes[first.len()..].copy_from_slice(used);
    beyond.iter().all(|byte| *byte == 0).then_some(bytes)
}

/// Whether a block contains another one, or an address. Both are written as [`blocks`] does.
pub(super) fn contains(outer: &str, inner: &str) -> bool {
    let parse = |text: &str| {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().ok()?;
        let length = match length {
            "" if address.is_ipv4() => 32,
            "" => 128,
            length => length.parse::<u8>().ok()?,
        };
        Some((address, length))
    };
    let (Some((outer, length)), Some((inner, inner_length))) = (parse(outer), parse(inner)) else {
        return false;
    };
    inner_length >= length
        && outer.is_ipv4() == inner.is_ipv4()
        && block(inner, length) == block(outer, length)
}

/// A block without the bits beyond its length.
fn block(address: IpAddr, length: u8) -> Option<String> {
    match address {
        IpAddr::V4(_) if length == 32 => Some(address.to_string()),
        IpAddr::V6(_) if length == 128 => Some(address.to_string()),
        IpAddr::V4(address) if length < 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Some(format!("{}/{length}", Ipv4Addr::from_bits(address.to_bits() & mask)))
        }
        IpAddr::V6(address) if length < 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Some(format!("{}/{length}", std::net::Ipv6Addr::from_bits(address.to_bits() & mask)))
        }
        _ => None,
    }
}

/// An address to listen on.
pub(super) fn listen(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// A port by its number or its name.
pub(super) fn port(text: &str, world: &dyn World) -> Option<u16> {
    text.parse().ok().or_else(|| world.port(text)).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_access_lists() {
        for (text, meant) in [
            ("192.168.1.1", "192.168.1.1"),
            ("192.168.1.0", "192.168.1.0/24"),
            ("192.168.0.0", "192.168.0.0/16"),
            ("10.0.0.0", "10.0.0.0/8"),
            ("0.0.0.0", "0.0.0.0/0"),
            ("128.138", "128.0.0.138"),
            ("10.257", "10.0.1.1"),
            ("127", "0.0.0.127"),
            ("010.0x10.0.1", "8.16.0.1"),
            ("128.138.{209,210}", "128.138.209.0/24 128.138.210.0/24"),
            ("128.{138,0}", "128.138.0.0/16 128.0.0.0/16"),
            ("{10,127}", "10.0.0.0/8 127.0.0.0/8"),
            ("1.2.3.{4,5}", "1.2.3.4 1.2.3.5"),
            ("172.16.5.9/16", "172.16.0.0/16"),
            ("10.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::", "::"),
        ] {
            assert_eq!(blocks(text).map(|all| all.join(" ")).as_deref(), Some(meant), "{text}");
        }
        for text in [
            "",
            "localhost",
            ".example.com",
            "1.2.3.4.5",
            "1.2.3.4/33",
            "1.2.{3",
            "1.2.{3.4}",
            "1.2{3}",
            "1.2.3.4.{5}",
            "::/129",
            "300.1.1.1",
            "1.256.1.1",
            "1.2.3.256",
            "1.2.65536",
            "1..2",
            "08.1.1.1",
            "+1.2.3.4",
        ] {
            assert_eq!(blocks(text), None, "{text}");
        }
    }

    #[test]
    fn blocks_contain_blocks() {
        for (outer, inner, is_inside) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8::7", true),
            ("2001:db8::/32", "=gate", false),
            ("=gate", "=gate", false),
        ] {
            assert_eq!(contains(outer, inner), is_inside, "{outer} {inner}");
        }
    }
}
