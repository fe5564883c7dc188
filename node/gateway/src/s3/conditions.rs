//! If-Match and its relatives on reads and copy sources, in HTTP's order (RFC 9110, section 13.2.2). Writes hand their
//! conditions to the control plane, which decides them inside the transaction that flips the row.

use std::time::{Duration, SystemTime};

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode};
use shingle_proto::message::{ObjectRow, Precondition};

use super::errors::refuse;

/// The conditions of one read.
#[derive(Default)]
pub struct Conditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

/// Which answer a failed condition gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// 412.
    Precondition,
    /// 304 for reads, 412 for copies.
    NotModified,
}

impl Conditions {
    pub fn any(&self) -> bool {
        self.if_match.is_some()
            || self.if_none_match.is_some()
            || self.if_modified_since.is_some()
            || self.if_unmodified_since.is_some()
    }

    pub fn check(&self, row: &ObjectRow) -> Result<(), Failed> {
        let modified = second_of(row.modified_ms);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition, row) => return Err(Failed::Precondition),
            (None, Some(since)) if modified > *since => return Err(Failed::Precondition),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if matches(condition, row) => Err(Failed::NotModified),
            (None, Some(since)) if modified <= *since => Err(Failed::NotModified),
            _ => Ok(()),
        }
    }
}

impl Failed {
    /// The answer to a read. A 304 names the version the client has.
    pub fn of_read(self, row: &ObjectRow) -> S3Error {
        match self {
            Self::Precondition => precondition_failed(),
            Self::NotModified => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                let mut headers = hyper::HeaderMap::new();
                if let Ok(value) = hyper::header::HeaderValue::try_from(format!("\"{}\"", row.etag)) {
                    headers.insert(hyper::header::ETAG, value);
                }
                error.set_headers(headers);
                error
            }
        }
    }
}

/// 412.
pub fn precondition_failed() -> S3Error {
    refuse(S3ErrorCode::PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// The conditions of a write, for the control plane.
pub fn precondition(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> Option<Precondition> {
    if if_match.is_none() && if_none_match.is_none() {
        return None;
    }
    Some(Precondition { if_match: if_match.map(text), if_none_match: if_none_match.map(text) })
}

/// An ETag as rows hold it; `*` for any.
fn text(condition: &ETagCondition) -> String {
    match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.value().to_owned(),
    }
}

fn matches(condition: &ETagCondition, row: &ObjectRow) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == row.etag,
    }
}

/// HTTP's dates have whole seconds: a row of 12.7 s was not modified after 12 s.
fn second_of(unix_ms: u64) -> Timestamp {
    let since = Duration::from_secs((unix_ms / 1000).min(253_402_300_799));
    Timestamp::from(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::dto::{ETag, TimestampFormat};

    fn row() -> ObjectRow {
        ObjectRow { etag: "aa-1".to_owned(), modified_ms: 1_700_000_000_700, ..ObjectRow::default() }
    }

    fn is(etag: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(etag.to_owned())))
    }

    fn at(seconds: u64) -> Option<Timestamp> {
        Some(Timestamp::parse(TimestampFormat::EpochSeconds, &seconds.to_string()).unwrap())
    }

    #[test]
    fn etags_decide_before_dates() {
        let later = at(1_800_000_000);
        let earlier = at(1_600_000_000);
        let cases = [
            (
                Conditions { if_match: is("aa-1"), if_unmodified_since: earlier.clone(), ..Conditions::default() },
                Ok(()),
            ),
            (Conditions { if_match: is("bb-1"), ..Conditions::default() }, Err(Failed::Precondition)),
            (Conditions { if_match: Some(ETagCondition::Any), ..Conditions::default() }, Ok(())),
            (Conditions { if_unmodified_since: earlier.clone(), ..Conditions::default() }, Err(Failed::Precondition)),
            (
                Conditions { if_none_match: is("aa-1"), if_modified_since: earlier, ..Conditions::default() },
                Err(Failed::NotModified),
            ),
            (
                Conditions { if_none_match: is("bb-1"), if_modified_since: later.clone(), ..Conditions::default() },
                Ok(()),
            ),
            (Conditions { if_modified_since: later, ..Conditions::default() }, Err(Failed::NotModified)),
            (Conditions { if_modified_since: at(1_700_000_000), ..Conditions::default() }, Err(Failed::NotModified)),
            (Conditions { if_unmodified_since: at(1_700_000_000), ..Conditions::default() }, Ok(())),
        ];
        for (index, (conditions, expected)) in cases.into_iter().enumerate() {
            assert_eq!(conditions.check(&row()), expected, "case {index}");
        }
    }
}
