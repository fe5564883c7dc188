//! Hosts on an SMR disk and on ZNS namespaces, both ways to them, killed while they write.
//!
//! The SMR disk is emulated in the guest's memory, so it does not survive a reset of the machine: `kill -9` is the
//! hardest end of a host on it that can be tried here. What the kernel has taken over by then is not lost with the
//! process; what the process only had in mind is.

use crate::devices::{scsi_debug, zns_block, zns_generic};
use crate::disks::blank;
use crate::killing::{Killing, Victim};

/// Kills that these small disks bear: each may cost the extents that were open.
const KILLS_PER_CELL: u64 = 5;

/// Kills unless RIG_KILLS says otherwise: the SMR disk's host, then everything, then a host on ZNS.
const KILLS_DEFAULT: u64 = 3;

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed_while_they_write() {
    let kills = std::env::var("RIG_KILLS").map_or(KILLS_DEFAULT, |kills| kills.parse().expect("a number of kills"));
    let devices = [scsi_debug(), zns_generic("zns-a"), zns_block("zns-b")];
    for first in (0..kills).step_by(KILLS_PER_CELL as usize) {
        devices.iter().for_each(|device| blank(device));
        let mut cell = Killing::start(&format!("/tmp/killed-{first}"), &devices);
        for kill in first..kills.min(first + KILLS_PER_CELL) {
            cell.kill(
                kill,
                match kill % 3 {
                    0 => Victim::Host(1),
                    1 => Victim::All,
                    _ => Victim::Host(2 + (kill / 3 % 2) as u32),
                },
            );
        }
        cell.all_is_there(|| devices.to_vec());
    }
}
