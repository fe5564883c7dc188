//! What a drive's profile is worth to its host: the same load on the same modelled drive, once with what a host assumes
//! of every disk, once with what qualification measured on this one. All in virtual time.

pub mod command;
pub mod hedge;
mod load;
mod outcome;
mod stage;
