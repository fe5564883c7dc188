//! The gateway's core against a control plane and hosts in memory, over real RPC on loopback: what a put, a get and a
//! copy do when all is well, and when members stall, lie, fill up or die.

mod cell;
mod control;
mod copies;
mod gets;
mod host;
mod puts;
