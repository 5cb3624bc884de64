//! Addresses, listeners, peers and host names.

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod dns;
pub(crate) mod inherit;
pub(crate) mod listener;
pub(crate) mod peer;
pub(crate) mod proxied;
pub(crate) mod proxy_header;
