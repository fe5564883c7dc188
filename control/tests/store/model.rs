//! Random transactions, several open at a time, against a plain map: a commit that succeeds must be as if the whole
//! transaction had run at that moment alone.

use std::collections::BTreeMap;
use std::ops::Bound;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shingle_control::store::{Pair, RangeRead, Store, StoreError, Transaction};

use crate::rig::{all, content, on_every_store};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A transaction with all it read and wrote, in order.
struct Open {
    transaction: Box<dyn Transaction>,
    steps: Vec<Step>,
}

enum Step {
    Get(Vec<u8>, Option<Vec<u8>>),
    Range(RangeRead, Vec<Pair>),
    Set(Vec<u8>, Vec<u8>),
    Clear(Vec<u8>),
    Add(Vec<u8>, u64),
}

fn key(dice: &mut SmallRng) -> Vec<u8> {
    let length = dice.random_range(1..=2);
    (0..length).map(|_| dice.random_range(b'a'..=b'f')).collect()
}

fn range_of(model: &Model, read: &RangeRead) -> Vec<Pair> {
    if read.begin >= read.end {
        return Vec::new();
    }
    let range = model.range::<Vec<u8>, _>((Bound::Included(&read.begin), Bound::Excluded(&read.end)));
    let pairs = range.map(|(key, value)| (key.clone(), value.clone()));
    if read.reverse { pairs.rev().take(read.limit).collect() } else { pairs.take(read.limit).collect() }
}

async fn random_step(open: &mut Open, dice: &mut SmallRng) {
    let step = match dice.random_range(0..12) {
        0..=2 => {
            let key = key(dice);
            let value = open.transaction.get(&key).await.unwrap();
            Step::Get(key, value)
        }
        3..=4 => {
            let (begin, end) = (key(dice), key(dice));
            let limit = dice.random_range(1..6);
            let read = RangeRead { limit, reverse: dice.random(), ..all(&begin, &end) };
            let pairs = open.transaction.range(read.clone()).await.unwrap();
            Step::Range(read, pairs)
        }
        5..=7 => Step::Set(key(dice), dice.random::<u64>().to_be_bytes().to_vec()),
        8..=9 => Step::Clear(key(dice)),
        _ => Step::Add(key(dice), dice.random_range(0..1000)),
    };
    match &step {
        Step::Set(key, value) => open.transaction.set(key.clone(), value.clone()),
        Step::Clear(key) => open.transaction.clear(key.clone()),
        Step::Add(key, delta) => open.transaction.add(key.clone(), *delta),
        Step::Get(..) | Step::Range(..) => {}
    }
    open.steps.push(step);
}

/// Runs the steps on the model; every read must see what it saw.
fn replay(model: &mut Model, steps: Vec<Step>, seed: u64) {
    for step in steps {
        match step {
            Step::Get(key, value) => assert_eq!(model.get(&key), value.as_ref(), "seed {seed}, key {key:?}"),
            Step::Range(read, pairs) => assert_eq!(range_of(model, &read), pairs, "seed {seed}, {read:?}"),
            Step::Set(key, value) => drop(model.insert(key, value)),
            Step::Clear(key) => drop(model.remove(&key)),
            Step::Add(key, delta) => {
                let value = model.entry(key).or_insert_with(|| vec![0; 8]);
                let sum = u64::from_le_bytes(value.as_slice().try_into().unwrap()).wrapping_add(delta);
                *value = sum.to_le_bytes().to_vec();
            }
        }
    }
}

fn writes(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Set(..) | Step::Clear(..) | Step::Add(..)))
}

async fn random_history(store: &dyn Store, model: &mut Model, seed: u64) -> (u32, u32) {
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut open: Vec<Open> = Vec::new();
    let (mut committed, mut conflicts) = (0, 0);
    for _ in 0..600 {
        if open.len() < 4 && dice.random_ratio(1, 3) {
            open.push(Open { transaction: store.begin(), steps: Vec::new() });
        }
        let Some(index) = (!open.is_empty()).then(|| dice.random_range(0..open.len())) else { continue };
        match dice.random_range(0..10) {
            0 => drop(open.swap_remove(index)),
            1..=2 => {
                let Open { transaction, steps } = open.swap_remove(index);
                match transaction.commit().await {
                    // A read-only transaction is serialized where it read, not where it ended.
                    Ok(()) if !writes(&steps) => {}
                    Ok(()) => {
                        replay(model, steps, seed);
                        committed += 1;
                    }
                    Err(StoreError::Conflict) => conflicts += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            _ => random_step(&mut open[index], &mut dice).await,
        }
    }
    (committed, conflicts)
}

#[test]
fn random_transactions_are_serializable_and_survive_reopens() {
    on_every_store(async |rig| {
        let mut model = Model::new();
        let (mut committed, mut conflicts) = (0, 0);
        for seed in 0..40 {
            let store = rig.open();
            let (more_committed, more_conflicts) = random_history(store.as_ref(), &mut model, seed).await;
            committed += more_committed;
            conflicts += more_conflicts;
            let pairs: Vec<Pair> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(content(store.as_ref()).await, pairs, "seed {seed}");
        }
        assert!(committed > 1000 && conflicts > 100, "{committed} commits and {conflicts} conflicts tell little");
    });
}
