//! A database in a file: each connection opens it in its own process, after the fork, as SQLite
//! demands. A process that dies in a transaction leaves no trace of it.
//!
//! `cargo run -p tine --example sqlite -- [::]:9999 /tmp/numbers.db`, then `nc localhost 9999`.
//! Lines are `ADD key number`, `GET key`, `SUM`, and `BEGIN` and `COMMIT` around several of them.

use std::io::Write;
use std::time::Duration;

use rusqlite::{Connection as Database, OptionalExtension};
use tine::{Connection, HandlerError, Server};

/// The longest line.
const MAX_LINE: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "[::]:9999".into());
    let path = arguments.next().unwrap_or_else(|| "numbers.db".into());
    prepare(&path)?;
    Ok(Server::bind(&address)?.print_ports(true).run(move |connection| serve(connection, &path))?)
}

/// Makes the table. The database is closed again before the first fork.
fn prepare(path: &str) -> rusqlite::Result<()> {
    let database = open(path)?;
    // Who reads does not wait for who writes.
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.execute_batch("CREATE TABLE IF NOT EXISTS numbers (key TEXT PRIMARY KEY, value INTEGER)")
}

fn open(path: &str) -> rusqlite::Result<Database> {
    let database = Database::open(path)?;
    // Who writes waits for others that do.
    database.busy_timeout(Duration::from_secs(20))?;
    Ok(database)
}

fn serve(mut connection: Connection, path: &str) -> Result<(), HandlerError> {
    let database = open(path)?;
    while let Some(line) = connection.next_line(MAX_LINE)? {
        let reply = execute(&database, &line).unwrap_or_else(|why| format!("error: {why}"));
        writeln!(connection, "{reply}")?;
    }
    Ok(())
}

fn execute(database: &Database, line: &str) -> Result<String, HandlerError> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        // The lock is taken at once: a transaction that has read an old value could not write.
        ["BEGIN"] => database.execute_batch("BEGIN IMMEDIATE")?,
        ["COMMIT"] => database.execute_batch("COMMIT")?,
        ["ADD", key, number] if !database.is_autocommit() => {
            return Ok(add(database, key, number.parse()?)?.to_string());
        }
        ["ADD", key, number] => {
            let number = number.parse()?;
            database.execute_batch("BEGIN IMMEDIATE")?;
            let sum = add(database, key, number);
            database.execute_batch(if sum.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
            return Ok(sum?.to_string());
        }
        ["GET", key] => return Ok(get(database, key)?.to_string()),
        ["SUM"] => {
            let sum = "SELECT coalesce(sum(value), 0) FROM numbers";
            return Ok(database.query_row(sum, [], |row| row.get::<_, i64>(0))?.to_string());
        }
        _ => return Err("a line is ADD key number, GET key, SUM, BEGIN or COMMIT".into()),
    }
    Ok("ok".into())
}

fn get(database: &Database, key: &str) -> rusqlite::Result<i64> {
    let value = database.query_row("SELECT value FROM numbers WHERE key = ?1", [key], |row| row.get(0));
    Ok(value.optional()?.unwrap_or(0))
}

/// Within a transaction, so that nobody writes between the two statements.
fn add(database: &Database, key: &str, number: i64) -> Result<i64, HandlerError> {
    let sum = get(database, key)?.checked_add(number).ok_or("the sum would overflow")?;
    database.execute("INSERT OR REPLACE INTO numbers VALUES (?1, ?2)", (key, sum))?;
    Ok(sum)
}
