//! The answers to requests.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::crashes::crashes;
use super::fleet;
use super::logs::logs;
use super::metrics::metrics;
use super::reply::{Reply, SYSTEM};
use super::request::{Filter, ListRequest, Request};
use super::rows::{Row, sort};
use super::shared_state;
use super::view::{SettingView, Sockets, View, date};
use super::warm;
use crate::admission::access::prefix::Prefix;
use crate::admission::reason::Reason;
use crate::ipc::board::SlotPhase;
use crate::ipc::steering::{Order, OrderAnswer, OrderSender};
use crate::system::clock::now;

/// Answers a request.
///
/// # Errors
/// The controller has gone or does not read, or the server has ended.
pub(super) fn answer(
    request: &Request,
    view: &mut View,
    orders: &OrderSender,
    reply: &mut Reply,
) -> io::Result<()> {
    match request {
        Request::Status => {
            reply.line(&status(view))?;
            reply.done(1)
        }
        Request::Metrics => {
            reply.line(&metrics(view))?;
            reply.done(1)
        }
        Request::List(request) => list(view, reply, request),
        Request::Show { id } => show(view, reply, *id),
        Request::Kill(filter) => kill(view, orders, reply, filter),
        Request::Ban { block, time, kill: kills } => ban(view, orders, reply, *block, *time, *kills),
        Request::Unban { block } => match order(orders, Order::Unban { block: *block }) {
            Ok(0) => reply.error(SYSTEM, "there is no such ban"),
            result => finish(reply, result),
        },
        Request::Bans => {
            for ban in &view.bans {
                let left = ban.left.map(|left| left.as_millis() as u64);
                let service = view.service.as_deref();
                reply.line(
                    &json!({ "type": "ban", "service": service, "block": ban.block.to_string(), "left_ms": left }),
                )?;
            }
            reply.done(view.bans.len() as u64)
        }
        Request::Pause => finish(reply, order(orders, Order::Pause)),
        Request::Resume => finish(reply, order(orders, Order::Resume)),
        Request::Drain => drain(orders, reply),
        Request::Reload => replace(orders, Order::Reload, None, reply),
        Request::Upgrade { binary } => replace(orders, Order::Upgrade, binary.as_deref(), reply),
        Request::Crashes { name } => {
            crashes(view.crashes.take(), name.as_deref(), view.service.as_deref(), reply)
        }
        Request::Logs(request) => logs(request, view, orders, reply),
        Request::Set { setting, value } => {
            finish(reply, order(orders, Order::Set { setting: *setting, value: *value }))
        }
        Request::Settings => {
            for SettingView { setting, value, at_start } in &view.settings {
                reply.line(&json!({
                    "type": "setting",
                    "service": view.service,
                    "name": setting.name(),
                    "value": setting.show(*value),
                    "at_start": setting.show(*at_start),
                    "default": setting.default_text(),
                    "takes": setting.takes(),
                }))?;
            }
            reply.done(view.settings.len() as u64)
        }
    }
}

/// Gives an order, and waits for its answer.
fn order(orders: &OrderSender, order: Order) -> Result<u64, &'static str> {
    if !orders.send(order) {
        return Err("the server has ended");
    }
    match orders.answer() {
        Some(OrderAnswer::Done(count)) => Ok(count),
        Some(OrderAnswer::Full) => Err("there are as many bans as there can be; lift some (tine unban)"),
        Some(OrderAnswer::NotEnded) => Err("a process has not ended, though it was killed; the log names it"),
        Some(OrderAnswer::Refused(refusal)) => Err(refusal.text()),
        Some(OrderAnswer::Stopping) => Err("the server is stopping"),
        None => Err("the server has ended"),
    }
}

fn finish(reply: &mut Reply, result: Result<u64, &'static str>) -> io::Result<()> {
    match result {
        Ok(count) => reply.done(count),
        Err(why) => reply.error(SYSTEM, why),
    }
}

/// The status of a service.
fn status(view: &View) -> Value {
    let started = Duration::from_nanos(now().saturating_sub(view.history.started));
    let by_reason = |count: &dyn Fn(Reason) -> u64| -> serde_json::Map<String, Value> {
        let counts = Reason::ALL.into_iter().map(|reason| (reason, count(reason)));
        let counts = counts.filter(|(_, count)| *count > 0);
        counts.map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect()
    };
    let rates: serde_json::Map<String, Value> = [60, 300, 900]
        .into_iter()
        .map(|seconds| {
            let found = view.history.rates.within(started, Duration::from_secs(seconds));
            let rates = json!({ "accepted": found.accepted, "rejected": found.rejected });
            (seconds.to_string(), rates)
        })
        .collect();
    let processes: Vec<Value> = view
        .processes
        .iter()
        .map(|process| json!({ "role": process.role, "pid": process.pid, "restarts": process.restarts }))
        .collect();
    let mut object = json!({
        "type": "status",
        "version": env!("CARGO_PKG_VERSION"),
        "service": view.service,
        "pid": view.pid,
        "phase": view.phase,
        "started": date(view.history.started),
        "uptime_ms": started.as_millis() as u64,
        "addresses": view.addresses,
        "connections": view.board.count(SlotPhase::Serving),
        "peak": view.history.peak,
        "max_connections": view.max_connections,
        "spares": view.board.count(SlotPhase::Idle),
        "accepted": view.board.accepted(),
        "ended": view.history.ended_total,
        "failed": view.history.failed_total,
        "unrecorded": view.history.unrecorded_total,
        "rejected": view.board.rejected_total(),
        "rejected_by_reason": by_reason(&|reason| view.board.rejected(reason)),
        "limits": view.board.limits_mode().to_string(),
        "reported": Reason::ALL.into_iter().map(|reason| view.board.reported(reason)).sum::<u64>(),
        "reported_by_reason": by_reason(&|reason| view.board.reported(reason)),
        "delayed": Reason::ALL.into_iter().map(|reason| view.board.delayed(reason)).sum::<u64>(),
        "waiting": view.board.waiting(),
        "bans": view.bans.len(),
        "crash_reports": view.crashes.is_some(),
        "jail": view.jail.to_json(),
        "shared": shared_state::to_json(&view.members.objects()),
        "rates": rates,
        "processes": processes,
    });
    fleet::add(view, &mut object);
    warm::add(view, &mut object);
    object
}

/// The rows that a filter selects.
fn select(view: &mut View, ended: bool, filter: &Filter, brief: bool) -> Vec<Row> {
    let rows: Vec<Row> = match ended {
        true => view.history.newest_first().map(Row::ended).collect(),
        false => {
            let sockets = if brief { Sockets::none() } else { view.sockets() };
            let live = view.board.connections();
            live.map(|connection| Row::live(view, &connection, &sockets)).collect()
        }
    };
    rows.into_iter().filter(|row| row.matches(filter)).collect()
}

fn list(view: &mut View, reply: &mut Reply, request: &ListRequest) -> io::Result<()> {
    let mut rows = select(view, request.ended, &request.filter, request.brief);
    sort(&mut rows, request.sort);
    rows.truncate(request.limit.unwrap_or(usize::MAX));
    for row in &rows {
        reply.line(&row.to_json(view.service.as_deref(), view.jail.mode_in_force(), view.privacy))?;
    }
    reply.done(rows.len() as u64)
}

/// Shows a connection: a live one, or one that has ended.
fn show(view: &mut View, reply: &mut Reply, id: u64) -> io::Result<()> {
    let filter = Filter { ids: Some(vec![id]), ..Filter::default() };
    let mut rows = select(view, false, &filter, false);
    if rows.is_empty() {
        rows = select(view, true, &filter, false);
    }
    let Some(row) = rows.first() else {
        return reply.error(SYSTEM, "there is no such connection, and none in the history");
    };
    reply.line(&row.to_json(view.service.as_deref(), view.jail.mode_in_force(), view.privacy))?;
    reply.done(1)
}

/// Orders the end of the connections that a filter selects. Returns how many, or why not.
fn kill_selected(view: &View, orders: &OrderSender, filter: &Filter) -> Result<u64, &'static str> {
    let sockets = Sockets::none();
    let mut count = 0;
    for connection in view.board.connections() {
        if Row::live(view, &connection, &sockets).matches(filter) {
            let kill = Order::Kill { slot: connection.slot, id: connection.entry.id };
            if !orders.send(kill) {
                return Err("the server has ended");
            }
            count += 1;
        }
    }
    if count > 0 { order(orders, Order::AwaitKilled) } else { Ok(0) }
}

fn kill(view: &View, orders: &OrderSender, reply: &mut Reply, filter: &Filter) -> io::Result<()> {
    match kill_selected(view, orders, filter) {
        // An id that is named was to be there.
        Ok(0) if filter.ids.is_some() => reply.error(SYSTEM, "there is no such connection"),
        result => finish(reply, result),
    }
}

fn ban(
    view: &View,
    orders: &OrderSender,
    reply: &mut Reply,
    block: Prefix,
    time: Option<Duration>,
    kills: bool,
) -> io::Result<()> {
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    let banned = order(orders, Order::Ban { block, seconds });
    match banned {
        // Later clients are rejected by now: none of the block comes behind this.
        Ok(_) if kills => {
            let filter = Filter { peer: Some(block), ..Filter::default() };
            finish(reply, kill_selected(view, orders, &filter))
        }
        result => finish(reply, result),
    }
}

/// Reloads or replaces the server, and waits until that has been done or has failed.
pub(super) fn replace(
    orders: &OrderSender,
    order: Order,
    binary: Option<&Path>,
    reply: &mut Reply,
) -> io::Result<()> {
    if !orders.send_with(order, binary) {
        return reply.error(SYSTEM, "the server has ended");
    }
    match orders.answer_text() {
        Some((0, text)) => {
            reply.line(&json!({ "type": "replaced", "text": text }))?;
            reply.done(1)
        }
        Some((code, text)) => reply.error(code, &text),
        None => reply.error(SYSTEM, "the server has ended"),
    }
}

/// Drains the server, and waits until it has stopped: the reply ends with it.
fn drain(orders: &OrderSender, reply: &mut Reply) -> io::Result<()> {
    if !orders.send(Order::Drain) {
        return reply.error(SYSTEM, "the server has ended");
    }
    orders.wait_for_end();
    reply.done(1)
}
