//! Scenarios of the simulated cell. Each runs a few seeds here; `shingle-tests sim --seed S --count N` runs as many as
//! one likes, and a failing seed is replayed by its number.

mod faults;
mod hedge;
mod lacking;
mod races;
mod scrub;
mod whole_cell;
