//! `shingle ls`.

use clap::Args;
use serde::Serialize;

use crate::browse::{client, remote, require_bucket, short_time};
use crate::failure::Failure;
use crate::s3::client::Client;
use crate::s3::endpoint::EndpointFlags;
use crate::s3::xml::ObjectEntry;
use crate::transfer::place::Remote;
use crate::{output, units};

pub const EXAMPLES: &str = "\
Examples:
  shingle ls                        all buckets
  shingle ls sh://photos/           what is directly inside
  shingle ls -r sh://photos/2026/   everything below
  shingle ls -r --json sh://photos | jq .size";

/// List buckets, or what is in one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// sh://BUCKET or sh://BUCKET/PREFIX; without it all buckets are listed
    pub place: Option<String>,
    /// Everything below, not only one level
    #[arg(short, long)]
    pub recursive: bool,
    /// Sizes in bytes
    #[arg(short, long)]
    pub bytes: bool,
    /// One JSON line per entry
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub endpoint: EndpointFlags,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Entry<'a> {
    Bucket { name: &'a str, created: &'a str },
    Folder { key: &'a str },
    Object { key: &'a str, size: u64, etag: &'a str, modified: &'a str },
}

/// Runs the command.
pub async fn run(args: LsArgs) -> Result<(), Failure> {
    let place = args.place.as_deref().map(remote).transpose()?;
    let client = client(&args.endpoint)?;
    let Some(place) = place else { return buckets(&client, &args).await };
    require_bucket(&client, &place.bucket).await?;
    let shown =
        if args.recursive { tree(&client, &place, &args).await? } else { level(&client, &place, &args).await? };
    if shown == 0 && !place.key.is_empty() {
        return Err(Failure::failed(format!("nothing is stored at {place}"), ""));
    }
    Ok(())
}

async fn buckets(client: &Client, args: &LsArgs) -> Result<(), Failure> {
    // The first request of this command: a cell that is not running should be told at once.
    let impatient = Client::new(client.endpoint().clone(), crate::s3::retry::Retry::NEVER);
    let buckets = impatient.list_buckets().await.map_err(|error| error.into_failure("cannot list the buckets"))?;
    for bucket in &buckets {
        if args.json {
            output::json(&Entry::Bucket { name: &bucket.name, created: &bucket.creation_date })?;
        } else {
            let name = console::style(format!("sh://{}", bucket.name)).blue().bold();
            output::line(format!("{}  {name}", short_time(&bucket.creation_date)))?;
        }
    }
    if buckets.is_empty() && !args.json && output::on_terminal() {
        output::line("no buckets yet: `shingle cp FILE sh://BUCKET/` makes one")?;
    }
    Ok(())
}

async fn tree(client: &Client, place: &Remote, args: &LsArgs) -> Result<u64, Failure> {
    let mut shown = 0;
    let mut failure = None;
    let listed = client
        .list_all(place, async |page| {
            for entry in &page {
                if failure.is_none() {
                    failure = object(entry, &entry.key, args).err();
                }
                shown += 1;
            }
            Ok(())
        })
        .await;
    match failure {
        Some(failure) => Err(failure),
        None => listed.map(|()| shown).map_err(|error| error.into_failure(&place.to_string())),
    }
}

async fn level(client: &Client, place: &Remote, args: &LsArgs) -> Result<u64, Failure> {
    let base = place.key.rfind('/').map_or(0, |slash| slash + 1);
    let name = |key: &str| key.get(base..).unwrap_or(key).to_string();
    let mut shown = 0;
    let mut token: Option<String> = None;
    loop {
        let page = client.list_page(place, true, token.as_deref()).await;
        let page = page.map_err(|error| error.into_failure(&place.to_string()))?;
        for folder in &page.common_prefixes {
            if args.json {
                output::json(&Entry::Folder { key: &folder.prefix })?;
            } else {
                let name = console::style(output::visible(&name(&folder.prefix)).into_owned()).blue().bold();
                output::line(format!("{:19}  {:>10}  {name}", "", "-"))?;
            }
        }
        for entry in &page.contents {
            object(entry, &name(&entry.key), args)?;
        }
        shown += (page.contents.len() + page.common_prefixes.len()) as u64;
        match page.next_continuation_token {
            Some(next) if page.is_truncated => token = Some(next),
            _ => return Ok(shown),
        }
    }
}

fn object(entry: &ObjectEntry, name: &str, args: &LsArgs) -> Result<(), Failure> {
    if args.json {
        let etag = entry.etag.trim_matches('"');
        return output::json(&Entry::Object {
            key: &entry.key,
            size: entry.size,
            etag,
            modified: &entry.last_modified,
        });
    }
    let size = if args.bytes { entry.size.to_string() } else { units::bytes(entry.size) };
    output::line(format!("{}  {size:>10}  {}", short_time(&entry.last_modified), output::visible(name)))
}
