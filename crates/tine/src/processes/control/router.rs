//! Runs as the control process of a master: forwards a request to the services that it is about,
//! and their replies to the controller, as one.

use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::Pid;
use tine_sys::process::{Alone, exit_now};

use super::NewController;
use super::answer::replace;
use super::gather;
use super::reply::{Last, Reply, SYSTEM, USAGE, last};
use super::request::Request;
use super::run::{read_line, refusal};
use crate::ipc::steering::{Order, OrderSender};
use crate::log::ring::LogRing;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::{StartReport, start_helper};

/// The time that a service has for its next line. Ending a connection takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the master hands to its control process: everything that it keeps.
pub(crate) struct RouterStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) master: Pid,
    pub(crate) controller: NewController,
    pub(crate) services: Vec<ServiceStream>,
    /// The last lines of the master's log.
    pub(crate) log: Option<LogRing>,
    pub(crate) report: StartReport,
}

/// A service that runs.
pub(crate) struct ServiceStream {
    /// Its number in the master.
    pub(crate) number: usize,
    pub(crate) name: String,
    /// A stream that the service takes for that of a controller.
    pub(crate) stream: OwnedFd,
}

/// Serves one request.
pub(crate) fn run(start: RouterStart) -> ! {
    let role = ConfinedRole::Control;
    let entered = start_helper(start.alone, None, start.master, c"tine: control");
    for ServiceStream { stream: service, .. } in &start.services {
        // It cannot fail for a socket; without it a service that hangs would hold the command.
        let _ = set_socket_timeout(service, Timeout::Recv, Some(TIMEOUT));
    }
    start.report.finish(entered, &role);
    // The controller has gone, or does not read: there is no one to tell.
    let _ = serve(&start.controller, start.services, start.log);
    exit_now(0)
}

fn serve(
    NewController { stream, operator, orders }: &NewController,
    mut services: Vec<ServiceStream>,
    log: Option<LogRing>,
) -> io::Result<()> {
    let line = read_line(stream, orders)?;
    let mut reply = Reply::new(stream, orders);
    let Some(mut line) = line else { return reply.error(USAGE, "the request is too long") };
    let (request, wanted) = match Request::parse(&line) {
        Ok((request, _)) if !operator.rank.may(request.needs()) => {
            return reply.error(SYSTEM, refusal(operator.rank));
        }
        Ok(request) => request,
        Err(why) => return reply.error(USAGE, &why),
    };
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    services.retain(|service| wanted.as_ref().is_none_or(|wanted| service.name == *wanted));
    if let Some(wanted) = wanted.as_ref().filter(|_| services.is_empty()) {
        let text = format!("there is no service {wanted}; there are {}", names.join(", "));
        return reply.error(SYSTEM, &text);
    }
    if wanted.is_none() && names.len() > 1 && has_ids(&request) {
        return reply.error(USAGE, "each service numbers its connections: write SERVICE:ID");
    }
    if request == Request::Drain {
        return match wanted {
            Some(_) => drain_services(&services, orders, &mut reply),
            None => drain_server(orders, &mut reply),
        };
    }
    match &request {
        Request::Reload => return replace(orders, Order::Reload, None, &mut reply),
        Request::Upgrade { binary } => {
            return replace(orders, Order::Upgrade, binary.as_deref(), &mut reply);
        }
        _ => {}
    }
    line.push(b'\n');
    for ServiceStream { stream: service, .. } in &services {
        // A service that does not take it is noticed when it does not reply.
        let _ = rustix::net::send(service, &line, SendFlags::NOSIGNAL);
    }
    if let Request::Logs(request) = &request {
        // The lines of the master are about no service.
        let log = log.filter(|_| wanted.is_none());
        let sources = services.into_iter().map(|ServiceStream { name, stream, .. }| (name, stream));
        return gather::logs(request, sources, log, orders, &mut reply);
    }
    let mut outcome = MergedOutcome::new(&request);
    for ServiceStream { name, stream: service, .. } in services {
        let result = forward(service, &mut reply)?;
        outcome.add(&name, result);
    }
    match outcome.result() {
        Ok(count) => reply.done(count),
        Err((code, why)) => reply.error(code, &why),
    }
}

/// Whether a request names connections.
fn has_ids(request: &Request) -> bool {
    match request {
        Request::Show { .. } => true,
        Request::Kill(filter) => filter.ids.is_some(),
        Request::Logs(request) => request.id.is_some(),
        _ => false,
    }
}

/// Drains the server: the order is the master's, which has the listeners, too.
fn drain_server(orders: &OrderSender, reply: &mut Reply) -> io::Result<()> {
    if !orders.send(Order::Drain) {
        return reply.error(SYSTEM, "the server has ended");
    }
    orders.wait_for_end();
    reply.done(1)
}

/// Drains some services, in the same way.
fn drain_services(services: &[ServiceStream], orders: &OrderSender, reply: &mut Reply) -> io::Result<()> {
    let count = services.len() as u64;
    for service in services {
        if !orders.send(Order::DrainService(service.number)) {
            return reply.error(SYSTEM, "the server has ended");
        }
    }
    for _ in services {
        // None: with the last of its services, the server has ended.
        let _ = orders.answer();
    }
    reply.done(count)
}

/// Forwards the lines of a service to the controller; returns the last one.
fn forward(service: OwnedFd, reply: &mut Reply) -> io::Result<Last> {
    let stream = UnixStream::from(service);
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(1..) => {}
            _ => return Ok(Err((SYSTEM, "it does not answer; its log says why".to_owned()))),
        }
        // Only the last line has no type. In a text the quotes would be escaped.
        if line.contains("\"type\":") {
            reply.raw(line.as_bytes())?;
        } else {
            return Ok(last(&line));
        }
    }
}

/// The replies of several services as one.
struct MergedOutcome {
    /// Whether it is enough that one service succeeds: the request is about something that the
    /// others do not have.
    one_is_enough: bool,
    count: Option<u64>,
    error: Option<(u8, String)>,
}

impl MergedOutcome {
    fn new(request: &Request) -> MergedOutcome {
        let one_is_enough = matches!(
            request,
            Request::Show { .. }
                | Request::Kill(_)
                | Request::Unban { .. }
                | Request::Crashes { name: Some(_) }
        );
        MergedOutcome { one_is_enough, count: None, error: None }
    }

    fn add(&mut self, service: &str, last: Last) {
        match last {
            Ok(count) => *self.count.get_or_insert(0) += count,
            Err((code, why)) => {
                self.error.get_or_insert((code, format!("service {service}: {why}")));
            }
        }
    }

    fn result(self) -> Last {
        match (self.count, self.error) {
            (Some(count), None) => Ok(count),
            (Some(count), Some(_)) if self.one_is_enough => Ok(count),
            (_, Some(error)) => Err(error),
            (None, None) => Err((SYSTEM, "there is no service".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replies_of_services_become_one() {
        let error = || Err((SYSTEM, "no".to_owned()));
        for (request, replies, result) in [
            (Request::Status, vec![Ok(1), Ok(1)], Ok(2)),
            (Request::Status, vec![Ok(1), error()], Err((SYSTEM, "service b: no".to_owned()))),
            (Request::Show { id: 1 }, vec![error(), Ok(1)], Ok(1)),
            (Request::Show { id: 1 }, vec![error(), error()], Err((SYSTEM, "service a: no".to_owned()))),
            (Request::Pause, vec![], Err((SYSTEM, "there is no service".to_owned()))),
        ] {
            let mut outcome = MergedOutcome::new(&request);
            for (name, reply) in ["a", "b"].into_iter().zip(replies.clone()) {
                outcome.add(name, reply);
            }
            assert_eq!(outcome.result(), result, "{request:?} {replies:?}");
        }
        assert_eq!(last(r#"{"done":true,"count":7}"#), Ok(7));
        assert_eq!(last(r#"{"error":"no","code":100}"#), Err((100, "no".to_owned())));
        assert_eq!(last("x"), Err((111, "no reply".to_owned())));
    }
}
