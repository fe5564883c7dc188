//! `shingle stat`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::browse::{client, remote, require_bucket};
use crate::failure::Failure;
use crate::s3::endpoint::EndpointFlags;
use crate::transfer::etag;
use crate::transfer::plan::absent;
use crate::{output, units};

pub const EXAMPLES: &str = "\
Examples:
  shingle stat sh://photos/a.jpg
  shingle stat --json sh://photos/a.jpg | jq -r .etag";

/// Show everything known about objects
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatArgs {
    /// sh://BUCKET/KEY
    #[arg(required = true)]
    pub places: Vec<String>,
    /// One JSON document per object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

/// Everything about one object, as `--json` prints it.
#[derive(Serialize)]
struct About {
    object: String,
    size: u64,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<u64>,
    modified: String,
    headers: BTreeMap<String, String>,
}

/// Headers of the transport, not of the object.
const TRANSPORT: [&str; 7] =
    ["content-length", "etag", "last-modified", "date", "connection", "server", "x-amz-request-id"];

/// Runs the command.
pub async fn run(args: StatArgs) -> Result<(), Failure> {
    let places = args.places.iter().map(|text| remote(text)).collect::<Result<Vec<_>, _>>()?;
    let client = client(&args.endpoint)?;
    let (mut failed, total) = (0, args.places.len() as u64);
    for place in &places {
        if place.key.is_empty() {
            return Err(Failure::usage(format!("{place} is a bucket"), "`shingle du` adds up what is in it"));
        }
        require_bucket(&client, &place.bucket).await?;
        let head = match client.head(place).await {
            Ok(head) => head,
            Err(error) if error.is_absent() && total == 1 => {
                return Err(absent(place));
            }
            Err(error) => {
                eprintln!("{place}: {error}");
                failed += 1;
                continue;
            }
        };
        let own = head.headers.iter().filter(|(name, _)| !TRANSPORT.contains(&name.as_str()));
        let about = About {
            object: place.to_string(),
            size: head.size_bytes,
            blocks: etag::blocks_in(&head.etag),
            etag: head.etag,
            modified: head.last_modified,
            headers: own
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
        };
        if args.json { output::json(&about)? } else { show(&about)? }
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Some { failed, total }) }
}

fn show(about: &About) -> Result<(), Failure> {
    output::line(console::style(output::visible(&about.object)).bold())?;
    let row = |name: &str, value: &str| {
        output::line(format!("  {} {}", console::style(format!("{name:<24}")).dim(), output::visible(value)))
    };
    row("size", &format!("{} ({} bytes)", units::bytes(about.size), about.size))?;
    row("etag", &about.etag)?;
    if let Some(blocks) = about.blocks {
        row("blocks", &blocks.to_string())?;
    }
    row("modified", &about.modified)?;
    about.headers.iter().try_for_each(|(name, value)| row(name, value))
}
