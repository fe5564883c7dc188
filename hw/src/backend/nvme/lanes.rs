//! Who may write to a zone now: several appends together, or one write at the pointer alone; in the order they came.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::zone::ZoneId;

/// The lanes of all zones that are written to.
#[derive(Default)]
pub(super) struct Lanes {
    zones: RefCell<BTreeMap<ZoneId, Lane>>,
}

#[derive(Default)]
struct Lane {
    inside: u32,
    /// Who is inside is alone.
    alone: bool,
    waiting: VecDeque<Rc<Ticket>>,
}

struct Ticket {
    alone: bool,
    state: RefCell<TicketState>,
}

enum TicketState {
    Waiting(Option<Waker>),
    Inside,
}

impl Lanes {
    /// Queues for a zone at once; the future ends when the way is free.
    pub(super) fn enter(self: &Rc<Self>, zone: ZoneId, alone: bool) -> Entry {
        let ticket = Rc::new(Ticket { alone, state: RefCell::new(TicketState::Waiting(None)) });
        self.zones.borrow_mut().entry(zone).or_default().waiting.push_back(Rc::clone(&ticket));
        self.admit(zone);
        Entry { lanes: Rc::clone(self), zone, ticket }
    }

    /// Lets in who may.
    fn admit(&self, zone: ZoneId) {
        let mut wakers = Vec::new();
        {
            let mut zones = self.zones.borrow_mut();
            let Some(lane) = zones.get_mut(&zone) else { return };
            while let Some(next) = lane.waiting.front() {
                if lane.inside > 0 && (lane.alone || next.alone) {
                    break;
                }
                lane.inside += 1;
                lane.alone = next.alone;
                if let TicketState::Waiting(Some(waker)) = next.state.replace(TicketState::Inside) {
                    wakers.push(waker);
                }
                lane.waiting.pop_front();
            }
            if lane.inside == 0 {
                zones.remove(&zone);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A place in the queue, and then in the zone until it is dropped.
pub(super) struct Entry {
    lanes: Rc<Lanes>,
    zone: ZoneId,
    ticket: Rc<Ticket>,
}

impl Future for &Entry {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.ticket.state.borrow_mut() {
            TicketState::Inside => Poll::Ready(()),
            TicketState::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        {
            let mut zones = self.lanes.zones.borrow_mut();
            let Some(lane) = zones.get_mut(&self.zone) else { return };
            match *self.ticket.state.borrow() {
                TicketState::Inside => lane.inside -= 1,
                TicketState::Waiting(_) => lane.waiting.retain(|ticket| !Rc::ptr_eq(ticket, &self.ticket)),
            }
        }
        self.lanes.admit(self.zone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(entry: &Entry) -> bool {
        matches!(*entry.ticket.state.borrow(), TicketState::Inside)
    }

    #[test]
    fn appends_share_a_zone_and_a_write_is_alone_in_turn() {
        let lanes = Rc::new(Lanes::default());
        let enter = |alone| lanes.enter(ZoneId(1), alone);
        let (first, second, write, third) = (enter(false), enter(false), enter(true), enter(false));
        assert!(inside(&first) && inside(&second));
        assert!(!inside(&write) && !inside(&third), "a write is not overtaken");
        assert!(inside(&lanes.enter(ZoneId(2), true)), "zones do not wait for each other");
        drop(first);
        assert!(!inside(&write));
        drop(second);
        assert!(inside(&write) && !inside(&third));
        drop(write);
        assert!(inside(&third));
        drop(third);
        assert!(lanes.zones.borrow().is_empty());
    }

    #[test]
    fn who_leaves_the_queue_holds_up_nobody() {
        let lanes = Rc::new(Lanes::default());
        let enter = |alone| lanes.enter(ZoneId(1), alone);
        let (first, write, second) = (enter(false), enter(true), enter(false));
        drop(write);
        assert!(inside(&second));
        drop((first, second));
        assert!(lanes.zones.borrow().is_empty());
    }
}
