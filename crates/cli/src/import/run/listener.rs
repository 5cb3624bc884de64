//! The super-servers of run scripts, with their options as they themselves read them.

use std::cell::Cell;
use std::ffi::OsString;

use super::chain::Chain;
use crate::peers::s6::ServerOptions;
use crate::peers::tcpserver::options::TcpserverOptions;
use crate::peers::ucspi;

/// Whether a super-server has this name.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "tcpserver" | "s6-tcpserver" | "s6-tcpserver4" | "s6-tcpserver6" | "s6-ipcserver")
}

/// Takes the options and addresses of a super-server from the chain.
///
/// # Errors
/// The reason why the service is left out.
pub(super) fn apply(name: &str, chain: &mut Chain) -> Result<(), String> {
    // As these leave it: the standard error of the service, and programs whose clients are gone.
    chain.service.set("stderr", "server");
    chain.service.set("client-gone", "leave");
    match name {
        "tcpserver" => tcpserver(chain),
        "s6-ipcserver" => s6(chain, None),
        "s6-tcpserver6" => s6(chain, Some('6')),
        _ => s6(chain, Some('4')),
    }
}

fn words_of(chain: &Chain) -> Vec<OsString> {
    chain.words.iter().map(OsString::from).collect()
}

fn text_of(words: Vec<OsString>) -> Result<Vec<String>, String> {
    words.into_iter().map(|word| word.into_string().map_err(|_| "a word is not UTF-8".into())).collect()
}

fn tcpserver(chain: &mut Chain) -> Result<(), String> {
    // `-U` asks for UID and GID.
    let takes_account = Cell::new(false);
    let variable = |_: &str| {
        takes_account.set(true);
        None
    };
    let options = TcpserverOptions::parse(words_of(chain).into_iter(), variable)
        .map_err(|()| "tcpserver would not accept its options".to_owned())?;
    chain.words = text_of(options.program)?;
    let host = match options.host.as_str() {
        "" | "0" => "0.0.0.0",
        host => host,
    };
    let service = &mut *chain.service;
    service.listen = vec![address(host, &options.port)];
    service.set("max-connections", options.limit.to_string());
    service.set("backlog", options.backlog.to_string());
    set_ids(options.uid, options.gid, service);
    if !options.banner.is_empty() {
        return Err("it has a banner (-B): write it to a file, and name that as `banner-file`".into());
    }
    if options.asks_names {
        service.set_yes("reverse-dns");
    }
    if options.is_paranoid {
        return Err("it distrusts host names (-p), and tine does not".into());
    }
    if let Some(name) = options.local_name.filter(|name| name != "0") {
        service.note(format!("TCPLOCALHOST={} (-l)", name.to_string_lossy()));
    }
    if options.asks_ident {
        service.note("TCPREMOTEINFO: tine asks no identd");
    }
    if let Some(rules) = &options.rules {
        set_rules(&rules.to_string_lossy(), chain)?;
    }
    take_account(takes_account.get(), chain)
}

fn address(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The options that s6 has in common, then the address.
fn s6(chain: &mut Chain, family: Option<char>) -> Result<(), String> {
    let takes_account = Cell::new(false);
    let mut words = words_of(chain).into_iter().peekable();
    // s6-ipcserver has one option more: the mode of its socket, which permits clients to connect.
    let more = if family.is_none() { &b"a"[..] } else { b"" };
    let mut mode = None;
    let options = ServerOptions::read(
        &mut words,
        more,
        |_| {
            takes_account.set(true);
            None
        },
        |letter, value| match letter {
            b'4' | b'6' if family.is_some() => Ok(()),
            b'a' => {
                mode = value.and_then(|value| value.into_string().ok());
                Ok(())
            }
            b'p' | b'P' if family.is_none() => Ok(()),
            _ => Err(()),
        },
    )
    .map_err(|()| "its super-server would not accept its options".to_owned())?;
    let mut next = || ucspi::text(&mut words).map_err(|()| "an address is missing".to_owned());
    let listen = match family {
        None => format!("unix:{}", next()?),
        Some(_) => {
            let (ip, port) = (next()?, next()?);
            address(&ip, &port)
        }
    };
    chain.words = text_of(words.collect())?;
    let service = &mut *chain.service;
    service.listen = vec![listen];
    service.set("max-connections", options.limit.to_string());
    if family.is_some() {
        service.set("max-connections-per-source", options.per_source.to_string());
        service.set("per-source-net-block-size", "32:128");
        service.set("per-prefix-net-block-size", "32:128");
    }
    if family.is_none() {
        service.set("socket-mode", mode.as_deref().unwrap_or("0777"));
    }
    service.set("backlog", options.backlog.to_string());
    if options.groups.is_some() {
        return Err("it sets supplementary groups (-G): write them as `supplementary-groups`".into());
    }
    set_ids(options.uid, options.gid, service);
    take_account(takes_account.get(), chain)
}

/// The options of s6-tcpserver-access: the rules, and the lookups.
pub(super) fn apply_access(chain: &mut Chain) -> Result<(), String> {
    let mut words = words_of(chain).into_iter().peekable();
    let (mut rules, mut names) = (None, true);
    ucspi::read(&mut words, b"lxitB", |letter, value| {
        match letter {
            b'x' | b'i' => rules = value,
            b'H' => names = false,
            b'h' => names = true,
            b'B' => return Err(()),
            _ => {}
        }
        Ok(())
    })
    .map_err(|()| "s6-tcpserver-access has options that are not understood".to_owned())?;
    chain.words = text_of(words.collect())?;
    if names {
        chain.service.set_yes("reverse-dns");
    }
    match rules {
        Some(rules) => Err(format!(
            "its rules are in {}: write them as `allow` and `deny`, or as `rules`",
            rules.to_string_lossy()
        )),
        None => Ok(()),
    }
}

fn set_ids(uid: Option<u32>, gid: Option<u32>, service: &mut crate::import::service::ImportedService) {
    if uid.is_none() && gid.is_none() {
        return;
    }
    uid.iter().for_each(|uid| service.set("user", uid.to_string()));
    gid.iter().for_each(|gid| service.set("group", gid.to_string()));
    service.set("supplementary-groups", "none");
}

/// `-U`: the account that envuidgid has named.
fn take_account(takes: bool, chain: &mut Chain) -> Result<(), String> {
    if !takes {
        return Ok(());
    }
    let account = chain.account.take();
    let account = account.ok_or("-U takes the user from UID and GID, which the script does not set")?;
    chain.set_user(&account);
    Ok(())
}

/// Rules that tcprules has compiled: their text is usually beside them.
fn set_rules(compiled: &str, chain: &mut Chain) -> Result<(), String> {
    let text = compiled.strip_suffix(".cdb").map(|text| chain.directory.join(text));
    let text = text.filter(|text| chain.world.read(text).is_ok());
    match text {
        Some(text) => {
            let text = text.to_string_lossy().into_owned();
            chain.service.set_list("rules", vec![text.clone()]);
            chain.service.note(format!("{compiled}: tine reads {text}, from which it was compiled"));
            Ok(())
        }
        None => Err(format!("its rules are in {compiled}: name the text that was compiled as `rules`")),
    }
}
