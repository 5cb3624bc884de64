//! What each helper keeps of the supervisor; the rest is closed.

use rustix::process::Pid;
use tine_sys::process::exit_now;

use super::connecting::ConnectorEnds;
use super::crash_reports::CrashReports;
use super::{SharedMemory, Supervisor};
use crate::connection::handler::Handler;
use crate::jail::layer::Layer;
use crate::processes::cgroup_cleaner::CleanerStart;
use crate::processes::connector::run::ConnectorStart;
use crate::processes::delayer::DelayerStart;
use crate::processes::job_worker::WorkerStart;
use crate::processes::proxy_reader::ProxyReaderStart;
use crate::processes::rejector::RejectorStart;
use crate::processes::start::StartReport;
use crate::processes::stderr_logger::{LoggerStart, ReportsStart};

impl<'a, H> Supervisor<'a, H>
where
    H: Handler,
{
    pub(super) fn keep_for_rejector(self, supervisor: Pid, report: StartReport) -> Option<RejectorStart<'a>> {
        self.memory.take_away();
        Some(RejectorStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            limits: self.settings.limits,
            rejections: self.channels.rejector?.receiver,
            log: self.log,
            report,
        })
    }

    pub(super) fn keep_for_delayer(self, supervisor: Pid) -> Option<DelayerStart<'a>> {
        let channels = self.channels.delayer?;
        Some(DelayerStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            board: or_exit(self.memory.board.for_delayer()),
            admission: or_exit(self.memory.admission.for_delayer()),
            arrivals: channels.arrivals.receiver,
            released: channels.released_sender?,
            rejector: self.channels.rejector?.sender,
            wakeup: channels.wakeup,
        })
    }

    pub(super) fn keep_for_proxy_reader(
        self,
        supervisor: Pid,
        report: StartReport,
    ) -> Option<ProxyReaderStart<'a>> {
        self.memory.take_away();
        let channels = self.channels.proxy_reader?;
        Some(ProxyReaderStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            timeout: self.settings.limits.proxy?.timeout,
            arrivals: channels.arrivals.receiver,
            identified: channels.identified_sender?,
            last: channels.last,
            log: self.log,
            report,
        })
    }

    pub(super) fn keep_for_stderr_logger(
        self,
        supervisor: Pid,
        report: StartReport,
    ) -> Option<LoggerStart<'a>> {
        self.memory.take_away();
        let messages = self.channels.crashes.map(|channel| channel.receiver);
        let reports = self.crash_reports.zip(messages).map(|(crash_reports, messages)| {
            let CrashReports { directory, kernel_log, .. } = crash_reports;
            ReportsStart { directory, messages, kernel_log }
        });
        let pipes = self.channels.stderr.map(|channel| channel.receiver);
        // The server drains.
        if pipes.is_none() && reports.is_none() {
            return None;
        }
        let logs_lines = self.settings.stderr_is_logged();
        let (alone, identity, log) = (self.alone, self.settings.identity, self.log);
        Some(LoggerStart { alone, supervisor, identity, pipes, logs_lines, reports, log, report })
    }

    pub(super) fn keep_for_connector(
        self,
        supervisor: Pid,
        report: StartReport,
    ) -> Option<ConnectorStart<'a>> {
        self.memory.take_away();
        let plan = self.settings.jail_plan;
        let (keeps_to_peer, connects) = (plan.holds_clients, plan.is_on(Layer::NetworkAllow));
        let full = plan.full.filter(|_| connects)?;
        let ConnectorEnds { arrivals, listeners, unanswered } = self.channels.connecting?.for_connector();
        let alone = self.alone;
        Some(ConnectorStart {
            alone,
            supervisor,
            full,
            keeps_to_peer,
            listeners,
            arrivals,
            unanswered,
            report,
        })
    }

    pub(super) fn keep_for_job_worker(
        mut self,
        index: usize,
        supervisor: Pid,
        report: StartReport,
    ) -> Option<WorkerStart<'a>> {
        let pools = self.jobs.iter().map(|pool| pool.workers).enumerate();
        let mut pool_of_worker = pools.flat_map(|(pool, workers)| std::iter::repeat_n(pool, workers));
        let pool = pool_of_worker.nth(index)?;
        let slot = self.settings.slots() + index;
        self.memory.stats.make_read_only().unwrap_or_else(|_| exit_now(111));
        let members = self.memory.members;
        self.memory.take_away();
        Some(WorkerStart {
            alone: self.alone,
            supervisor,
            identity: self.settings.identity,
            index,
            slot,
            pool: self.jobs.swap_remove(pool),
            members,
            first_server_fd: self.first_server_fd,
            report,
        })
    }

    pub(super) fn keep_for_cgroup_cleaner(self, report: StartReport) -> Option<CleanerStart> {
        self.memory.take_away();
        let supervisor_socket = self.channels.cleaner?.cleaner;
        Some(CleanerStart { supervisor_socket, cgroups: self.cgroups?, report })
    }
}

impl SharedMemory {
    /// Takes the memory that decides away from this process, a helper that does not use it: it
    /// handles what other hosts or programs send, or outlives the supervisor.
    pub(super) fn take_away(self) {
        or_exit(self.board.unmap());
        or_exit(self.admission.unmap());
    }
}

/// Exits if memory cannot be taken away from this process.
pub(super) fn or_exit<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|_| exit_now(111))
}
