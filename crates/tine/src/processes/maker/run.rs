//! The maker's loop: waits until its forker needs a template, and makes it.

use std::ffi::CString;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, exit_now};

use super::message::{MAKE, made, not_made};
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
    loop {
        match channel.receive() {
            Ok(Some(request)) if request.text == MAKE.as_bytes() => make(start, launcher, channel),
            Ok(Some(_)) => {}
            Ok(None) => exit_now(0),
            Err(Errno::AGAIN) => {
                let mut poll = [PollFd::new(channel, PollFlags::IN)];
                let _ = tine_sys::wait::until(&mut poll, None);
            }
            Err(_) => exit_now(111),
        }
    }
}

/// Makes a template, and passes it on. One that the forker does not take ends with its channel.
fn make(start: &MakerStart, launcher: &mut Launcher, channel: &TextChannel) {
    // In the process of the template: here, nothing could be traced any more.
    let jail = || {
        let settings = start.settings;
        Confinement::make(&settings.jail_plan, settings.serving_kind(), start.first_server_fd)
    };
    let sent = match make_template(start.alone, launcher, &start.warm.check, &jail) {
        Ok(template) => {
            let descriptors = [template.channel.as_fd(), template.process.as_fd()];
            channel.send(&made(&template), &descriptors)
        }
        Err(why) => channel.send(&not_made(&why), &[]),
    };
    if sent.is_err() {
        exit_now(111);
    }
}
