//! From an address as typed to the socket addresses that the client and the load connect to.

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use tine::Address;
use tine_load::plan::endpoint::Endpoint;

use crate::error::Error;

/// The socket addresses of an address, in the order in which to try them.
pub(crate) fn resolve(address: &Address) -> Result<Vec<Endpoint>, Error> {
    let unfit = |why: Errno| {
        Error::system(format_args!("cannot connect to {address}"), &why.into(), "use a shorter path")
    };
    match address {
        Address::Tcp { host, port } => {
            Ok(tine::cli::resolve(host, *port)?.into_iter().map(Endpoint::Tcp).collect())
        }
        Address::Unix(path) => Ok(vec![Endpoint::Unix(SocketAddrUnix::new(path).map_err(unfit)?)]),
        Address::Abstract(name) => {
            let name = SocketAddrUnix::new_abstract_name(name.as_bytes());
            Ok(vec![Endpoint::Unix(name.map_err(unfit)?)])
        }
        other => Err(Error::usage(format_args!("cannot connect to {other}"), "use HOST:PORT or unix:PATH")),
    }
}
