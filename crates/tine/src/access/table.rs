//! The most specific of many blocks that an address is in, found in logarithmic time. The table lies in memory that
//! forks share and nobody can change: one of 100,000 blocks would otherwise make each fork copy its page tables,
//! and a connection that was broken into could let others in.

use std::io;
use std::net::IpAddr;

use tine_sys::memory::{Frozen, Region};

use super::prefix::{Prefix, bits, mask};

/// No block around it.
const NONE: u32 = u32::MAX;

/// Blocks with a number each. A row has the first address (two words), length and the row of the block around it,
/// the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    rows: Frozen<4>,
}

impl Table {
    /// A table of these. Of equal blocks the last one counts.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(mut blocks: Vec<(Prefix, u32)>) -> io::Result<Table> {
        // Stable: of equal ones, the last comes last.
        blocks.sort_by_key(|(prefix, _)| *prefix);
        blocks.reverse();
        blocks.dedup_by_key(|(prefix, _)| *prefix);
        blocks.reverse();
        let mut rows = Vec::with_capacity(blocks.len());
        let mut around: Vec<u32> = Vec::new();
        for (at, (prefix, number)) in blocks.iter().enumerate() {
            while around.last().is_some_and(|outer| !blocks[*outer as usize].0.contains(*prefix)) {
                around.pop();
            }
            let (first, length) = prefix.to_parts();
            let parent = around.last().copied().unwrap_or(NONE);
            let shape = u64::from(length) << 32 | u64::from(parent);
            rows.push([(first >> 64) as u64, first as u64, shape, u64::from(*number)]);
            around.push(at as u32);
        }
        Ok(Table { rows: Frozen::new(&rows)? })
    }

    /// Where it lies in memory, if it has any rows.
    pub(crate) fn region(&self) -> Option<Region> {
        self.rows.region()
    }

    /// The number of the most specific block that an address is in.
    pub(crate) fn find(&self, address: IpAddr) -> Option<u32> {
        let wanted = bits(address);
        let after = self.rows.partition_point(|row| first_of(row) <= wanted);
        // Blocks before it that do not have the address lie within those that may.
        let mut at = after.checked_sub(1)? as u32;
        while at != NONE {
            let row = &self.rows[at as usize];
            let shape = row[2];
            if wanted & mask((shape >> 32) as u8) == first_of(row) {
                return Some(row[3] as u32);
            }
            at = shape as u32;
        }
        None
    }
}

fn first_of(row: &[u64; 4]) -> u128 {
    u128::from(row[0]) << 64 | u128::from(row[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(blocks: &[(&str, u32)]) -> Table {
        let blocks = blocks.iter().map(|(text, value)| (text.parse().expect(text), *value));
        Table::new(blocks.collect()).expect("memory")
    }

    fn find(table: &Table, address: &str) -> Option<u32> {
        table.find(address.parse().expect(address))
    }

    #[test]
    fn the_most_specific_block_counts() {
        let table = table(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.3", 3),
            ("10.1.0.0/24", 4),
            ("2001:db8::/32", 5),
            ("10.1.2.3", 6),
        ]);
        for (address, value) in [
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
            assert_eq!(find(&table, address), value, "{address}");
        }
        assert_eq!(find(&Table::new(Vec::new()).expect("memory"), "10.0.0.1"), None);
        assert_eq!(
            find(&Table::new(vec![("any".parse().expect("any"), 7)]).expect("memory"), "255.255.255.255"),
            Some(7)
        );
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
            let table = Table::new(blocks.clone()).expect("memory");
            for _ in 0..200 {
                let address: IpAddr = std::net::Ipv4Addr::from_bits(0x0a00_0000 | random() & 0x1fff).into();
                let own = Prefix::new(address, 32);
                let holds = blocks.iter().filter(|(prefix, _)| prefix.contains(own));
                let best = holds.max_by_key(|(prefix, number)| (prefix.to_parts().1, *number));
                assert_eq!(table.find(address), best.map(|(_, number)| *number), "{address}");
            }
        }
    }

    #[test]
    fn a_hundred_thousand_blocks() {
        let blocks = (0..100_000u32).map(|number| {
            let address = std::net::Ipv4Addr::from_bits(number << 8);
            (Prefix::new(address.into(), 24), number)
        });
        let table = Table::new(blocks.collect()).expect("memory");
        assert_eq!(find(&table, "1.134.159.255"), Some(99_999));
        assert_eq!(find(&table, "1.134.160.0"), None);
    }
}
