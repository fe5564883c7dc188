//! Remote calls over the wire of DESIGN section 8: multiplexed, bounded by credits, deadlines and cancellation.
//!
//! [`Peers`] calls, [`serve`] answers. Both take the world from a [`crate::World`] and nothing else, so they run on tokio,
//! on glommio and in simulation. Every request gets exactly one response, cancelled or not: what a request took of a
//! connection (a place, credit) comes back with it. A peer that breaks the protocol loses its connection, no more.

mod budget;
mod call;
mod error;
mod farewell;
mod incoming;
mod link;
mod outbox;
mod peers;
mod serve;
mod service;
mod session;

pub use call::{CallMeta, Reply, SharedPayload};
pub use error::{ProtocolError, RpcError};
pub use incoming::PIECE_BYTES;
pub use peers::Peers;
pub use serve::{ServeOptions, serve};
pub use service::{Answer, Call, Payload, Service};
