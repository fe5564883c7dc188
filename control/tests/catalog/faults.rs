//! Conflicts, unknown results and damage: nothing happens twice, nothing is counted twice, nothing panics.

use shingle_control::store::memory::Faults;
use shingle_control::store::{Store, StoreError};
use shingle_control::tables::block_index::Block;
use shingle_control::tables::objects::{Object, ObjectKey};
use shingle_control::tables::replication::{
    Member, Volume, VolumeState, cell_id, draw_numbers, insert_volume, volume_of,
};
use shingle_control::tables::row::Row;
use shingle_control::tables::work::Work;
use shingle_control::verify::index_scan::{IndexFault, check_tables};
use shingle_proto::ids::{BlockHash, CellId, ExtentId, Generation, OsdId};
use shingle_proto::message::*;

use crate::cell::{BUCKET, Cell, KEY, blocks, expect_code, expect_done, hash, part_blocks};

/// Something of everything, each step with the answer it has without faults.
fn work_through(cell: &Cell) {
    let create = |name: &str| cell.call(Request::CreateS3Bucket(Box::new(CreateS3Bucket { name: name.into() })));
    expect_done(create("other"));
    expect_done(cell.call(Request::DeleteS3Bucket(Box::new(DeleteS3Bucket { name: "other".into() }))));
    let intent = cell.open_intent(KEY);
    assert_eq!(cell.claim(&intent, &blocks([1, 2])), [false, false]);
    assert_eq!(cell.commit(&intent, &blocks([1, 2]), 1), [true, true]);
    cell.finish(&intent, KEY, &blocks([1, 2]));
    let intent = cell.open_intent(KEY);
    assert_eq!(cell.claim(&intent, &blocks([2, 3])), [true, false]);
    assert_eq!(cell.commit(&intent, &blocks([2, 3]), 2), [false, true]);
    cell.finish(&intent, KEY, &blocks([2, 3]));
    let upload = cell.create_upload("upload");
    cell.put_part("upload", &upload, 1, &part_blocks(10));
    cell.put_part("upload", &upload, 1, &part_blocks(20));
    cell.put_part("upload", &upload, 2, &part_blocks(30));
    cell.complete("upload", &upload, [1, 2]);
    let upload = cell.create_upload("dropped");
    cell.put_part("dropped", &upload, 1, &part_blocks(30));
    expect_done(cell.call(Cell::abort_upload_request("dropped", &upload)));
    cell.put("deleted", &blocks([7]));
    cell.delete("deleted");
    let intent = cell.open_intent("aborted");
    cell.commit(&intent, &blocks([8]), 8);
    let (manifest, put_token) = (intent.manifest, intent.put_token);
    expect_done(cell.call(Request::AbortIntent(Box::new(AbortIntent { manifest, put_token }))));
    cell.drain();
}

#[test]
fn conflicts_and_unknown_results_change_no_answer_and_no_count() {
    for seed in 0..60 {
        let cell = Cell::new(seed);
        cell.disk.inject(Faults { conflicts_per_mille: 200, unknown_per_mille: 300, ..Faults::default() });
        work_through(&cell);
        cell.disk.inject(Faults::default());
        let counts = cell.check_idle().counts;
        assert_eq!((counts.objects, counts.blocks, counts.references), (2, 6, 6), "{seed}");
        let again = cell.reopen();
        assert_eq!(again.catalog.counts(), counts);
    }
}

/// Two draws of volume numbers leave the same row, so after an unknown result one can be taken for the other.
#[test]
fn a_number_given_out_twice_makes_one_volume_only() {
    let mut twice = 0;
    for seed in 0..60 {
        let cell = Cell::new(seed);
        let tables = cell.catalog.tables();
        cell.sim.run(tables.run(async |work: &Work| cell_id(work, CellId(7)).await)).unwrap();
        cell.disk.inject(Faults { unknown_per_mille: 500, ..Faults::default() });
        let draw = || tables.run(async |work: &Work| draw_numbers(work).await);
        let (one, other) = cell.sim.run(async { futures_util::future::join(draw(), draw()).await });
        cell.disk.inject(Faults::default());
        let insert = |(id, bucket), osd| {
            let members = vec![Member { osd: OsdId(osd), extent: ExtentId(u128::from(osd)) }];
            let row = Volume { bucket, state: VolumeState::Open, generation: Generation(1), members };
            let inserted = cell.sim.run(tables.run(async |work: &Work| insert_volume(work, id, &row).await));
            (inserted, row)
        };
        let (Ok(one), Ok(other)) = (one, other) else { continue };
        let (inserted, row) = insert(one, 1);
        inserted.unwrap();
        assert!(insert(one, 1).0.is_ok(), "again changes nothing");
        let second = insert(other, 2).0;
        assert_eq!(second.err().and_then(|error| error.code()), (one == other).then_some(ErrorCode::Conflict));
        assert_eq!(cell.sim.run(volume_of(&tables.look(), one.1)).unwrap(), Some((one.0, row)));
        twice += u32::from(one == other);
    }
    assert!(twice > 0, "the overlap happens");
}

#[test]
fn a_broken_store_is_an_error() {
    let cell = Cell::new(1);
    cell.disk.inject(Faults { failed: true, ..Faults::default() });
    let request = OpenIntent { s3_bucket: BUCKET.into(), key: KEY.into() };
    expect_code(cell.call(Request::OpenIntent(Box::new(request))), ErrorCode::StoreFailed);
}

fn overwrite(cell: &Cell, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), StoreError> {
    let transaction = cell.store.begin();
    match value {
        Some(value) => transaction.set(key, value),
        None => transaction.clear(key),
    }
    cell.sim.run(transaction.commit())
}

#[test]
fn a_damaged_row_is_an_error_that_names_it() {
    let cell = Cell::new(1);
    cell.put(KEY, &blocks([1]));
    let key = Object::encode_key(&ObjectKey { s3_bucket: BUCKET.into(), key: KEY.into() });
    for value in [vec![], vec![1], vec![9; 100]] {
        overwrite(&cell, key.clone(), Some(value)).unwrap();
        match cell.head(KEY) {
            Response::ErrorReply(error) => {
                assert_eq!(error.code, ErrorCode::StoreFailed);
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(error.message.contains(&hex), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
        expect_code(cell.call(Cell::delete_request(KEY)), ErrorCode::StoreFailed);
    }
}

#[test]
fn a_promised_block_without_a_row_is_a_finding() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([1, 2]));
    overwrite(&cell, Block::encode_key(&BlockHash::from(hash(2))), None).unwrap();
    expect_code(cell.plan(&row.manifest, 0, u64::MAX, 0), ErrorCode::BlockMissing);
    assert!(matches!(cell.plan(&row.manifest, 0, 1, 0), Response::ReadPlan(_)));
    let findings = cell.places.findings.borrow();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].kind, findings[0].hash.clone()), (FindingKind::RecordMissing, Some(hash(2))));
    let store: std::rc::Rc<dyn Store> = cell.store.clone();
    let faults = cell.sim.run(check_tables(&store)).unwrap().faults;
    assert!(matches!(faults.as_slice(), [IndexFault::NoBlock { .. }]), "{faults:?}");
}
