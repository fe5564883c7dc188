//! Tests of whole devices: one conformance body against every back end, crashes, faults, the ring.

mod conformance;
mod conforming;
mod crash;
mod damage;
mod emulated;
mod faults;
mod full;
mod looking;
mod recording;
mod rig;
mod ring;
