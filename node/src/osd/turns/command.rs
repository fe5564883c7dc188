//! A command that waits in a disk's queue, and is begun by whoever gives its turn back.
//!
//! Invariant: a command is polled first when its turn has come, and its turn is given back once: by whoever waits for its
//! end, or, when nobody does any more, by the task that sees it through.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use shingle_proto::frame::Class;
use shingle_seam::tasks::{LocalFuture, Tasks};

use super::{Turn, Turns, Waiter};

enum Stage<T> {
    Waiting(LocalFuture<'static, T>),
    Begun(LocalFuture<'static, T>),
    Ended(T),
    /// Being polled, or over.
    Taken,
}

/// A command that begins when its turn comes. Its turn is given back by whoever sees its end.
pub(super) struct Runner<T> {
    stage: RefCell<Stage<T>>,
    /// Of who waits for it.
    waker: RefCell<Option<Waker>>,
}

impl<T> Runner<T> {
    pub(super) fn new(command: impl Future<Output = T> + 'static) -> Rc<Self> {
        Rc::new(Self { stage: RefCell::new(Stage::Waiting(Box::pin(command))), waker: RefCell::default() })
    }

    fn take(&self) -> Stage<T> {
        self.stage.replace(Stage::Taken)
    }
}

impl<T> Waiter for Runner<T> {
    fn granted(&self) {
        let Stage::Waiting(mut command) = self.take() else { panic!("a command's turn comes once, while it waits") };
        // It is dispatched only after it was polled, so somebody waits.
        let waker = self.waker.take().unwrap_or_else(|| Waker::noop().clone());
        match command.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => drop(self.stage.replace(Stage::Begun(command))),
            Poll::Ready(outcome) => {
                drop(self.stage.replace(Stage::Ended(outcome)));
                waker.wake();
            }
        }
    }
}

/// Waits for a command's end.
pub(super) struct Run<T: 'static> {
    turns: Turns,
    class: Class,
    /// Of the disk's queue.
    part: u64,
    runner: Rc<Runner<T>>,
    tasks: Rc<dyn Tasks>,
    abandoned: &'static str,
    dispatched: bool,
}

impl<T: 'static> Run<T> {
    /// Of a runner that has been offered, and takes such a part of the disk's queue.
    pub(super) fn new(
        turns: &Turns,
        (class, part): (Class, u64),
        runner: Rc<Runner<T>>,
        tasks: &Rc<dyn Tasks>,
        abandoned: &'static str,
    ) -> Self {
        Self { turns: turns.clone(), class, part, runner, tasks: tasks.clone(), abandoned, dispatched: false }
    }

    /// Its own, to be given back.
    fn turn(&self) -> Turn {
        Turn { turns: self.turns.clone(), part: self.part }
    }
}

impl<T> Future for Run<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let begun = match self.runner.take() {
            Stage::Begun(mut command) => match command.as_mut().poll(context) {
                Poll::Ready(outcome) => Stage::Ended(outcome),
                Poll::Pending => Stage::Begun(command),
            },
            stage @ Stage::Waiting(_) => {
                let mut waker = self.runner.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                stage
            }
            stage => stage,
        };
        drop(self.runner.stage.replace(begun));
        if !self.dispatched {
            self.dispatched = true;
            self.turns.dispatch();
        }
        match self.runner.take() {
            Stage::Ended(outcome) => {
                drop(self.turn());
                Poll::Ready(outcome)
            }
            stage => {
                drop(self.runner.stage.replace(stage));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        match self.runner.take() {
            Stage::Waiting(_) => self.turns.withdraw(self.class, &self.runner),
            Stage::Begun(command) => {
                let turn = self.turn();
                let rest = async move {
                    drop(command.await);
                    drop(turn);
                };
                self.tasks.spawn(self.abandoned, Box::pin(rest));
            }
            Stage::Ended(_) => drop(self.turn()),
            Stage::Taken => {}
        }
    }
}
