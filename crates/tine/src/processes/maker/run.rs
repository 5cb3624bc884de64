//! The maker's loop: waits until its forker needs a template, and makes it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, exit_now};

use super::message::{MAKE, changed_message, made_message, not_made};
use super::sources::SourceFiles;
use crate::error::{Error, next_move};
use crate::ipc::members::Members;
use crate::ipc::text_channel::TextChannel;
use crate::jail::confinement::Confinement;
use crate::jail::plan::Plan;
use crate::processes::jailer::client::Jailer;
use crate::processes::jailer::run::JailerStart;
use crate::processes::start::{cannot, start_detached};
use crate::program::launch::Launcher;
use crate::program::warm::{ClientKind, FileVersion, NewTemplate, TemplateJail, Warm, make_template};
use crate::settings::Settings;
use crate::system::parent::kill_with;

/// What a maker is started with.
#[derive(Clone, Copy)]
pub(crate) struct MakerStart<'a> {
    pub(crate) alone: &'a Alone,
    pub(crate) settings: &'a Settings,
    pub(crate) warm: &'a Warm,
    /// The clients that copies are for.
    pub(crate) client: ClientKind,
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
    if start.members.leave().is_err() {
        exit_now(111);
    }
    let mut kept = launcher.descriptors();
    kept.push(channel.as_fd());
    // Also the socket of a client, which its forker may have in hand at this moment.
    tine_sys::fd::close_from_except(fresh, Floor::above_standard(), &kept);
    tine_sys::memory::trim_heap();
    let mut sources = None;
    let mut rooms = Rooms::new(start);
    loop {
        match channel.receive() {
            Ok(Some(request)) if request.text == MAKE.as_bytes() => {
                // Since it was asked for the first time, the supervisor is its parent.
                if kill_with(start.supervisor).is_err() {
                    exit_now(111);
                }
                sources = make(start, &mut rooms, launcher, channel);
                let changed = sources.as_mut().and_then(SourceFiles::take_changed_before);
                changed.into_iter().for_each(|file| report_change(channel, &mut sources, &file));
            }
            Ok(Some(_)) => {}
            Ok(None) => exit_now(0),
            Err(Errno::AGAIN) => {
                if wait(channel, sources.as_ref()) == MakerWake::ForChange {
                    let changed = sources.as_ref().and_then(SourceFiles::changed);
                    changed.into_iter().for_each(|file| report_change(channel, &mut sources, &file));
                }
            }
            Err(_) => exit_now(111),
        }
    }
}

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MakerWake {
    ForRequest,
    ForChange,
}

/// Waits for a request, or until a file of the last template changes.
fn wait(channel: &TextChannel, sources: Option<&SourceFiles>) -> MakerWake {
    let request = PollFd::new(channel, PollFlags::IN);
    let change = sources.map_or(request.clone(), |sources| PollFd::new(sources, PollFlags::IN));
    let mut poll = [request, change];
    let _ = tine_sys::wait::until(&mut poll, None);
    match sources.is_some() && poll[0].revents().is_empty() && !poll[1].revents().is_empty() {
        true => MakerWake::ForChange,
        false => MakerWake::ForRequest,
    }
}

/// An update replaces several files, one after the other. When none has changed for this long, the
/// next template is made of all of them.
const QUIET: Duration = Duration::from_millis(200);

/// Tells the forker of a change, once there are no more, or there is a request.
fn report_change(channel: &TextChannel, sources: &mut Option<SourceFiles>, changed: &Path) {
    while let Some(sources) = sources {
        let mut poll = [PollFd::new(channel, PollFlags::IN), PollFd::new(sources, PollFlags::IN)];
        let quiet = tine_sys::wait::until(&mut poll, Some(Instant::now() + QUIET)) == Ok(0);
        if quiet || !poll[0].revents().is_empty() {
            break;
        }
        while sources.changed().is_some() {}
    }
    *sources = None;
    if channel.send(&changed_message(changed), &[]).is_err() {
        exit_now(111);
    }
}

/// Makes a template, and passes it on. One that the forker does not take ends with its channel.
/// Returns the files that it is made of.
fn make(
    start: &MakerStart,
    rooms: &mut Rooms,
    launcher: &mut Launcher,
    channel: &TextChannel,
) -> Option<SourceFiles> {
    let made = rooms.open(start).and_then(|()| make_in_room(start, rooms, launcher));
    rooms.close(made.is_ok());
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
    let (template, files) = made.ok()?;
    // Those of a full jail are in the mounts of its room.
    let root = match start.settings.jail_plan.full {
        Some(_) => format!("/proc/{}/root", template.facts.pid),
        None => String::new(),
    };
    SourceFiles::watch(&root, files).ok()
}

fn make_in_room(
    start: &MakerStart,
    rooms: &mut Rooms,
    launcher: &mut Launcher,
) -> Result<(NewTemplate, BTreeMap<PathBuf, FileVersion>), Error> {
    let Rooms { plan, way, .. } = rooms;
    let way = RefCell::new(way);
    let serving = || start.settings.serving_kind();
    let room = start.settings.jail_plan.copy_room(serving().directory.as_deref())?;
    // In the process of the template: here, nothing could be traced any more.
    let jail = || {
        let mut jail = Confinement::make(plan, serving(), start.first_server_fd)?;
        jail.take_room_of(&mut way.borrow_mut());
        Ok(jail)
    };
    make_template(
        start.alone,
        launcher,
        &start.warm.check,
        start.client,
        &TemplateJail { enter: &jail, room },
    )
}

/// The rooms of templates in a full jail.
struct Rooms {
    plan: Plan,
    jailer: Option<Jailer>,
    way: Confinement,
}

impl Rooms {
    fn new(start: &MakerStart) -> Rooms {
        let directory = start.settings.serving_kind().directory;
        let plan = start.settings.jail_plan.of_templates();
        let way = Confinement::of_rooms(plan.full.as_ref(), directory);
        Rooms { plan, jailer: None, way }
    }

    /// Has the next process that is forked be in a room.
    fn open(&mut self, start: &MakerStart) -> Result<(), Error> {
        let Some(full) = &self.plan.full else { return Ok(()) };
        let supervisor = (!start.settings.leaves_connections).then_some(start.supervisor);
        let (alone, members, index) = (start.alone, start.members, start.index);
        let jailer = match &mut self.jailer {
            Some(jailer) => jailer,
            none => none.insert(Jailer::start(&JailerStart {
                alone,
                full,
                members,
                index,
                supervisor,
                first_server_fd: start.first_server_fd,
            })?),
        };
        // The users of connections are those of slots: that of a template is one of the first.
        let opened = jailer.take().and_then(|room| self.way.open(room, index));
        opened.map_err(cannot("open a room for a template", next_move::of_call))
    }

    fn close(&mut self, has_template: bool) {
        match has_template {
            true => self.way.close_for_template(),
            false => self.way.close(false),
        }
        self.jailer.iter_mut().for_each(Jailer::settle);
    }
}
