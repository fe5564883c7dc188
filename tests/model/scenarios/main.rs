//! A hundred thousand random operations against the reference model, and the proof that a wrong answer is found and
//! shrunk.

use shingle_tests::model::command::check;
use shingle_tests::model::operation::{Operation, draw};
use shingle_tests::model::shrink::{outcome, shrink};

#[test]
fn every_answer_is_one_the_model_allows() {
    assert_eq!(check(1, 100_000), Ok(100_000));
}

#[test]
fn failing_run_shrinks_to_what_matters() {
    let mut operations = draw(7, 60);
    // A block of more bytes than a zone: no operation that is drawn, and one that the model does not allow for.
    let block = shingle_tests::disk::Block { number: 1, bytes: 100_000 };
    operations.insert(30, Operation::Create(1));
    operations.insert(40, Operation::Append { extent: 1, block, generation: 0 });
    let what = outcome(&operations, 7).expect("the model knows no such answer");
    let (shrunk, what) = shrink(&operations, 7, what);
    assert!(what.contains("RecordTooLarge"), "{what}");
    assert!(shrunk.len() <= 2, "{shrunk:?}");
}
