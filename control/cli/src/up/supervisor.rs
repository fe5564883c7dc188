//! Keeps the children running: one task per child starts it, watches it, and starts it again after a rest.

use std::cell::RefCell;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::BufReader;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::up::backoff::Backoff;
use crate::up::child::{self, Kind, Running};
use crate::up::directory::Directory;
use crate::up::events::Events;

/// After SIGTERM a child has this long before SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The gateway is given this much of a head start, so that requests in hand can still be finished.
const GATEWAY_FIRST: Duration = Duration::from_secs(3);
/// A child that died so often in a row before the cell served will not get better by itself.
const START_DEATHS_MAX: u32 = 6;
/// Log lines shown when a child dies.
const LINES_SHOWN: usize = 3;

/// How far the stopping has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Run,
    StopGateway,
    StopAll,
    Kill,
}

/// What a child is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Starting,
    Serving,
    Resting,
    Ended,
}

/// A child, as the screen shows it.
#[derive(Clone, Debug)]
pub struct ChildView {
    pub name: String,
    pub pid: u32,
    pub state: State,
    pub restarts: u32,
    deaths_in_a_row: u32,
    /// The last line of its log when it last died.
    pub last_words: String,
}

impl ChildView {
    pub fn is_host(&self) -> bool {
        self.name.starts_with("host-")
    }
}

/// All children of the cell.
pub struct Supervisor {
    views: Rc<RefCell<Vec<ChildView>>>,
    phase: watch::Sender<Phase>,
    tasks: Vec<(Kind, JoinHandle<()>)>,
}

/// What the task of one child works with.
struct Keeper {
    kind: Kind,
    index: usize,
    directory: Directory,
    extra: Rc<Vec<String>>,
    views: Rc<RefCell<Vec<ChildView>>>,
    events: Rc<Events>,
    phase: watch::Receiver<Phase>,
}

impl Supervisor {
    /// Starts all children. Must be called on the thread that lives as long as `up`: children die with it.
    pub fn start(kinds: Vec<Kind>, directory: &Directory, extra: Vec<String>, events: &Rc<Events>) -> Self {
        let views = kinds.iter().map(|kind| ChildView {
            name: kind.name(),
            pid: 0,
            state: State::Starting,
            restarts: 0,
            deaths_in_a_row: 0,
            last_words: String::new(),
        });
        let views = Rc::new(RefCell::new(views.collect()));
        let (phase, watched) = watch::channel(Phase::Run);
        let extra = Rc::new(extra);
        let task = |(index, kind): (usize, Kind)| {
            let keeper = Keeper {
                kind: kind.clone(),
                index,
                directory: directory.clone(),
                extra: extra.clone(),
                views: Rc::clone(&views),
                events: events.clone(),
                phase: watched.clone(),
            };
            (kind, tokio::task::spawn_local(keeper.keep()))
        };
        let tasks = kinds.into_iter().enumerate().map(task).collect();
        Self { views, phase, tasks }
    }

    pub fn views(&self) -> Vec<ChildView> {
        self.views.borrow().clone()
    }

    /// The children that do not serve yet.
    pub fn missing(&self) -> Vec<String> {
        let views = self.views.borrow();
        views.iter().filter(|view| view.state != State::Serving).map(|view| view.name.clone()).collect()
    }

    /// The children that die again and again.
    pub fn hopeless(&self) -> Vec<ChildView> {
        let views = self.views.borrow();
        views.iter().filter(|view| view.deaths_in_a_row >= START_DEATHS_MAX).cloned().collect()
    }

    /// Stops everything: the gateway first, then the rest; who does not end by itself is killed.
    pub async fn stop(mut self) {
        self.phase.send_replace(Phase::StopGateway);
        let gateways = self.tasks.extract_if(.., |(kind, _)| *kind == Kind::Gateway).map(|(_, task)| task);
        let gateways = futures_util::future::join_all(gateways.collect::<Vec<_>>());
        let early = tokio::time::timeout(GATEWAY_FIRST, gateways).await;
        self.phase.send_replace(Phase::StopAll);
        let rest = futures_util::future::join_all(self.tasks.into_iter().map(|(_, task)| task));
        drop(rest.await);
        if early.is_err() {
            // Its task goes on by itself and kills it in time; wait for the pid to be let go.
            while self.views.borrow().iter().any(|view| view.state != State::Ended) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// A way to end everything at once while `stop` has the supervisor: a second Ctrl-C.
    pub fn killer(&self) -> impl Fn() + 'static {
        let phase = self.phase.clone();
        move || {
            phase.send_replace(Phase::Kill);
        }
    }
}

impl Keeper {
    async fn keep(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let start = Instant::now();
            let ended = self.live().await;
            if self.stopping() {
                break;
            }
            let rest = backoff.died(start.elapsed());
            self.set(State::Resting, |view| view.deaths_in_a_row = backoff.deaths_in_a_row());
            let name = self.kind.name();
            let again = crate::units::duration(rest);
            match ended {
                Ok((status, lines)) => {
                    let last_words = lines.last().cloned().unwrap_or_else(|| describe(status));
                    self.set(State::Resting, |view| view.last_words = last_words);
                    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
                    self.events.say(&format!("{name} ended: {}; starting again in {again}{lines}", describe(status)));
                }
                Err(failure) => self.events.say(&format!("{failure}; trying again in {again}")),
            }
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = self.phase.changed() => {}
            }
            if self.stopping() {
                break;
            }
            self.set(State::Starting, |view| view.restarts += 1);
        }
        self.set(State::Ended, |view| view.pid = 0);
        let pid_file = self.directory.pid_file(&self.kind.name());
        if let Err(error) = std::fs::remove_file(&pid_file) {
            tracing::debug!(%error, "no pid file to remove");
        }
    }

    /// One life of the child, from its start to its end.
    async fn live(&mut self) -> Result<(ExitStatus, Vec<String>), Failure> {
        let (mut running, stdout) = child::start(&self.kind, &self.directory, &self.extra)?;
        self.set(State::Starting, |view| view.pid = running.pid);
        for failure in running.unwritten.drain(..) {
            self.events.say(&format!("{} runs (pid {}) although: {failure}", self.kind.name(), running.pid));
        }
        let mut stdout = BufReader::new(stdout);
        let status = loop {
            let serving = self.state() == State::Serving;
            tokio::select! {
                status = running.wait() => break status?,
                ready = child::ready_line(&mut stdout), if !serving => {
                    if !ready {
                        break self.end(&mut running).await?;
                    }
                    self.set(State::Serving, |_| ());
                    let again = if self.restarts() > 0 { " again" } else { "" };
                    self.events.say(&format!("{} serves{again} (pid {})", self.kind.name(), running.pid));
                }
                _ = self.phase.changed() => {
                    if self.stopping() {
                        break self.end(&mut running).await?;
                    }
                }
            }
        };
        let log = self.directory.log(&self.kind.name());
        Ok((status, running.last_lines(&log, LINES_SHOWN)))
    }

    /// Waits for the end of a child that should end: SIGTERM, and SIGKILL when that takes too long.
    async fn end(&mut self, running: &mut Running) -> Result<ExitStatus, Failure> {
        running.signal(Signal::TERM);
        let limit = tokio::time::sleep(STOP_LIMIT);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                status = running.wait() => return status,
                () = &mut limit => {
                    self.events.say(&format!("{} does not stop: killed", self.kind.name()));
                    running.signal(Signal::KILL);
                    return running.wait().await;
                }
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() == Phase::Kill {
                        running.signal(Signal::KILL);
                        return running.wait().await;
                    }
                }
            }
        }
    }

    fn stopping(&self) -> bool {
        let phase = *self.phase.borrow();
        phase >= Phase::StopAll || (phase == Phase::StopGateway && self.kind == Kind::Gateway)
    }

    fn set(&self, state: State, change: impl FnOnce(&mut ChildView)) {
        if let Some(view) = self.views.borrow_mut().get_mut(self.index) {
            view.state = state;
            change(view);
        }
    }

    fn state(&self) -> State {
        self.views.borrow().get(self.index).map_or(State::Ended, |view| view.state)
    }

    fn restarts(&self) -> u32 {
        self.views.borrow().get(self.index).map_or(0, |view| view.restarts)
    }
}

/// How a process ended, in words.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed (signal 9)".into(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".into(),
    }
}
