//! `shingle du`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::browse::{client, remote, require_bucket};
use crate::failure::Failure;
use crate::s3::endpoint::EndpointFlags;
use crate::{output, units};

pub const EXAMPLES: &str = "\
Examples:
  shingle du sh://photos           each folder directly inside, and the total
  shingle du -s sh://photos/2026   the total alone
  shingle du --json sh://photos | jq .bytes

Sizes are those of the objects. What the cell keeps is less where blocks repeat or compress, times
the number of copies: see `shingle status`.";

/// Add up the sizes of objects
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DuArgs {
    /// sh://BUCKET or sh://BUCKET/PREFIX
    pub place: String,
    /// The total alone
    #[arg(short, long)]
    pub summarize: bool,
    /// Sizes in bytes
    #[arg(short, long)]
    pub bytes: bool,
    /// One JSON line per folder, the total last
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

/// A sum, as `--json` prints it.
#[derive(Clone, Copy, Default, Serialize)]
struct Sum {
    objects: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Runs the command.
pub async fn run(args: DuArgs) -> Result<(), Failure> {
    let place = remote(&args.place)?;
    let client = client(&args.endpoint)?;
    require_bucket(&client, &place.bucket).await?;
    let prefix = place.folder_prefix();
    let mut total = Sum::default();
    let mut folders: BTreeMap<String, Sum> = BTreeMap::new();
    let listed = client
        .list_all(&place.with_key(prefix.clone()), async |page| {
            for entry in page {
                total.add(entry.size);
                let rest = entry.key.strip_prefix(&prefix).unwrap_or(&entry.key);
                if let Some((folder, _)) = rest.split_once('/') {
                    folders.entry(format!("{prefix}{folder}/")).or_default().add(entry.size);
                }
            }
            Ok(())
        })
        .await;
    listed.map_err(|error| error.into_failure(&place.to_string()))?;
    if !args.summarize {
        for (folder, sum) in &folders {
            show(&place.with_key(folder.clone()).to_string(), *sum, &args)?;
        }
    }
    show(&place.to_string(), total, &args)
}

fn show(place: &str, sum: Sum, args: &DuArgs) -> Result<(), Failure> {
    if args.json {
        return output::json(&serde_json::json!({"place": place, "objects": sum.objects, "bytes": sum.bytes}));
    }
    let size = if args.bytes { sum.bytes.to_string() } else { units::bytes(sum.bytes) };
    let objects = units::counted(sum.objects, "object");
    output::line(format!("{size:>10}  {objects:>14}  {}", output::visible(place)))
}
