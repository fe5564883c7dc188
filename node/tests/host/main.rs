//! Tests of the host: its format, its promises, its recovery, and the process as a whole.

mod company;
mod crash;
mod formats;
mod gather;
mod inspect;
mod journal;
mod labels;
mod long_reads;
mod osd;
mod process;
mod recovery;
mod rig;
mod room;
mod rot;
mod schedule;
mod slots;
mod startup;
mod zones;
