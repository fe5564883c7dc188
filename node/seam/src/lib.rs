//! The seams: everything through which data-path and control logic reach the world.
//!
//! Logic takes a [`World`] and nothing else, so the simulated cell runs the same code with virtual time, a network in
//! memory and seeded entropy. No trait here asks for `Send`: a shard, a gateway core and the control service each live
//! on one thread. Production implementations stand beside the traits, one file per runtime.

pub mod clock;
#[cfg(any(feature = "tokio", feature = "glommio"))]
mod cpu_pool;
pub mod entropy;
pub mod gate;
pub mod keys;
pub mod net;
#[cfg(feature = "glommio")]
pub mod on_glommio;
#[cfg(feature = "tokio")]
pub mod on_tokio;
#[cfg(any(feature = "tokio", feature = "glommio"))]
mod patience;
pub mod rpc;
pub mod stop;
pub mod tasks;
pub mod world;

pub use world::World;
