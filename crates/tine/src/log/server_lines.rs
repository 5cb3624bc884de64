//! The lines about the server itself: its processes, its rules, its operators, its end.

use std::time::Duration;

use tine_sys::process::{Ended, How};

use super::Log;
use super::format::Format;
use super::value::FieldValue::{Decimal, Number, Text};
use crate::error::Error;
use crate::jail::layer::LayerState;
use crate::jail::plan::Plan;
use crate::lifecycle::outcome::{Outcome, signal_name};
use crate::net::operator::Operator;
use crate::net::peer::Peer;

impl Log {
    /// The access rules were reloaded.
    pub(crate) fn reload(&mut self, rules: usize) {
        self.event("reload", &[("rules", Number(rules as u64))]);
    }

    /// What is in force of the jail, layer by layer; what is missing of it, as warnings.
    pub(crate) fn jail(&mut self, plan: &Plan) {
        self.jail = plan.mode_in_force();
        for (layer, state) in plan.layers.iter().filter(|(_, state)| *state != LayerState::Off) {
            let detail = state.detail();
            if matches!(state, LayerState::Refused(_) | LayerState::Partly(..)) {
                self.warning(&format!("the jail does without {}: {detail}", layer.name()));
            }
            let mut fields = vec![("layer", Text(layer.name())), ("state", Text(state.name()))];
            fields.extend((!detail.is_empty()).then_some(("detail", Text(detail.as_str()))));
            self.event("jail", &fields);
        }
    }

    /// A forker has a new template of the program, a process of which these facts are known.
    pub(crate) fn warm_ready(&mut self, forker: usize, pid: i32, facts: &[(&'static str, u64)]) {
        let forker = Number(forker as u64 + 1);
        let pid = Number(pid.unsigned_abs().into());
        let mut fields = vec![("state", Text("ready")), ("forker", forker), ("pid", pid)];
        fields.extend(facts.iter().map(|(name, number)| (*name, Number(*number))));
        self.event("warm", &fields);
    }

    /// A file that the template of a forker is made of has changed: a new one is made.
    pub(crate) fn warm_stale(&mut self, forker: usize, file: &str) {
        let forker = Number(forker as u64 + 1);
        self.event("warm", &[("state", Text("stale")), ("forker", forker), ("file", Text(file))]);
    }

    /// A forker has no template, for this reason, and executes the program.
    pub(crate) fn warm_off(&mut self, forker: usize, why: &str) {
        let forker = Number(forker as u64 + 1);
        self.event("warm", &[("state", Text("off")), ("forker", forker), ("why", Text(why))]);
    }

    /// The source of a peer is rejected for this time.
    pub(crate) fn penalty(&mut self, peer: &Peer, reason: &str, time: Duration) {
        let peer = self.shown(peer);
        self.event(
            "penalty",
            &[("peer", Text(&peer)), ("reason", Text(reason)), ("seconds", Decimal(time.as_secs_f64()))],
        );
    }

    /// A process has connected to the control socket that may do nothing.
    pub(crate) fn control_denied(&mut self, operator: Operator) {
        let Operator { uid, pid, .. } = operator;
        self.warning(&format!("control denied to pid {pid} of uid {uid}: only root and the user of the server may (--control-group lets a group read)"));
    }

    /// A control process has ended: a warning if a signal ended it.
    pub(crate) fn control_ended(&mut self, ended: &Ended) {
        if let How::Signaled(signal) = ended.how {
            let signal = signal_name(signal);
            self.warning(&format!("a control process was ended by {signal}: its command is not answered"));
        }
    }

    /// An operator has changed the server. Logged at every level.
    pub(crate) fn control(&mut self, operator: Operator, command: &str, detail: Option<&str>) {
        let mut fields = vec![("command", Text(command))];
        if operator.rank.is_observer() {
            fields.push(("by", Text("observer")));
        }
        fields.push(("uid", Number(operator.uid.into())));
        // 0 is a process that this PID namespace does not see.
        fields
            .extend(u64::try_from(operator.pid).ok().filter(|pid| *pid > 0).map(|pid| ("pid", Number(pid))));
        fields.extend(detail.map(|detail| ("detail", Text(detail))));
        if !matches!(self.format, Format::Peer(_)) {
            self.always("control", &fields);
        }
    }

    /// `agent`: an address that the agent of HAProxy listens on, of a service.
    pub(crate) fn agent(&mut self, address: &str, service: Option<&str>) {
        let mut fields = vec![("address", Text(address))];
        fields.extend(service.map(|service| ("of", Text(service))));
        self.event("agent", &fields);
    }

    /// The bus is there or away, or the nodes of the fleet are others.
    pub(crate) fn fleet(&mut self, is_connected: bool, present: u32, lost: u32) {
        let bus = Text(if is_connected { "connected" } else { "away" });
        let mut fields = vec![("bus", bus), ("nodes", Number(present.into()))];
        fields.extend((lost > 0).then_some(("lost", Number(lost.into()))));
        self.event("fleet", &fields);
    }

    /// The server drains after a time, and accepts clients until then.
    pub(crate) fn announce(&mut self, connections: usize, delay: Duration) {
        let delay = ("delay_seconds", Decimal(delay.as_secs_f64()));
        self.event("announce", &[("connections", Number(connections as u64)), delay]);
    }

    /// The server drains; `None` if connections have any time to finish.
    pub(crate) fn drain(&mut self, connections: usize, timeout: Option<Duration>) {
        let mut fields = vec![("connections", Number(connections as u64))];
        fields.extend(timeout.map(|timeout| ("timeout_seconds", Decimal(timeout.as_secs_f64()))));
        self.event("drain", &fields);
    }

    /// A process of the next generation is started, by the same binary for a reload.
    pub(crate) fn handover_begins(&mut self, is_reload: bool, pid: i32) {
        let why = if is_reload { "reload" } else { "upgrade" };
        self.event("replace", &[("why", Text(why)), ("pid", Number(pid as u64))]);
    }

    /// There is no next generation.
    pub(crate) fn handover_failed(&mut self, why: &str) {
        self.always("error", &[("text", Text(&format!("cannot replace the server: {why}")))]);
    }

    /// The next generation serves.
    pub(crate) fn handed_over(&mut self, pid: i32, build: &str, connections: Option<usize>) {
        let mut fields = vec![("pid", Number(pid as u64)), ("version", Text(build))];
        fields.extend(connections.map(|connections| ("connections", Number(connections as u64))));
        self.event("replaced", &fields);
    }

    /// The connections of a generation that was replaced have ended.
    pub(crate) fn finished(&mut self) {
        self.event("finish", &[]);
    }

    /// Every service of the master has stopped.
    pub(crate) fn stop_all(&mut self, services: usize) {
        self.event("stop", &[("services", Number(services as u64))]);
    }

    pub(crate) fn stop(&mut self, connections: u64) {
        if let Some(dialect) = self.verbose_dialect() {
            return self.peer_line(dialect.stop());
        }
        self.event("stop", &[("connections", Number(connections))]);
    }

    pub(crate) fn warning(&mut self, text: &str) {
        self.always("warning", &[("text", Text(text))]);
    }

    pub(crate) fn restart(&mut self, role: &str, pid: i32, outcome: &Outcome, restart_in: Duration) {
        self.always(
            "restart",
            &[
                ("role", Text(role)),
                ("pid", Number(pid as u64)),
                ("outcome", Text(&outcome.to_string())),
                ("restart_in_seconds", Decimal(restart_in.as_secs_f64())),
            ],
        );
    }

    /// The error that ends this process.
    pub(crate) fn fatal(&mut self, error: &Error) {
        self.always("error", &[("text", Text(&error.to_string()))]);
    }

    /// An error after which the process goes on.
    pub(crate) fn error(&mut self, what: &str, why: &str, next: &str) {
        self.always("error", &[("text", Text(&format!("{what}: {why}; {next}")))]);
    }

    pub(crate) fn recovered(&mut self, what: &str) {
        self.always("recovered", &[("text", Text(what))]);
    }
}
