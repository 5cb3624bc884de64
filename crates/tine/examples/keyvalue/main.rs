//! A subset of Redis: a store whose entries can expire, in a table that all connections share.
//!
//! `cargo run -p tine --example keyvalue -- 127.0.0.1:6379`, then `redis-cli SET greeting hello`
//! and `redis-cli GET greeting`, or `redis-benchmark -t ping,set,get -P 16 -q`

mod resp;

use std::io::Write;
use std::time::Duration;

use resp::{bulk, parse, read_request};
use tine::shared::{Bytes, Table};
use tine::{Connection, HandlerError, Server};

type Key = Bytes<128>;
type Store = Table<Key, Bytes<1024>>;

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    let store = Store::new("store", 200_000)?;
    Server::bind(&address)?.print_ports(true).run(move |connection| serve(connection, &store))
}

fn serve(mut connection: Connection, store: &Store) -> Result<(), HandlerError> {
    let mut replies = Vec::new();
    while let Some(mut words) = read_request(&mut connection)? {
        words.iter_mut().take(1).for_each(|command| command.make_ascii_uppercase());
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let reply = execute(store, &words);
        replies.extend(reply.unwrap_or_else(|why| format!("-ERR {why}\r\n").into()));
        // Replies to requests that came together leave together, once the last of them is complete.
        if connection.buffered() == 0 || replies.len() > 64 * 1024 || words == [b"QUIT"] {
            connection.write_all(&replies)?;
            replies.clear();
        }
        if words == [b"QUIT"] {
            break;
        }
    }
    Ok(())
}

fn execute(store: &Store, words: &[&[u8]]) -> Result<Vec<u8>, HandlerError> {
    let get = |key: &&[u8]| bulk(Key::new(key).ok().and_then(|key| store.get(&key)).as_deref());
    let count = |keys: &[&[u8]], is_counted: &dyn Fn(Key) -> bool| {
        keys.iter().filter(|key| Key::new(key).is_ok_and(is_counted)).count()
    };
    let number = match words {
        [] => return Ok(Vec::new()),
        [b"PING"] => return Ok(b"+PONG\r\n".into()),
        [b"PING" | b"ECHO", text] => return Ok(bulk(Some(text))),
        [b"QUIT"] => return Ok(b"+OK\r\n".into()),
        [b"CONFIG" | b"COMMAND", ..] => return Ok(b"*0\r\n".into()),
        [b"GET", key] => return Ok(get(key)),
        [b"MGET", keys @ ..] => {
            let values: Vec<u8> = keys.iter().flat_map(get).collect();
            return Ok([format!("*{}\r\n", keys.len()).into(), values].concat());
        }
        [b"SET", key, value, options @ ..] => return set(store, key, value, options),
        [b"FLUSHDB"] => {
            store.clear();
            return Ok(b"+OK\r\n".into());
        }
        [b"DEL", keys @ ..] => count(keys, &|key| store.remove(&key).is_some()) as i64,
        [b"EXISTS", keys @ ..] => count(keys, &|key| store.contains(&key)) as i64,
        [b"DBSIZE"] => store.iter().count() as i64,
        [b"INCR", key] => increase(store, key, 1)?,
        [b"INCRBY", key, number] => increase(store, key, parse(number)?)?,
        [b"EXPIRE", key, seconds] => {
            let time = Duration::from_secs(parse::<i64>(seconds)?.try_into().unwrap_or(0));
            store
                .update(&Key::new(key)?, |entry| entry.get().map(|it| entry.set_for(it, time)).is_some())?
                .into()
        }
        [b"TTL", key] => store.update(&Key::new(key)?, |entry| {
            let seconds = entry.expires_in().map_or(-1, |time| time.as_secs_f64().round() as i64);
            entry.get().map_or(-2, |_| seconds)
        })?,
        _ => return Err("unknown command, or wrong number of arguments".into()),
    };
    Ok(format!(":{number}\r\n").into())
}

fn set(store: &Store, key: &[u8], value: &[u8], options: &[&[u8]]) -> Result<Vec<u8>, HandlerError> {
    let value = Bytes::new(value)?;
    let is_new = options.iter().any(|option| option.eq_ignore_ascii_case(b"NX"));
    let find = |unit| options.windows(2).find(|pair| pair[0].eq_ignore_ascii_case(unit)).map(|pair| pair[1]);
    let seconds = find(b"EX").map(parse).transpose()?.map(Duration::from_secs);
    let time = find(b"PX").map(parse).transpose()?.map(Duration::from_millis).or(seconds);
    if options.len() != usize::from(is_new) + 2 * usize::from(time.is_some()) {
        return Err("syntax error".into());
    }
    Ok(store.update(&Key::new(key)?, |entry| {
        if is_new && entry.get().is_some() {
            return bulk(None);
        }
        entry.remove(); // With its expiry, which `set` would keep.
        entry.set(value);
        time.inspect(|time| entry.set_for(value, *time));
        b"+OK\r\n".into()
    })?)
}

fn increase(store: &Store, key: &[u8], by: i64) -> Result<i64, HandlerError> {
    store.update(&Key::new(key)?, |entry| {
        let number: i64 = entry.get().map_or(Ok(0), |value| parse(&value))?;
        let sum = number.checked_add(by).ok_or("the sum would overflow")?;
        entry.set(Bytes::new(sum.to_string().as_bytes())?);
        Ok(sum)
    })?
}
