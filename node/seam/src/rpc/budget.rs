//! The byte budget of one listener, handed out to connections as credit.
//!
//! Keeps: what is handed out never exceeds the budget (invariant 9). A first-comer cannot take it all: nobody is given
//! more than a quarter of what is left, unless that is less than one payload; what a closing connection gives back
//! goes to those that were given little.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_proto::limits::{CONNECTION_CREDIT_BYTES, FRAME_PAYLOAD_BYTES_MAX};
use shingle_proto::message::Role;

/// Tells a connection that it has more credit.
type Raise = Box<dyn Fn(u32)>;

/// What is left, and who has how much.
pub(super) struct Budget {
    left: Cell<u64>,
    next: Cell<u64>,
    holders: RefCell<BTreeMap<u64, Holder>>,
}

struct Holder {
    bytes: u32,
    raise: Raise,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(bytes), next: Cell::new(0), holders: RefCell::default() })
    }

    /// Takes a share for a new connection; `None` when not even one payload is left. The control plane sends no
    /// payloads and must reach a host whose budget is spent: it gets a share of nothing.
    pub(super) fn share(self: &Rc<Self>, role: Role) -> Option<Share> {
        let bytes = if role == Role::Control { 0 } else { self.fair()? };
        self.left.set(self.left.get() - u64::from(bytes));
        Some(Share { budget: self.clone(), id: self.next.replace(self.next.get() + 1), bytes: Cell::new(bytes) })
    }

    fn fair(&self) -> Option<u32> {
        let (least, most) = (u64::from(FRAME_PAYLOAD_BYTES_MAX), u64::from(CONNECTION_CREDIT_BYTES));
        let bytes = (self.left.get() / 4).clamp(least, most);
        (bytes <= self.left.get()).then_some(u32::try_from(bytes).unwrap_or(CONNECTION_CREDIT_BYTES))
    }

    fn give_back(&self, id: u64, bytes: u32) {
        self.left.set(self.left.get() + u64::from(bytes));
        let mut holders = self.holders.borrow_mut();
        holders.remove(&id);
        for holder in holders.values_mut() {
            let more = self.fair().unwrap_or(0).saturating_sub(holder.bytes);
            if more > 0 {
                self.left.set(self.left.get() - u64::from(more));
                holder.bytes += more;
                (holder.raise)(more);
            }
        }
    }
}

/// What one connection has of the budget, until it is dropped.
pub(super) struct Share {
    budget: Rc<Budget>,
    id: u64,
    bytes: Cell<u32>,
}

impl Share {
    pub(super) fn bytes(&self) -> u32 {
        self.bytes.get()
    }

    /// From now on the connection is told when it may have more.
    pub(super) fn on_raise(&self, raise: Raise) {
        if self.bytes.get() > 0 {
            self.budget.holders.borrow_mut().insert(self.id, Holder { bytes: self.bytes.get(), raise });
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let raised = self.budget.holders.borrow().get(&self.id).map(|holder| holder.bytes);
        self.budget.give_back(self.id, raised.unwrap_or(self.bytes.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(128 * MIB);
        let shares: Vec<_> = std::iter::from_fn(|| budget.share(Role::Gateway)).collect();
        let total: u64 = shares.iter().map(|share| u64::from(share.bytes())).sum();
        assert!(total <= 128 * MIB && budget.left.get() < u64::from(FRAME_PAYLOAD_BYTES_MAX));
        assert_eq!(shares[0].bytes(), CONNECTION_CREDIT_BYTES);
        assert!(shares.len() > 8 && shares.iter().all(|share| share.bytes() >= FRAME_PAYLOAD_BYTES_MAX));
        assert_eq!(budget.share(Role::Control).map(|share| share.bytes()), Some(0), "control is never turned away");
        drop(shares);
        assert_eq!(budget.left.get(), 128 * MIB);
    }

    #[test]
    fn what_comes_back_goes_to_those_with_little() {
        let budget = Budget::new(128 * MIB);
        let mut shares: Vec<_> = std::iter::from_fn(|| budget.share(Role::Gateway)).collect();
        let last = shares.pop().unwrap();
        let raised = Rc::new(Cell::new(0));
        let sum = raised.clone();
        last.on_raise(Box::new(move |more| sum.set(sum.get() + more)));
        drop(shares);
        assert!(last.bytes() + raised.get() >= 24 * MIB as u32, "{}", raised.get());
        drop(last);
        assert_eq!(budget.left.get(), 128 * MIB);
    }
}
