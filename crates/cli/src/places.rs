//! What typed addresses mean to those who connect: the client, and the load.

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use tine::{Address, Error};
use tine_load::target::Place;

/// What an address may mean, in the order in which to try it.
pub fn places(address: &Address) -> Result<Vec<Place>, Error> {
    let unfit = |why: Errno| {
        Error::system(format_args!("cannot connect to {address}"), &why.into(), "use a shorter path")
    };
    Ok(match address {
        Address::Tcp { host, port } => tine::resolve(host, *port)?.into_iter().map(Place::Tcp).collect(),
        Address::Unix(path) => vec![Place::Unix(SocketAddrUnix::new(path).map_err(unfit)?)],
        Address::Abstract(name) => {
            let name = SocketAddrUnix::new_abstract_name(name.as_bytes());
            vec![Place::Unix(name.map_err(unfit)?)]
        }
    })
}
