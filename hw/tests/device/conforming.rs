//! Emulated drives pass the conformance body with every geometry.

use shingle_hw::geometry::Geometry;

use crate::conformance::CHECKS;
use crate::rig::{Rig, geometries};

fn conforms(make: impl Fn(&Geometry) -> Option<Rig>) {
    for geometry in geometries() {
        for (_, check) in CHECKS {
            if let Some(rig) = make(&geometry) {
                assert_eq!(rig.device.geometry(), &geometry);
                check(&rig);
            }
        }
    }
}

#[test]
fn the_memory_device_conforms() {
    conforms(|geometry| Some(Rig::memory(geometry)));
}

#[test]
fn the_emulated_drive_conforms() {
    conforms(|geometry| Some(Rig::file(geometry)));
}

#[test]
fn the_emulated_drive_conforms_on_tmpfs() {
    conforms(Rig::file_in_memory);
}

#[test]
fn the_faulty_device_without_faults_conforms() {
    conforms(|geometry| Some(Rig::faulty(geometry)));
}
