//! `shingle inspect` as a user meets it: on disks that an OSD wrote, sound, damaged and in use; none of them is changed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;

use serde_json::Value;
use shingle_hw::backend::file;
use shingle_hw::buffer::BufferPool;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::Ring;
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, mount, read_label, write_label};
use shingle_node::osd::store::{AppendKey, NewExtent, Osd};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, BucketId, CellId, ExtentId, Generation, PutId, VolumeId};

const CLOSED: u128 = 0xaaaa_0000_0000_0000_0000_0000_0000_0001;
const OPEN: u128 = 0xbbbb_0000_0000_0000_0000_0000_0000_0002;
/// Where zones begin in the file: superblocks and a table of one page, rounded up to 1 MiB.
const DATA: u64 = 1 << 20;
const ZONE: u64 = 256 << 10;

/// A disk that an OSD wrote, and a directory for it.
struct Written {
    directory: tempfile::TempDir,
}

fn hash(number: u8) -> BlockHash {
    BlockHash([number; 32])
}

async fn put(osd: &Rc<Osd>, extent: u128, number: u8) {
    let payload = vec![number; 2000 * usize::from(number)];
    let bytes = payload.len() as u32;
    let mut buffer = osd.receive_buffer(ExtentId(extent), bytes).expect("room");
    buffer.as_mut().copy_from_slice(&payload);
    let key = AppendKey {
        extent: ExtentId(extent),
        hash: hash(number),
        put_id: PutId(number.into()),
        bucket: BucketId(80),
        plain_bytes: bytes,
        generation: Generation(0),
        class: Class::Client,
    };
    osd.append(key, buffer).await.expect("appended");
}

/// Mounts the disk, labels it first when it is empty, and does something with it while this process has it.
fn with_osd<T>(path: &Path, work: impl AsyncFnOnce(Rc<Osd>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let world = shingle_seam::on_tokio::world(1);
        let ring = Ring::new(64).expect("a ring");
        let device = file::open(path, Rc::clone(&ring), BufferPool::new(32 << 20).expect("mapped")).expect("opened");
        let ring = Rc::downgrade(&ring);
        drop(tokio::task::spawn_local(async move {
            while let Some(ring) = ring.upgrade() {
                if ring.poll() == 0 {
                    drop(ring);
                    tokio::task::yield_now().await;
                }
            }
        }));
        let disk = Disk { path: path.display().to_string(), device: Rc::new(device), profile: None };
        let label = match read_label(&disk).await.expect("ours") {
            Some(label) => label,
            None => write_label(&world, &disk, CellId(0xce11)).await.expect("labelled"),
        };
        let (findings, budgets) = (Rc::new(Findings::default()), Budgets::of(64 << 20));
        let (osd, _) = mount(world, disk, label, findings, budgets).await.expect("mounted");
        work(osd).await
    })
}

impl Written {
    fn new() -> Self {
        let written = Self { directory: tempfile::tempdir().expect("a directory") };
        let geometry = Geometry {
            zones: 20,
            zone_bytes: ZONE,
            zone_capacity_bytes: ZONE,
            conventional_zones: 1,
            sector_bytes: 4096,
            open_zones_max: 9,
            active_zones_max: 9,
            transfer_bytes_max: 64 << 10,
        };
        file::create(&written.path(), &geometry, "INSPECT-1").expect("created");
        with_osd(&written.path(), async |osd| {
            for extent in [CLOSED, OPEN] {
                let (extent, volume) = (ExtentId(extent), VolumeId(70));
                osd.create_extent(NewExtent { extent, volume, bucket: BucketId(80), member: 1 })
                    .await
                    .expect("created");
            }
            for number in 1..6 {
                put(&osd, CLOSED, number).await;
            }
            put(&osd, OPEN, 9).await;
            osd.close_extent(ExtentId(CLOSED), Generation(0)).await.expect("closed");
        });
        written
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    fn flip(&self, zone: u64, offset: u64) {
        let file = File::options().read(true).write(true).open(self.path()).expect("opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, DATA + zone * ZONE + offset).expect("reads");
        file.write_all_at(&[byte[0] ^ 8], DATA + zone * ZONE + offset).expect("writes");
    }

    /// Runs the program and checks that it changed nothing.
    fn inspect(&self, arguments: &[&str]) -> Output {
        let before = fs::read(self.path()).expect("reads");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shingle"));
        let output = command.arg("inspect").arg(self.path()).args(arguments).output().expect("runs");
        assert!(fs::read(self.path()).expect("reads") == before, "{arguments:?} changed the disk");
        output
    }

    /// Its document, and its exit code.
    fn document(&self, arguments: &[&str]) -> (Value, i32) {
        let output = self.inspect(&[arguments, &["--json"]].concat());
        let document = serde_json::from_slice(&output.stdout);
        let document: Value = document
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(document["schema"], "shingle-inspect/1");
        (document, output.status.code().expect("ended"))
    }
}

fn names(document: &Value) -> Vec<&str> {
    let list = document["findings"]["list"].as_array().expect("a list");
    list.iter().filter(|finding| finding["severity"] == "bad").filter_map(|finding| finding["name"].as_str()).collect()
}

#[test]
fn a_sound_disk_is_clean_in_every_view() {
    let disk = Written::new();
    let (label, code) = disk.document(&[]);
    assert_eq!((code, names(&label)), (0, vec![]));
    assert_eq!(label["device"]["serial"], "INSPECT-1");
    assert_eq!((&label["device"]["in_use"], &label["label"]["agree"]), (&false.into(), &true.into()));
    assert_eq!(label["label"]["copies"][1]["fields"]["zones"], 20);
    assert_eq!(label["label"]["summary"]["slots"]["open"], 1);
    let (zones, code) = disk.document(&["zones"]);
    assert_eq!((code, zones["zones"].as_array().map(Vec::len)), (0, Some(20)));
    assert_eq!(zones["zones"][0]["use"]["kind"], "label");
    assert_eq!(zones["zones"][3]["use"]["state"], "closed");
    let (extents, code) = disk.document(&["extents"]);
    assert_eq!(
        (code, &extents["extents"][0]["records"], &extents["extents"][1]["state"]),
        (0, &5.into(), &"open".into())
    );
    let (extent, code) = disk.document(&["extent", "AAAA0000"]);
    assert_eq!((code, extent["extent"]["records"].as_array().map(Vec::len)), (0, Some(5)));
    assert_eq!(extent["extent"]["footer"]["sound"], true);
    let (record, code) = disk.document(&["record", &hash(4).to_string()]);
    assert_eq!((code, &record["record"]["records"][0]["verdict"]), (0, &"sound".into()));
    assert_eq!(record["record"]["name_proven"], false);
    let (verify, code) = disk.document(&["verify"]);
    assert_eq!((code, &verify["verify"]["clean"], &verify["verify"]["records_sound"]), (0, &true.into(), &6.into()));
    for view in [&[][..], &["zones"], &["extents"], &["extent", "bbbb0000"], &["record", "09090909"], &["verify"]] {
        let output = disk.inspect(view);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("INSPECT-1") && text.contains("\nclean"), "{view:?}: {text}");
    }
}

#[test]
fn damage_is_named_with_its_place_and_an_exit_code_of_its_own() {
    let disk = Written::new();
    let (extent, _) = disk.document(&["extent", "aaaa0000"]);
    let record = &extent["extent"]["records"][1];
    let (zone, offset) =
        (record["zone"].as_u64().expect("a zone"), record["zone_offset_bytes"].as_u64().expect("a place"));
    disk.flip(zone, offset + 600);
    disk.flip(0, 70);
    let (verify, code) = disk.document(&["verify"]);
    assert_eq!((code, names(&verify)), (7, vec!["label-damaged", "record-damaged"]));
    let finding = &verify["findings"]["list"][1];
    assert_eq!(
        (&finding["zone"], &finding["offset_bytes"], &finding["block"]),
        (&record["zone"], &record["zone_offset_bytes"], &record["block"])
    );
    assert_eq!(verify["verify"]["clean"], false);
    let (found, code) = disk.document(&["record", record["block"].as_str().expect("a name")]);
    assert_eq!((code, &found["record"]["records"][0]["verdict"]), (7, &"record-damaged".into()));
    let text = String::from_utf8_lossy(&disk.inspect(&["verify"]).stdout).into_owned();
    assert!(text.contains("record-damaged") && text.contains("2 findings"), "{text}");
}

#[test]
fn truncated_and_foreign_files_are_findings_too() {
    let disk = Written::new();
    let whole = fs::read(disk.path()).expect("reads");
    File::options().write(true).open(disk.path()).expect("opens").set_len(whole.len() as u64 / 2).expect("cut");
    let (cut, code) = disk.document(&["verify"]);
    assert_eq!(code, 7);
    assert!(names(&cut).contains(&"file-truncated") && names(&cut).contains(&"label-unreadable"), "{cut}");
    assert_eq!(cut["verify"]["records_sound"], 6, "what is left is read");
    fs::write(disk.path(), vec![0x5a; 100_000]).expect("written");
    let (garbage, code) = disk.document(&["label"]);
    assert_eq!((code, names(&garbage)), (7, vec!["not-a-disk"]));
    assert_eq!(garbage["findings"]["list"][0]["value"], "5a".repeat(16));
    fs::write(disk.path(), &whole).expect("written");
    assert_eq!(disk.document(&["verify"]).1, 0);
}

#[test]
fn a_disk_in_use_is_shown_as_such_and_its_owner_goes_on() {
    let disk = Written::new();
    with_osd(&disk.path(), async |osd| {
        put(&osd, OPEN, 11).await;
        let (verify, code) = disk.document(&["verify"]);
        assert_eq!((code, &verify["device"]["in_use"]), (0, &true.into()), "{verify}");
        assert_eq!(verify["device"]["users"][0]["pid"], std::process::id());
        assert_eq!(verify["verify"]["records_sound"], 7);
        let text = String::from_utf8_lossy(&disk.inspect(&["zones"]).stdout).into_owned();
        assert!(text.contains("in use by"), "{text}");
        put(&osd, OPEN, 12).await;
    });
    assert_eq!(disk.document(&["verify"]).0["verify"]["records_sound"], 8);
}

#[test]
fn what_is_not_there_or_not_clear_is_refused_by_reason() {
    let disk = Written::new();
    let code = |arguments: &[&str]| disk.inspect(arguments).status.code();
    assert_eq!(code(&["extent", "cccc0000"]), Some(1));
    assert_eq!(code(&["extent", "aaaa"]), Some(2));
    assert_eq!(code(&["record", "0123456789"]), Some(1));
    assert_eq!(code(&["record", "not hex!"]), Some(2));
    let mut missing = Command::new(env!("CARGO_BIN_EXE_shingle"));
    assert_eq!(missing.args(["inspect", "/nowhere/disk"]).output().expect("runs").status.code(), Some(2));
}
