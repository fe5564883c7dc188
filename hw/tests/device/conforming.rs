//! Emulated drives pass the conformance body with every geometry.

use shingle_hw::geometry::Geometry;

use crate::conformance::{CHECKS, Check};
use crate::emulated::{FileRig, faulty, geometries, memory};
use crate::rig::Rig;

fn conforms(on_device: impl Fn(&Geometry, &dyn Fn(&Rig))) {
    for geometry in geometries() {
        for (_, check) in CHECKS {
            on_device(&geometry, &|rig| checked(rig, &geometry, check));
        }
    }
}

fn checked(rig: &Rig, geometry: &Geometry, check: Check) {
    assert_eq!(rig.device.geometry(), geometry);
    check(rig);
}

#[test]
fn the_memory_device_conforms() {
    conforms(|geometry, check| check(&memory(geometry)));
}

#[test]
fn the_emulated_drive_conforms() {
    conforms(|geometry, check| check(&FileRig::new(geometry)));
}

#[test]
fn the_emulated_drive_conforms_on_tmpfs() {
    conforms(|geometry, check| {
        if let Some(rig) = FileRig::in_memory(geometry) {
            check(&rig);
        }
    });
}

#[test]
fn the_faulty_device_without_faults_conforms() {
    conforms(|geometry, check| check(&faulty(geometry)));
}
