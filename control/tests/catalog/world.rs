//! A world for these tests: one thread, virtual time, and a seed that decides which task goes on next.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shingle_seam::World;
use shingle_seam::clock::{Clock, Monotonic};
use shingle_seam::entropy::Entropy;
use shingle_seam::net::{Connection, Listener, Net};
use shingle_seam::tasks::{CpuJob, LocalFuture, Tasks};

/// Unix time at which every test begins.
pub const START_MS: u64 = 1_700_000_000_000;

struct Inner {
    now_ns: Cell<u64>,
    dice: Cell<u64>,
    spawned: RefCell<Vec<LocalFuture<'static, ()>>>,
    /// When the sleepers polled since the last look want to wake up.
    alarms: RefCell<Vec<u64>>,
    /// Somebody got further, or could if polled again.
    moved: Cell<bool>,
}

/// Runs futures; also the clock, entropy and tasks they see.
#[derive(Clone)]
pub struct Sim(Rc<Inner>);

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            now_ns: Cell::new(0),
            dice: Cell::new(seed),
            spawned: RefCell::default(),
            alarms: RefCell::default(),
            moved: Cell::new(false),
        }))
    }

    pub fn world(&self) -> World {
        let this = Rc::new(self.clone());
        World { clock: this.clone(), net: Rc::new(NoNet), entropy: this.clone(), tasks: this }
    }

    pub fn advance(&self, duration: Duration) {
        self.0.now_ns.set(self.0.now_ns.get() + duration.as_nanos() as u64);
    }

    pub fn roll(&self, bound: usize) -> usize {
        (self.u64() % bound as u64) as usize
    }

    /// The future's result.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut result = None;
        self.drive(pin!(future), &mut result, &|| false);
        result.expect("it ran to its end")
    }

    /// The future's result, unless `dead` says first that its process is gone; it and all tasks are dropped then.
    pub fn run_until_dead<T>(&self, future: impl Future<Output = T>, dead: &dyn Fn() -> bool) -> Option<T> {
        let mut result = None;
        self.drive(pin!(future), &mut result, dead);
        if result.is_none() {
            self.0.spawned.take();
        }
        result
    }

    /// Runs all futures at once, interleaved as the seed says.
    pub fn race<T>(&self, futures: Vec<LocalFuture<'_, T>>) -> Vec<T> {
        let mut slots: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
        let this = self.clone();
        self.run(std::future::poll_fn(move |context| {
            let waiting: Vec<usize> = (0..slots.len()).filter(|at| slots[*at].0.is_some()).collect();
            if waiting.is_empty() {
                return Poll::Ready(slots.iter_mut().map(|slot| slot.1.take().unwrap()).collect());
            }
            for at in waiting {
                if this.roll(2) == 0 {
                    this.0.moved.set(true); // has not had its turn
                } else if let Poll::Ready(value) = slots[at].0.as_mut().unwrap().as_mut().poll(context) {
                    slots[at] = (None, Some(value));
                    this.0.moved.set(true);
                }
            }
            Poll::Pending
        }))
    }

    fn drive<T>(&self, mut main: Pin<&mut dyn Future<Output = T>>, result: &mut Option<T>, dead: &dyn Fn() -> bool) {
        let mut context = Context::from_waker(Waker::noop());
        let mut idle = 0;
        while !dead() {
            self.0.moved.set(false);
            self.0.alarms.borrow_mut().clear();
            if let Poll::Ready(value) = main.as_mut().poll(&mut context) {
                *result = Some(value);
                return;
            }
            let mut tasks = self.0.spawned.take();
            for at in (0..tasks.len()).rev() {
                if self.roll(3) > 0 {
                    if tasks[at].as_mut().poll(&mut context).is_ready() {
                        drop(tasks.swap_remove(at));
                        self.0.moved.set(true);
                    }
                } else {
                    self.0.moved.set(true); // has not had its turn
                }
            }
            self.0.spawned.borrow_mut().extend(tasks);
            if self.0.moved.get() {
                idle = 0;
                continue;
            }
            let next = self.0.alarms.borrow().iter().min().copied();
            match next {
                Some(next) => self.0.now_ns.set(next.max(self.0.now_ns.get())),
                None => {
                    idle += 1;
                    assert!(idle < 100, "everybody waits for something that does not come");
                }
            }
        }
    }
}

/// Comes back at its second poll.
pub fn turn(sim: &Sim) -> impl Future<Output = ()> + 'static {
    let sim = sim.clone();
    let mut first = true;
    std::future::poll_fn(move |_| {
        if std::mem::take(&mut first) {
            sim.0.moved.set(true);
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

impl Clock for Sim {
    fn now(&self) -> Monotonic {
        Monotonic(self.0.now_ns.get())
    }

    fn unix_ms(&self) -> u64 {
        START_MS + self.0.now_ns.get() / 1_000_000
    }
}

impl Entropy for Sim {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let state = self.0.dice.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.0.dice.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            *byte = (mixed >> 56) as u8;
        }
    }
}

impl Tasks for Sim {
    fn spawn(&self, _: &'static str, task: LocalFuture<'static, ()>) {
        self.0.spawned.borrow_mut().push(task);
        self.0.moved.set(true);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        let this = self.clone();
        let until = self.0.now_ns.get() + duration.as_nanos() as u64;
        Box::pin(std::future::poll_fn(move |_| {
            if this.0.now_ns.get() >= until {
                return Poll::Ready(());
            }
            this.0.alarms.borrow_mut().push(until);
            Poll::Pending
        }))
    }

    fn run_cpu(&self, job: CpuJob) -> LocalFuture<'static, ()> {
        job();
        Box::pin(std::future::ready(()))
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(turn(self))
    }
}

struct NoNet;

impl Net for NoNet {
    fn connect(&self, _: SocketAddr) -> LocalFuture<'static, std::io::Result<Connection>> {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::Unsupported.into())))
    }

    fn listen(&self, _: SocketAddr) -> std::io::Result<Box<dyn Listener>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
