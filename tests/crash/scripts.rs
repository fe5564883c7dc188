//! The scripts: together they cover an extent's whole life, and a disk's.

use std::rc::Rc;

use shingle_hw::faulty::{CommandKind, Fault};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneCondition;
use shingle_seam::tasks::LocalFuture;

use super::stage::Stage;
use crate::disk;

/// One script.
pub struct Script {
    pub name: &'static str,
    pub about: &'static str,
    pub geometry: fn() -> Geometry,
    /// Lives; each but the first begins after a loss of power somewhere in the one before.
    pub lives: u32,
    pub run: fn(Rc<Stage>, u32) -> LocalFuture<'static, ()>,
}

/// All scripts, quick ones first.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "label",
        about: "a blank disk is labelled; the first extent",
        geometry: disk::small,
        lives: 2,
        run: |stage, _| Box::pin(async move { begin(&stage).await }),
    },
    Script {
        name: "label-sequential",
        about: "the same without conventional zones",
        geometry: || Geometry { conventional_zones: 0, ..disk::small() },
        lives: 2,
        run: |stage, _| Box::pin(async move { begin(&stage).await }),
    },
    Script {
        name: "life",
        about: "one extent from its creation to its end, another beside it",
        geometry: disk::small,
        lives: 1,
        run: |stage, _| Box::pin(async move { life(&stage).await }),
    },
    Script {
        name: "side-by-side",
        about: "batches of all sizes into four extents at once",
        geometry: disk::small,
        lives: 3,
        run: |stage, life| Box::pin(async move { side_by_side(&stage, life).await }),
    },
    Script {
        name: "together",
        about: "small records that wait together and are appended as one; such an append fails in its middle",
        geometry: disk::small,
        lives: 4,
        run: |stage, life| Box::pin(async move { together(&stage, life).await }),
    },
    Script {
        name: "full",
        about: "an extent filled to its end, then closed",
        geometry: disk::small,
        lives: 1,
        run: |stage, _| Box::pin(async move { full(&stage).await }),
    },
    Script {
        name: "reuse",
        about: "more extents than there are slots: unused ones are reset",
        geometry: disk::small,
        lives: 3,
        run: |stage, life| Box::pin(async move { reuse(&stage, life).await }),
    },
    Script {
        name: "journal",
        about: "so many changes that the journal goes from one zone to the other and back",
        geometry: || Geometry { zones: 20, zone_bytes: 32 << 10, zone_capacity_bytes: 32 << 10, ..disk::small() },
        lives: 5,
        run: |stage, life| Box::pin(async move { journal(&stage, life).await }),
    },
    Script {
        name: "retire",
        about: "zones turn read-only and offline while records are appended",
        geometry: disk::small,
        lives: 1,
        run: |stage, _| Box::pin(async move { retire(&stage).await }),
    },
    Script {
        name: "failures",
        about: "a failed flush and a torn append end their extents",
        geometry: disk::small,
        lives: 3,
        run: |stage, life| Box::pin(async move { failures(&stage, life).await }),
    },
    Script {
        name: "restarts",
        about: "one loss of power after the other, each during or after the last recovery",
        geometry: disk::small,
        lives: 14,
        run: |stage, life| Box::pin(async move { restart(&stage, life).await }),
    },
    Script {
        name: "sectors",
        about: "sectors of 512 bytes, zones smaller than their distance",
        geometry: || Geometry { sector_bytes: 512, zone_capacity_bytes: 58 << 10, ..disk::small() },
        lives: 5,
        run: |stage, life| Box::pin(async move { sectors(&stage, life).await }),
    },
];

async fn begin(stage: &Stage) {
    let mounted = stage.start().await;
    stage.create(&mounted.osd, 1).await;
    stage.put(&mounted.osd, &[(1, 100)]).await;
}

async fn life(stage: &Stage) {
    let osd = stage.start().await.osd;
    stage.create(&osd, 1).await;
    stage.put(&osd, &[(1, 100)]).await;
    stage.put(&osd, &[(1, 20_000), (1, 4_000), (1, 9_000)]).await;
    stage.create(&osd, 2).await;
    // The first does not fit the zone any more.
    stage.put(&osd, &[(1, 40_000), (2, 9_000), (2, 45_000)]).await;
    stage.put(&osd, &[(1, 16), (2, 30_000)]).await;
    stage.close(&osd, 1).await;
    stage.put(&osd, &[(2, 5_000)]).await;
    stage.close(&osd, 2).await;
}

async fn side_by_side(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let extents: Vec<u128> = (1..=4).map(|number| u128::from(10 * life + number)).collect();
    futures_util::future::join_all(extents.iter().map(|extent| stage.create(&osd, *extent))).await;
    for batch in [3, 8, 1, 6] {
        let puts: Vec<(u128, u32)> =
            (0..batch).map(|_| (extents[stage.below(4) as usize], 16 + stage.below(24_000))).collect();
        stage.put(&osd, &puts).await;
    }
    let closing = extents[..2].iter().map(|extent| stage.close(&osd, *extent));
    let puts = [(extents[2], 12_000), (extents[3], 200)];
    let putting = stage.put(&osd, &puts);
    futures_util::future::join(futures_util::future::join_all(closing), putting).await;
}

async fn together(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let fresh = [u128::from(30 * life) + 1, u128::from(30 * life) + 2];
    for extent in fresh {
        stage.create(&osd, extent).await;
    }
    // Of one and two sectors in two extents, four sectors at once; a large one in their middle stands alone.
    let puts = |sizes: &[u32]| -> Vec<(u128, u32)> {
        sizes.iter().flat_map(|bytes| fresh.map(|extent| (extent, *bytes))).collect()
    };
    stage.put(&osd, &puts(&[100, 3_000, 5_000, 200, 300, 400])).await;
    stage.put(&osd, &puts(&[10, 2_000, 18_000, 30, 40])).await;
    for open in stage.open_extents(&osd) {
        stage.put(&osd, &[(open, 50), (open, 60), (open, 70)]).await;
    }
    let close = stage.close(&osd, fresh[1]);
    let last = [(fresh[1], 80), (fresh[1], 90), (fresh[1], 100)];
    futures_util::future::join(stage.put(&osd, &last), close).await;
    stage.trouble(&[fresh[0]]);
    stage.faults.arm(2, Fault::TornAppend);
    stage.put(&osd, &[(fresh[0], 1), (fresh[0], 2), (fresh[0], 3), (fresh[0], 4), (fresh[0], 5)]).await;
    stage.close(&osd, fresh[0]).await;
}

async fn full(stage: &Stage) {
    let osd = stage.start().await.osd;
    stage.create(&osd, 1).await;
    while stage.put(&osd, &[(1, 17_000), (1, 4_100)]).await > 0 {}
    while stage.put(&osd, &[(1, 10)]).await > 0 {}
    stage.close(&osd, 1).await;
}

async fn reuse(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    for number in 0..14_u128 {
        let extent = u128::from(100 * life + 1) + number;
        if stage.create(&osd, extent).await && number % 5 == 4 {
            stage.put(&osd, &[(extent, 6_000)]).await;
        }
        stage.close(&osd, extent).await;
    }
}

async fn journal(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let kept = u128::from(10_000 + life);
    stage.create(&osd, kept).await;
    for number in 1..=24 {
        let extent = u128::from(1000 * life) + number;
        stage.create(&osd, extent).await;
        if number == 7 {
            stage.put(&osd, &[(extent, 9_000), (kept, 300)]).await;
        }
        stage.close(&osd, extent).await;
    }
    stage.put(&osd, &[(kept, 5_000)]).await;
}

async fn retire(stage: &Stage) {
    let osd = stage.start().await.osd;
    for extent in 1..=4 {
        stage.create(&osd, extent).await;
    }
    stage.put(&osd, &[(1, 9_000), (2, 9_000), (3, 30_000), (4, 100)]).await;
    let layout = osd.label.layout;
    for (extent, zone, condition) in
        [(1, 0, ZoneCondition::ReadOnly), (2, 0, ZoneCondition::Offline), (3, 1, ZoneCondition::Offline)]
    {
        stage.trouble(&[extent]);
        let slot = stage.ledger.now().created[&extent];
        stage.fail_zone(layout.zone(slot, zone), condition);
        stage.put(&osd, &[(extent, 40_000), (4, 5_000)]).await;
        stage.close(&osd, extent).await;
    }
    stage.create(&osd, 5).await;
    stage.put(&osd, &[(5, 7_000), (4, 7_000)]).await;
}

async fn failures(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let (first, second) = (u128::from(20 * life) + 1, u128::from(20 * life) + 2);
    stage.create(&osd, first).await;
    stage.create(&osd, second).await;
    stage.put(&osd, &[(first, 9_000), (second, 5_000)]).await;
    stage.trouble(&[first]);
    stage.faults.arm(1, Fault::TornAppend);
    stage.put(&osd, &[(first, 14_000)]).await;
    stage.put(&osd, &[(second, 6_000)]).await;
    stage.close(&osd, first).await;
    stage.trouble(&[second]);
    let error = shingle_hw::error::DeviceError::Failed { reason: "a failed flush", errno: 5 };
    stage.faults.arm(1, Fault::Error { command: CommandKind::Flush, error });
    stage.put(&osd, &[(second, 6_000), (second, 100)]).await;
    stage.close(&osd, second).await;
    let third = second + 1;
    stage.create(&osd, third).await;
    stage.put(&osd, &[(third, 6_000)]).await;
}

/// Goes on with whatever the last life has left.
async fn restart(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let fresh = u128::from(1000 + life);
    for extent in stage.open_extents(&osd) {
        stage.put(&osd, &[(extent, 100 + stage.below(20_000)), (extent, stage.below(5_000))]).await;
    }
    stage.create(&osd, fresh).await;
    stage.put(&osd, &[(fresh, 24_000), (fresh, 300)]).await;
    if life > 0
        && let Some(extent) = stage.open_extents(&osd).first()
    {
        stage.close(&osd, *extent).await;
    }
    stage.put(&osd, &[(fresh, 2_000)]).await;
}

async fn sectors(stage: &Stage, life: u32) {
    let osd = stage.start().await.osd;
    let extent = u128::from(life) + 1;
    assert!(stage.device.geometry().sector_bytes == 512, "this script is about small sectors");
    stage.create(&osd, extent).await;
    for open in stage.open_extents(&osd) {
        stage.put(&osd, &[(open, 700), (open, 5_000)]).await;
    }
    stage.put(&osd, &[(extent, 30_000), (extent, 1)]).await;
    if life == 1 {
        stage.close(&osd, extent).await;
    }
}
