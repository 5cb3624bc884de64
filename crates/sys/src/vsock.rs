//! Addresses of the family AF_VSOCK, which connects virtual machines with their host (vsock(7)).

use std::fmt;

use rustix::net::AddressFamily;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

/// A socket address: the context identifier of a machine, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VsockAddress {
    /// The context identifier (CID) of the machine.
    pub cid: u32,
    /// The port.
    pub port: u32,
}

impl VsockAddress {
    /// The CID of a listener for clients of all kinds (`VMADDR_CID_ANY`).
    pub const CID_ANY: u32 = libc::VMADDR_CID_ANY;
    /// The CID of this machine, for connections within it (`VMADDR_CID_LOCAL`, Linux 5.6).
    pub const CID_LOCAL: u32 = libc::VMADDR_CID_LOCAL;
    /// The port with which the kernel chooses one (`VMADDR_PORT_ANY`).
    pub const PORT_ANY: u32 = libc::VMADDR_PORT_ANY;

    /// Whether two sockets cannot be bound to these: the port is the same, and the CID is the same
    /// or that of all (linux/net/vmw_vsock/af_vsock.c, `__vsock_find_bound_socket`).
    #[must_use]
    pub fn overlaps(self, other: VsockAddress) -> bool {
        let any = [self.cid, other.cid].contains(&Self::CID_ANY);
        self.port == other.port && (self.cid == other.cid || any)
    }

    fn to_c(self) -> libc::sockaddr_vm {
        // SAFETY: all fields are integers, for which zero is valid.
        let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
        address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
        address.svm_cid = self.cid;
        address.svm_port = self.port;
        address
    }

    /// The address from one that a system call returned; `None` if it is of another family.
    #[must_use]
    pub fn from_any(any: &rustix::net::SocketAddrAny) -> Option<VsockAddress> {
        let is_whole = any.addr_len() as usize >= size_of::<libc::sockaddr_vm>();
        if any.address_family() != AddressFamily::VSOCK || !is_whole {
            return None;
        }
        // SAFETY: the storage has at least the bytes of a sockaddr_vm, as its length and family
        // say, and integers of any value are valid.
        let address = unsafe { any.as_ptr().cast::<libc::sockaddr_vm>().read_unaligned() };
        Some(VsockAddress { cid: address.svm_cid, port: address.svm_port })
    }
}

/// Writes `vsock:CID:PORT`, without the CID if it stands for all (systemd.socket(5)).
impl fmt::Display for VsockAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cid {
            VsockAddress::CID_ANY => write!(f, "vsock::{}", self.port),
            cid => write!(f, "vsock:{cid}:{}", self.port),
        }
    }
}

// SAFETY: the closure gets a pointer to a sockaddr_vm that lives until it returns, and its size.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let address = self.to_c();
        f((&raw const address).cast(), size_of::<libc::sockaddr_vm>() as SocketAddrLen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_those_of_the_kernel_and_back() {
        for (cid, port) in [(2, 5000), (VsockAddress::CID_ANY, 0), (0, u32::MAX), (1 << 31, 1 << 16)] {
            let address = VsockAddress { cid, port };
            assert_eq!(VsockAddress::from_any(&address.as_any()), Some(address));
            assert_eq!(address.as_any().address_family(), AddressFamily::VSOCK);
            let c = address.to_c();
            assert_eq!((c.svm_cid, c.svm_port, c.svm_reserved1, c.svm_zero), (cid, port, 0, [0; 4]));
        }
    }

    #[test]
    fn an_address_is_written_as_systemd_does() {
        for (cid, text) in [(2, "vsock:2:5000"), (VsockAddress::CID_ANY, "vsock::5000")] {
            assert_eq!(VsockAddress { cid, port: 5000 }.to_string(), text);
        }
    }

    #[test]
    fn addresses_that_exclude_each_other() {
        let any = VsockAddress::CID_ANY;
        for (one, other, expected) in [
            ((2, 5), (2, 5), true),
            ((2, 5), (3, 5), false),
            ((2, 5), (2, 6), false),
            ((any, 5), (2, 5), true),
            ((any, 5), (any, 5), true),
            ((any, 5), (2, 6), false),
        ] {
            let [one, other] = [one, other].map(|(cid, port)| VsockAddress { cid, port });
            assert_eq!((one.overlaps(other), other.overlaps(one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn addresses_of_other_families_are_none() {
        let tcp = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 7, 0, 0);
        assert_eq!(VsockAddress::from_any(&tcp.as_any()), None);
        let unix = rustix::net::SocketAddrUnix::new("/run/x").expect("a path");
        assert_eq!(VsockAddress::from_any(&unix.as_any()), None);
    }

    #[test]
    fn the_kernel_takes_and_returns_addresses() {
        use rustix::net::{SocketType, bind, getsockname, socket};
        let socket = match socket(AddressFamily::VSOCK, SocketType::STREAM, None) {
            Ok(socket) => socket,
            Err(why) => return assert_eq!(why, rustix::io::Errno::AFNOSUPPORT, "a kernel without them"),
        };
        let any = VsockAddress { cid: VsockAddress::CID_ANY, port: VsockAddress::PORT_ANY };
        bind(&socket, &any).expect("a free port");
        let bound = VsockAddress::from_any(&getsockname(&socket).expect("bound")).expect("of this family");
        assert_eq!(bound.cid, VsockAddress::CID_ANY);
        assert_ne!(bound.port, VsockAddress::PORT_ANY);
    }
}
