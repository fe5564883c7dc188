//! The recorder's log, and devices made from images.

use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::CommandKind;
use shingle_hw::geometry::Geometry;
use shingle_hw::image::{Image, Sector, ZoneImage};
use shingle_hw::recorder::{Event, Recorder};
use shingle_hw::zone::{ZoneCondition, ZoneId};

fn geometry() -> Geometry {
    Geometry::smr_with_zones(1 << 20, 1 << 16)
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

#[test]
fn log_tells_what_began_and_ended_in_which_order_and_epoch() {
    let recorder = Recorder::new(Rc::new(MemoryDevice::new(geometry(), "serial")));
    let buffer = |fill: u8| {
        let mut buffer = recorder.alloc_buffer(4096);
        buffer.fill(fill);
        buffer
    };
    let first = recorder.append(ZoneId(2), buffer(1), 0..4096);
    let second = recorder.append(ZoneId(3), buffer(2), 0..4096);
    assert_eq!(now(second).0, Ok(0));
    assert_eq!(now(first).0, Ok(0));
    assert_eq!(now(recorder.flush()), Ok(()));
    assert_eq!(now(recorder.append(ZoneId(2), buffer(3), 0..4096)).0, Ok(4096));
    assert!(now(recorder.write(ZoneId(2), 0, buffer(4), 0..4096)).0.is_err());
    let events = recorder.log().events();
    let began = |event: &Event| match event {
        Event::Begun { command, action } => Some((*command, action.kind, action.zone, action.epoch)),
        _ => None,
    };
    let expected = [
        (0, CommandKind::Append, ZoneId(2), 0),
        (1, CommandKind::Append, ZoneId(3), 0),
        (2, CommandKind::Flush, ZoneId(0), 0),
        (3, CommandKind::Append, ZoneId(2), 1),
        (4, CommandKind::Write, ZoneId(2), 1),
    ];
    assert_eq!(events.iter().filter_map(began).collect::<Vec<_>>(), expected);
    let ended = |event: &Event| match event {
        Event::Ended { command, outcome } => Some((*command, outcome.clone().ok())),
        _ => None,
    };
    let expected = [(1, Some(0)), (0, Some(0)), (2, Some(0)), (3, Some(4096)), (4, None)];
    assert_eq!(events.iter().filter_map(ended).collect::<Vec<_>>(), expected);
    assert!(matches!(&events[0], Event::Begun { action, .. } if *action.data == [1; 4096]));
}

#[test]
fn device_made_from_an_image_holds_it_durably() {
    let mut image = Image::blank(&geometry());
    let sectors = vec![Sector::of(&[7; 4096]), Sector::Zeroes, Sector::Unreadable];
    image.set(ZoneId(2), ZoneImage::new(ZoneCondition::Closed, sectors.clone()));
    image.set(ZoneId(3), ZoneImage::new(ZoneCondition::Full, sectors[..1].to_vec()));
    image.set(ZoneId(4), ZoneImage::new(ZoneCondition::Offline, Vec::new()));
    image.set(ZoneId(0), ZoneImage::new(ZoneCondition::NotWritePointer, sectors[..1].to_vec()));
    let device = MemoryDevice::from_image(&image, "serial");
    device.crash(5);
    let zones = now(device.report(ZoneId(0), 6)).unwrap();
    let conditions: Vec<ZoneCondition> = zones.iter().map(|zone| zone.condition).collect();
    let expected = [
        ZoneCondition::NotWritePointer,
        ZoneCondition::Empty,
        ZoneCondition::Closed,
        ZoneCondition::Full,
        ZoneCondition::Offline,
        ZoneCondition::Empty,
    ];
    assert_eq!(conditions, expected);
    assert_eq!(zones[2].write_pointer_bytes, 3 * 4096);
    let read = |zone, offset| {
        let (outcome, buffer) = now(device.read(ZoneId(zone), offset, device.alloc_buffer(4096), 0..4096));
        outcome.map(|()| buffer[0])
    };
    assert_eq!((read(2, 0), read(2, 4096), read(3, 0), read(0, 0)), (Ok(7), Ok(0), Ok(7), Ok(7)));
    assert_eq!(read(2, 8192), Err(DeviceError::Unreadable { zone: ZoneId(2), offset_bytes: 8192 }));
    assert_eq!(now(device.reset(ZoneId(2))), Ok(()));
    assert_eq!(read(2, 8192), Ok(0));
}
