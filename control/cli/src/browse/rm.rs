//! `shingle rm`.

use clap::Args;
use shingle_proto::limits::S3_DELETE_OBJECTS_MAX;

use crate::browse::{client, remote, require_bucket};
use crate::failure::Failure;
use crate::s3::client::Client;
use crate::s3::endpoint::EndpointFlags;
use crate::transfer::place::Remote;
use crate::{output, units};

pub const EXAMPLES: &str = "\
Examples:
  shingle rm sh://photos/a.jpg              one object
  shingle rm -r --dry-run sh://photos/2026  what would go
  shingle rm -r sh://photos/2026            everything below
  shingle rm -r --bucket sh://photos        everything, and the bucket itself

There is no question asked and no way back: look with --dry-run first.";

/// Delete objects
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RmArgs {
    /// sh://BUCKET/KEY, or with -r a bucket or folder
    #[arg(required = true)]
    pub places: Vec<String>,
    /// Everything below a bucket or folder
    #[arg(short, long)]
    pub recursive: bool,
    /// Delete the bucket itself too
    #[arg(long, requires = "recursive")]
    pub bucket: bool,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// No summary
    #[arg(short, long)]
    pub quiet: bool,
    /// One JSON summary
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

/// What has been deleted so far.
#[derive(Default)]
struct Tally {
    deleted: u64,
    failed: u64,
}

/// Runs the command.
pub async fn run(args: RmArgs) -> Result<(), Failure> {
    let places = args.places.iter().map(|text| remote(text)).collect::<Result<Vec<_>, _>>()?;
    for place in &places {
        if place.is_folder() && !args.recursive {
            return Err(Failure::usage(format!("{place} is a folder"), "delete what is in it with -r"));
        }
        if args.bucket && !place.key.is_empty() {
            return Err(Failure::usage(format!("{place} is no bucket"), "--bucket goes with sh://BUCKET"));
        }
    }
    let client = client(&args.endpoint)?;
    let mut tally = Tally::default();
    for place in &places {
        require_bucket(&client, &place.bucket).await?;
        if args.recursive {
            below(&client, place, &args, &mut tally).await?;
        } else {
            one(&client, place, &args, &mut tally).await?;
        }
    }
    let Tally { deleted, failed } = tally;
    if args.json {
        output::json(
            &serde_json::json!({"status": "summary", "deleted": deleted, "failed": failed, "dry_run": args.dry_run}),
        )?;
    } else if !args.quiet {
        eprintln!(
            "{} {}",
            units::counted(deleted, "object"),
            if args.dry_run { "would be deleted" } else { "deleted" }
        );
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Some { failed, total: deleted + failed }) }
}

async fn one(client: &Client, place: &Remote, args: &RmArgs, tally: &mut Tally) -> Result<(), Failure> {
    // S3 deletes what is not there without a word; a person who mistyped a name wants to know.
    let failed = |error: crate::s3::error::S3Error| {
        if error.is_absent() {
            Failure::failed(format!("there is no object {place}"), "look around with `shingle ls`")
        } else {
            error.into_failure(&place.to_string())
        }
    };
    client.head(place).await.map_err(failed)?;
    if args.dry_run {
        output::line(format!("would delete {place}"))?;
    } else {
        client.delete(place).await.map_err(failed)?;
    }
    tally.deleted += 1;
    Ok(())
}

async fn below(client: &Client, place: &Remote, args: &RmArgs, tally: &mut Tally) -> Result<(), Failure> {
    let folder = place.with_key(place.folder_prefix());
    // The list is taken whole first: deleting while listing would move the pages.
    let mut keys = Vec::new();
    let listed = client
        .list_all(&folder, async |page| {
            keys.extend(page.into_iter().map(|entry| entry.key));
            Ok(())
        })
        .await;
    listed.map_err(|error| error.into_failure(&folder.to_string()))?;
    if args.dry_run {
        tally.deleted += keys.len() as u64;
        return keys.iter().try_for_each(|key| {
            output::line(format!("would delete {}", output::visible(&place.with_key(key.clone()).to_string())))
        });
    }
    // XML 1.0 cannot carry control characters, so such keys go one by one.
    let (odd, plain): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.chars().any(char::is_control));
    for batch in plain.chunks(S3_DELETE_OBJECTS_MAX) {
        let failures = client.delete_many(&place.bucket, batch).await;
        let failures = failures.map_err(|error| error.into_failure(&folder.to_string()))?;
        for (key, reason) in &failures {
            let object = place.with_key(key.clone()).to_string();
            output::remark(format_args!("{}: {reason}", output::visible(&object)));
        }
        tally.failed += failures.len() as u64;
        tally.deleted += (batch.len() - failures.len()) as u64;
    }
    for key in odd {
        let object = place.with_key(key);
        client.delete(&object).await.map_err(|error| error.into_failure(&object.to_string()))?;
        tally.deleted += 1;
    }
    if args.bucket && tally.failed == 0 {
        let deleted = client.delete_bucket(&place.bucket).await;
        deleted.map_err(|error| error.into_failure(&format!("cannot delete bucket {}", place.bucket)))?;
    }
    Ok(())
}
