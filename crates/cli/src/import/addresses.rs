//! Addresses as other super-servers write them.

use std::net::{IpAddr, Ipv4Addr};

use super::World;

/// The blocks of an entry of xinetd's `only_from`; `None` if it is not an address.
///
/// `1.2.3.4`, `1.2.3.0` (zeros at the end stand for anything), `1.2.{3,4}`, `1.2.3.0/24`,
/// `2001:db8::/32`.
pub(super) fn blocks(text: &str) -> Option<Vec<String>> {
    if let Some((start, rest)) = text.split_once('{') {
        let inner = rest.strip_suffix('}')?;
        let one = |last: &str| blocks(&format!("{start}{}", last.trim()));
        return inner.split(',').map(one).collect::<Option<Vec<_>>>().map(|all| all.concat());
    }
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        return Some(vec![block(address, length.parse().ok()?)?]);
    }
    if let Ok(IpAddr::V6(address)) = text.parse() {
        return Some(vec![address.to_string()]);
    }
    let parts = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u8>>>()?;
    if parts.len() > 4 {
        return None;
    }
    let mut bytes = [0; 4];
    bytes[..parts.len()].copy_from_slice(&parts);
    // Fewer numbers, or zeros at the end, stand for the network.
    let meant = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    block(Ipv4Addr::from(bytes).into(), meant as u8 * 8).map(|block| vec![block])
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
            ("128.138", "128.138.0.0/16"),
            ("128.138.{209,210.0}", "128.138.209.0/24 128.138.210.0/24"),
            ("1.2.3.{4, 5}", "1.2.3.4 1.2.3.5"),
            ("172.16.5.9/16", "172.16.0.0/16"),
            ("10.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::", "::"),
        ] {
            assert_eq!(blocks(text).map(|all| all.join(" ")).as_deref(), Some(meant), "{text}");
        }
        for text in
            ["", "localhost", ".example.com", "1.2.3.4.5", "1.2.3.4/33", "1.2.{3", "::/129", "300.1.1.1"]
        {
            assert_eq!(blocks(text), None, "{text}");
        }
    }
}
