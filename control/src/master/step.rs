//! The master's decisions: `step(view, now) -> orders`, in pure code.
//!
//! Invariants: an order is given once, until it is done or has failed; a volume with a member that may not take writes
//! is closed; an open extent that no open volume has is closed, whatever made it.

use std::collections::BTreeSet;

use shingle_proto::ids::{ExtentId, OsdId, VolumeId};
use shingle_proto::message::ExtentState;
use shingle_seam::clock::Monotonic;

use super::health::Liveness;
use super::view::{CloseReason, Condition, View};
use super::volumes::to_open;

/// Something to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make an extent on each of these OSDs, then the volume's rows.
    Open { members: Vec<OsdId> },
    /// Close the extents that can be reached, then the row.
    Close { volume: VolumeId, reason: CloseReason },
    /// Close an extent that no open volume has.
    EndExtent { osd: OsdId, extent: ExtentId },
}

/// What has to be done now.
pub fn step(view: &View, now: Monotonic) -> Vec<Order> {
    let mut orders = to_close(view, now);
    orders.extend(to_end(view, now));
    orders.extend(to_open(view, now).into_iter().map(|members| Order::Open { members }));
    orders
}

fn to_close(view: &View, now: Monotonic) -> Vec<Order> {
    let due = view.volumes.iter().filter(|(_, volume)| !volume.closing && volume.close_after <= now);
    let close = due.filter_map(|(id, volume)| match view.condition(volume, now) {
        Condition::Close(reason) => Some(Order::Close { volume: *id, reason }),
        Condition::Usable { .. } | Condition::Waiting | Condition::Away => None,
    });
    close.collect()
}

/// Extents left open by a volume that was closed without them, or that never came to be.
fn to_end(view: &View, now: Monotonic) -> Vec<Order> {
    let open = view.volumes.values().flat_map(|volume| &volume.row.members);
    let opening = view.opening.values().flatten();
    let wanted: BTreeSet<ExtentId> = open.chain(opening).map(|member| member.extent).collect();
    let mut orders = Vec::new();
    for (osd, health) in view.health.osds() {
        let shunned = view.shunned.get(osd).is_some_and(|until| *until > now);
        if shunned || view.health.liveness(*osd, now) != Liveness::Healthy {
            continue;
        }
        let left = health.extents.iter().filter(|(_, extent)| extent.state == ExtentState::Open);
        let left = left.filter(|(id, _)| !wanted.contains(id) && !view.ending.contains(id));
        orders.extend(left.map(|(extent, _)| Order::EndExtent { osd: *osd, extent: *extent }));
    }
    orders
}
