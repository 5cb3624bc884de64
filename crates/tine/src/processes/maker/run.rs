//! The maker's loop: waits until its forker needs a template, and makes it.

use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, exit_now};

use super::message::{MAKE, changed_message, made_message, not_made};
use super::sources::Sources;
use crate::ipc::members::Members;
use crate::ipc::text_channel::TextChannel;
use crate::jail::confinement::Confinement;
use crate::processes::start::start_detached;
use crate::program::launch::Launcher;
use crate::program::warm::{Warm, make_template};
use crate::settings::Settings;
use crate::system::parent::kill_with;

/// What a maker is started with.
#[derive(Clone, Copy)]
pub(crate) struct MakerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) settings: &'a Settings,
    pub(crate) warm: &'a Warm,
    /// What the program shares, which is not for a maker.
    pub(crate) members: Members,
    /// The number of its forker, from 0.
    pub(crate) index: usize,
    pub(crate) supervisor: Pid,
    pub(crate) first_server_fd: Floor,
}

/// Runs as a maker until its forker ends.
pub(super) fn run(fresh: &Fresh, start: &MakerStart, launcher: &mut Launcher, channel: &TextChannel) -> ! {
    tine_sys::signal::defaults(fresh);
    // A name without a zero byte cannot fail.
    let name = CString::new(format!("tine: maker {}", start.index + 1)).unwrap_or_default();
    start_detached(&name);
    if kill_with(start.supervisor).is_err() || start.members.leave().is_err() {
        exit_now(111);
    }
    let mut kept = launcher.descriptors();
    kept.push(channel.as_fd());
    tine_sys::fd::close_from_except(fresh, start.first_server_fd, &kept);
    tine_sys::memory::trim_heap();
    let mut sources = None;
    loop {
        match channel.receive() {
            Ok(Some(request)) if request.text == MAKE.as_bytes() => {
                sources = make(start, launcher, channel);
            }
            Ok(Some(_)) => {}
            Ok(None) => exit_now(0),
            Err(Errno::AGAIN) => {
                if wait(channel, sources.as_ref()) == Waited::ForChange {
                    report_change(channel, &mut sources);
                }
            }
            Err(_) => exit_now(111),
        }
    }
}

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    ForRequest,
    ForChange,
}

/// Waits for a request, or until a file of the last template changes.
fn wait(channel: &TextChannel, sources: Option<&Sources>) -> Waited {
    let request = PollFd::new(channel, PollFlags::IN);
    let change = sources.map_or(request.clone(), |sources| PollFd::new(sources, PollFlags::IN));
    let mut poll = [request, change];
    let _ = tine_sys::wait::until(&mut poll, None);
    match sources.is_some() && poll[0].revents().is_empty() && !poll[1].revents().is_empty() {
        true => Waited::ForChange,
        false => Waited::ForRequest,
    }
}

/// An update replaces several files, one after the other. When none has changed for this long, the
/// next template is made of all of them.
const QUIET: Duration = Duration::from_millis(200);

/// Tells the forker of a change, once there are no more, or there is a request.
fn report_change(channel: &TextChannel, sources: &mut Option<Sources>) {
    let Some(changed) = sources.as_ref().and_then(Sources::changed) else { return };
    while let Some(sources) = sources {
        let mut poll = [PollFd::new(channel, PollFlags::IN), PollFd::new(sources, PollFlags::IN)];
        let quiet = tine_sys::wait::until(&mut poll, Some(Instant::now() + QUIET)) == Ok(0);
        if quiet || !poll[0].revents().is_empty() {
            break;
        }
        while sources.changed().is_some() {}
    }
    *sources = None;
    if channel.send(&changed_message(&changed), &[]).is_err() {
        exit_now(111);
    }
}

/// Makes a template, and passes it on. One that the forker does not take ends with its channel.
/// Returns the files that it is made of.
fn make(start: &MakerStart, launcher: &mut Launcher, channel: &TextChannel) -> Option<Sources> {
    // In the process of the template: here, nothing could be traced any more.
    let jail = || {
        let settings = start.settings;
        Confinement::make(&settings.jail_plan, settings.serving_kind(), start.first_server_fd)
    };
    let made = make_template(start.alone, launcher, &start.warm.check, &jail);
    let sent = match &made {
        Ok((template, _)) => {
            let descriptors = [template.channel.as_fd(), template.process.as_fd()];
            channel.send(&made_message(template), &descriptors)
        }
        Err(why) => channel.send(&not_made(why), &[]),
    };
    if sent.is_err() {
        exit_now(111);
    }
    // A file that was replaced while the template was made is noticed by the next change only.
    made.ok().and_then(|(_, files)| Sources::watch(files.iter().map(|file| &**file)).ok())
}
