//! Tests of the host: its format, its promises, its recovery, and the process as a whole.

mod crash;
mod formats;
mod osd;
mod process;
mod recovery;
mod rig;
mod schedule;
mod slots;
