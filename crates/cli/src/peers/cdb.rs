//! Constant databases (cr.yp.to/cdb/cdb.txt).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The hash function of the format.
fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, byte| (hash << 5).wrapping_add(hash) ^ u32::from(*byte))
}

/// The first record of a key.
///
/// # Errors
/// The file cannot be read, or is no such database.
pub(super) fn find(file: &File, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let hash = hash(key);
    let (table, slots) = pair(file, u64::from(hash % 256) * 8)?;
    for step in 0..slots {
        let slot = (hash / 256 % slots + step) % slots;
        let (found, record) = pair(file, u64::from(table) + u64::from(slot) * 8)?;
        if record == 0 {
            return Ok(None);
        }
        if found != hash {
            continue;
        }
        let (key_length, data_length) = pair(file, record.into())?;
        if key_length as usize == key.len() && read(file, u64::from(record) + 8, key_length)? == key {
            let data = u64::from(record) + 8 + u64::from(key_length);
            return read(file, data, data_length).map(Some);
        }
    }
    Ok(None)
}

fn pair(file: &File, at: u64) -> io::Result<(u32, u32)> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    let [a, b, c, d, e, f, g, h] = bytes;
    Ok((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

fn read(file: &File, at: u64, length: u32) -> io::Result<Vec<u8>> {
    /// The maximum length of a record; rules are shorter.
    const MOST: u32 = 1 << 20;
    if length > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
