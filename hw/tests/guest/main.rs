//! Tests that run inside the guest of `hw/rig`, on zoned devices of a real kernel.

#[test]
fn the_guest_has_its_devices() {
    for entry in std::fs::read_dir("/sys/block").expect("sysfs is mounted") {
        let entry = entry.expect("reads");
        let zoned = std::fs::read_to_string(entry.path().join("queue/zoned")).unwrap_or_default();
        println!("{} {}", entry.file_name().to_string_lossy(), zoned.trim());
    }
}
