//! `tine client` and `tine load`: the header of the PROXY protocol.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tine_load::plan::ProxyVersion;
use tine_load::plan::proxy::ProxyHeaders;
use tine_load::plan::sources::Block;

/// The header of the PROXY protocol.
#[derive(Args, Clone, Debug)]
pub struct Proxy {
    /// Send the header of the PROXY protocol before the first byte, with the addresses of the
    /// connection
    #[arg(long, value_name = "VERSION", value_parser = version())]
    pub proxy_header: Option<ProxyVersion>,

    /// Name these source addresses in the header instead, each connection the next; may be repeated
    #[arg(long, value_name = "CIDR", requires = "proxy_header")]
    pub proxy_source: Vec<Block>,
}

impl Proxy {
    /// Returns the headers, if they were requested.
    #[must_use]
    pub fn headers(&self) -> Option<ProxyHeaders> {
        let version = self.proxy_header?;
        Some(ProxyHeaders { version, sources: self.proxy_source.clone() })
    }
}

/// Parses the version of the header.
fn version() -> impl TypedValueParser<Value = ProxyVersion> {
    let help = |version| match version {
        ProxyVersion::V1 => "A line of text",
        ProxyVersion::V2 => "Binary",
    };
    let value = |(version, name): (ProxyVersion, &'static str)| PossibleValue::new(name).help(help(version));
    PossibleValuesParser::new(ProxyVersion::ALL.map(value)).map(|name| {
        let found = ProxyVersion::ALL.iter().find(|(_, one)| *one == name);
        found.expect("clap accepts the names of the table only").0
    })
}
