//! Runs as a control process: reads one request, answers it, exits.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tine_sys::process::exit_now;

use super::answer::answer;
use super::reply::{Reply, SYSTEM, TIMEOUT, USAGE, wait_for};
use super::request::{MAX_REQUEST, Request};
use super::view::View;
use super::{ControlStart, NewController};
use crate::ipc::steering::OrderSender;
use crate::net::operator::Rank;
use crate::processes::own_confinement::ConfinedRole;
use crate::processes::start::start_helper;

/// The error for an operator without the privilege for a request.
pub(super) fn refusal(rank: Rank) -> &'static str {
    match rank {
        Rank::Observer => "the observer may only read; with --observe-control it may do more",
        Rank::Steward => "the observer may kill, pause, resume, ban and unban, and change nothing else",
        Rank::Reader | Rank::Owner => {
            "this user may only read; root and the user of the server may change it"
        }
    }
}

/// Serves one request.
pub(crate) fn run(mut start: ControlStart) -> ! {
    let role = ConfinedRole::Control;
    let entered = start_helper(start.alone, start.identity.as_ref(), start.supervisor, c"tine: control");
    start.report.finish(entered, &role);
    // The controller has gone, or does not read: there is no one to tell.
    let _ = serve(&mut start.view, &start.controller);
    exit_now(0)
}

fn serve(view: &mut View, NewController { stream, operator, orders }: &NewController) -> io::Result<()> {
    let line = read_line(stream, orders)?;
    let mut reply = Reply::new(stream, orders);
    let Some(line) = line else { return reply.error(USAGE, "the request is too long") };
    match Request::parse(&line) {
        Err(why) => reply.error(USAGE, &why),
        Ok((request, _)) if !operator.rank.may(request.needs()) => {
            reply.error(SYSTEM, refusal(operator.rank))
        }
        Ok((_, Some(service))) if view.service.as_ref() != Some(&service) => {
            reply.error(SYSTEM, &format!("there is no service {service}"))
        }
        Ok((request, _)) => answer(&request, view, orders, &mut reply),
    }
}

/// Reads up to the end of a line, or of the stream; `None` if that is too far away.
pub(super) fn read_line(stream: &OwnedFd, orders: &OrderSender) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    // For the whole request: one that comes byte by byte must not keep this process.
    let deadline = Some(Instant::now() + TIMEOUT);
    loop {
        let length = match rustix::net::recv(stream, &mut part[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN) => {
                wait_for(stream, PollFlags::IN, orders, deadline)?;
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(why) => return Err(why.into()),
        };
        let end = part[..length].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&part[..end.unwrap_or(length)]);
        if line.len() > MAX_REQUEST {
            return Ok(None);
        }
        if end.is_some() || length == 0 {
            return Ok(Some(line));
        }
    }
}
