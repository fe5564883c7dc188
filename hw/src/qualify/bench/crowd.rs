//! Commands in flight side by side.
//!
//! Invariant: every command is given back exactly once, with the number it was added under.

use crate::device::Command;

/// Commands in flight; `next` gives them back as they end.
pub struct Crowd<T> {
    commands: Vec<(u64, Command<T>)>,
    next: u64,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self { commands: Vec::new(), next: 0 }
    }
}

impl<T> Crowd<T> {
    /// Adds a command; the number it is given back with.
    pub fn push(&mut self, command: Command<T>) -> u64 {
        self.next += 1;
        self.commands.push((self.next, command));
        self.next
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The next command that ends; `None` when none is left.
    pub async fn next(&mut self) -> Option<(u64, T)> {
        if self.commands.is_empty() {
            return None;
        }
        std::future::poll_fn(|context| {
            for at in 0..self.commands.len() {
                let Some((_, command)) = self.commands.get_mut(at) else { break };
                if let std::task::Poll::Ready(value) = command.as_mut().poll(context) {
                    let (number, _) = self.commands.swap_remove(at);
                    return std::task::Poll::Ready(Some((number, value)));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
