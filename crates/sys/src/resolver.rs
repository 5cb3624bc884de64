//! Addresses of host names, by the resolver of the C library, with the reason if there are none.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a name has no address (getaddrinfo(3), gai_strerror(3)).
#[derive(Debug)]
pub enum LookupError {
    /// There is no such name, or it has no address (`EAI_NONAME`, `EAI_NODATA`, `EAI_ADDRFAMILY`).
    Unknown,
    /// No name server has answered, or has an answer now (`EAI_AGAIN`).
    Temporary,
    /// A name server has refused, or has sent an answer that is none (`EAI_FAIL`).
    Permanent,
    /// Out of memory (`EAI_MEMORY`).
    Memory,
    /// An error of the operating system (`EAI_SYSTEM`).
    System(io::Error),
    /// Another code.
    Other(i32),
}

impl LookupError {
    /// The error for a code of getaddrinfo(3), and for `EAI_SYSTEM` the error number.
    #[must_use]
    pub fn of(code: i32, errno: i32) -> LookupError {
        /// No address of the requested family: a code of the GNU C library.
        const ADDRFAMILY: i32 = -9;
        /// No address of any family, there and in musl.
        const NODATA: i32 = -5;
        match code {
            libc::EAI_NONAME | NODATA | ADDRFAMILY => LookupError::Unknown,
            libc::EAI_AGAIN => LookupError::Temporary,
            libc::EAI_FAIL => LookupError::Permanent,
            libc::EAI_MEMORY => LookupError::Memory,
            libc::EAI_SYSTEM => LookupError::System(io::Error::from_raw_os_error(errno)),
            code => LookupError::Other(code),
        }
    }

    /// The code and the error number, as [`LookupError::of`] takes them.
    #[must_use]
    pub fn code(&self) -> (i32, i32) {
        match self {
            LookupError::Unknown => (libc::EAI_NONAME, 0),
            LookupError::Temporary => (libc::EAI_AGAIN, 0),
            LookupError::Permanent => (libc::EAI_FAIL, 0),
            LookupError::Memory => (libc::EAI_MEMORY, 0),
            LookupError::System(why) => (libc::EAI_SYSTEM, why.raw_os_error().unwrap_or(0)),
            LookupError::Other(code) => (*code, 0),
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::Unknown => f.write_str("unknown host"),
            LookupError::Temporary => f.write_str("the name servers fail temporarily"),
            LookupError::Permanent => f.write_str("the name servers fail"),
            LookupError::Memory => f.write_str("out of memory"),
            LookupError::System(why) => f.write_str(&crate::reason(why)),
            LookupError::Other(code) => write!(f, "getaddrinfo error {code}"),
        }
    }
}

impl std::error::Error for LookupError {}

/// Frees the list of getaddrinfo(3).
struct List(*mut libc::addrinfo);

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the head of a list that getaddrinfo has returned, freed once.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// The addresses of a host, in the order of the system (RFC 6724). Takes many seconds where no name
/// server answers.
///
/// In a binary that is linked statically against the GNU C library, this loads modules of the
/// system's C library (nsswitch.conf(5)), which fit that one only.
///
/// # Errors
/// [`LookupError`].
pub fn look_up(host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let Ok(name) = CString::new(host) else { return Err(LookupError::Unknown) };
    // SAFETY: all-zero hints are valid ones: any family, no flag, no list behind it.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = List(std::ptr::null_mut());
    // SAFETY: a terminated name, no service, valid hints, and an out-pointer that is valid for
    // writes.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list.0) };
    if code != 0 {
        return Err(LookupError::of(code, io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    let mut found = Vec::new();
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: an entry of the list, which lives until `list` is dropped.
        let entry = unsafe { &*next };
        found.extend(address_of(entry));
        next = entry.ai_next;
    }
    Ok(found)
}

fn address_of(entry: &libc::addrinfo) -> Option<IpAddr> {
    match entry.ai_family {
        libc::AF_INET => {
            // SAFETY: getaddrinfo gives an address of the family that it names.
            let address = unsafe { &*entry.ai_addr.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { &*entry.ai_addr.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kept_apart() {
        for (code, errno, text) in [
            (libc::EAI_NONAME, 0, "unknown host"),
            (-5, 0, "unknown host"),
            (-9, 0, "unknown host"),
            (libc::EAI_AGAIN, 0, "the name servers fail temporarily"),
            (libc::EAI_FAIL, 0, "the name servers fail"),
            (libc::EAI_MEMORY, 0, "out of memory"),
            (libc::EAI_SYSTEM, libc::EMFILE, "too many open files"),
            (libc::EAI_SERVICE, 0, "getaddrinfo error -8"),
        ] {
            let error = LookupError::of(code, errno);
            assert_eq!(error.to_string(), text, "{code}");
            let (code, errno) = error.code();
            assert_eq!(LookupError::of(code, errno).to_string(), text, "{code}");
        }
    }

    #[test]
    fn numeric_addresses_need_no_name_server() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(look_up(text).expect(text), [text.parse::<IpAddr>().expect(text)]);
        }
        assert!(matches!(look_up("a\0b"), Err(LookupError::Unknown)));
    }
}
