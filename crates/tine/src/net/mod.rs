//! Addresses, listeners, peers and host names.

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod control_socket;
pub(crate) mod dns;
pub(crate) mod handed;
pub(crate) mod hints;
pub(crate) mod inherit;
pub(crate) mod listener;
pub(crate) mod misspelt;
pub(crate) mod operator;
pub(crate) mod option_table;
pub(crate) mod options;
pub(crate) mod peer;
pub(crate) mod privacy;
pub(crate) mod proxied;
pub(crate) mod proxy_header;
pub(crate) mod shortfall;
pub(crate) mod socket_file;
#[cfg(test)]
mod tests;
pub(crate) mod unix_name;
pub(crate) mod zone;
