//! Listings: objects of an S3 bucket in key order, by pages, with keys rolled up at a delimiter.
//!
//! A common prefix costs one row read, however many keys it stands for: the scan goes on behind all of them.

use shingle_proto::limits::{LIST_PAGE_BYTES_MAX, S3_LIST_MAX};
use shingle_proto::message::{ListObjects, ObjectList, Response};

use super::Catalog;
use super::check;
use super::s3_buckets::require_s3_bucket;
use crate::tables::keys::KeyRange;
use crate::tables::objects::{Object, ObjectKey};
use crate::tables::row::Row;
use crate::tables::work::{TableError, Work};

/// Rows read ahead: fewer where each may be the first of many to be skipped.
const ROWS_AHEAD: usize = 128;
const ROWS_AHEAD_DELIMITED: usize = 16;
/// A listed row's bytes beside its texts, as an upper bound of its encoding.
const ROW_OVERHEAD_BYTES: usize = 256;

/// One page in the making.
struct Page<'a> {
    request: &'a ListObjects,
    limit: usize,
    bytes: usize,
    list: ObjectList,
}

/// What a page did with a key.
enum Taken {
    Object,
    /// Everything that begins with this prefix is done with.
    Prefix(String),
    /// The page was full before.
    NoRoom,
}

impl<'a> Page<'a> {
    fn new(request: &'a ListObjects) -> Self {
        let limit = request.limit.min(S3_LIST_MAX) as usize;
        Self { request, limit, bytes: 0, list: ObjectList::default() }
    }

    /// The common prefix that a key rolls up to.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let ListObjects { prefix, delimiter, .. } = self.request;
        if delimiter.is_empty() {
            return None;
        }
        let at = key.strip_prefix(prefix.as_str())?.find(delimiter.as_str())?;
        key.get(..prefix.len() + at + delimiter.len())
    }

    fn full(&self) -> bool {
        let elements = self.list.objects.len() + self.list.common_prefixes.len();
        elements >= self.limit || self.bytes >= LIST_PAGE_BYTES_MAX
    }

    fn take(&mut self, key: String, object: Object) -> Taken {
        let common = self.common_prefix(&key).map(str::to_owned);
        if let Some(common) = &common
            && *common <= self.request.start_after
        {
            return Taken::Prefix(common.clone()); // listed on an earlier page
        }
        if self.full() {
            return Taken::NoRoom;
        }
        let element = common.clone().unwrap_or_else(|| key.clone());
        self.bytes += element.len() + ROW_OVERHEAD_BYTES;
        self.list.next_start_after = Some(element);
        match common {
            Some(common) => {
                self.list.common_prefixes.push(common.clone());
                Taken::Prefix(common)
            }
            None => {
                self.bytes += object.encode().len();
                self.list.objects.push(object.into_message(key));
                Taken::Object
            }
        }
    }
}

impl Catalog {
    pub(super) async fn list_objects(&self, request: ListObjects) -> Result<Response, TableError> {
        check::s3_bucket(&request.s3_bucket)?;
        for text in [&request.prefix, &request.delimiter, &request.start_after] {
            check::listing_text(text)?;
        }
        let work = self.tables.look();
        require_s3_bucket(&work, &request.s3_bucket).await?;
        let mut page = Page::new(&request);
        let more = if page.limit == 0 { false } else { fill(&work, &mut page).await? };
        let mut list = page.list;
        if !more {
            list.next_start_after = None;
        }
        Ok(Response::ObjectList(Box::new(list)))
    }
}

/// Reads rows until the page is full, or there is none left; true if there is another element behind the page.
async fn fill(work: &Work, page: &mut Page<'_>) -> Result<bool, TableError> {
    let ListObjects { s3_bucket, prefix, delimiter, start_after, .. } = page.request;
    let mut range = Object::with_prefix(s3_bucket, prefix);
    if !start_after.is_empty() {
        let name = ObjectKey { s3_bucket: s3_bucket.clone(), key: start_after.clone() };
        range = range.after(&Object::encode_key(&name));
    }
    let ahead = if delimiter.is_empty() { ROWS_AHEAD.min(page.limit + 1) } else { ROWS_AHEAD_DELIMITED };
    loop {
        let rows = work.scan::<Object>(range.clone(), ahead).await?;
        let read = rows.len();
        let mut skip: Option<KeyRange> = None;
        for (name, object) in rows {
            let key = Object::encode_key(&name);
            if skip.as_ref().is_some_and(|skip| key < skip.end) {
                continue;
            }
            skip = None;
            match page.take(name.key, object) {
                Taken::NoRoom => return Ok(true),
                Taken::Object => range = range.after(&key),
                Taken::Prefix(common) => {
                    let behind = Object::with_prefix(s3_bucket, &common);
                    range.begin = range.begin.max(behind.end.clone());
                    skip = Some(behind);
                }
            }
        }
        if read < ahead {
            return Ok(false);
        }
    }
}
