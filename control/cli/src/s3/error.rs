//! What can go wrong between this client and an S3 endpoint, one variant per reaction.

use crate::failure::Failure;

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum S3Error {
    /// The endpoint answered with an error; `code` is S3's name for it.
    #[error("{message} ({code}, HTTP {status})")]
    Refused { status: u16, code: String, message: String },
    /// No connection could be made.
    #[error("no connection to {endpoint}: {reason}")]
    Connect { endpoint: String, reason: String },
    /// The connection broke while a request was under way.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is not what S3 would say.
    #[error("the endpoint's answer is not understood: {0}")]
    Malformed(String),
    /// The bytes that were stored, or that arrived, are not the ones that were sent.
    #[error("content check failed: the ETag is {reported}, the bytes that passed have {computed}")]
    WrongContent { reported: String, computed: String },
    /// The local side: a file that cannot be read or written.
    #[error("{0}")]
    Local(String),
}

impl S3Error {
    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                matches!(status, 429 | 500 | 502 | 503 | 504) || matches!(code.as_str(), "RequestTimeout" | "SlowDown")
            }
            Self::Connect { .. } | Self::Broken(_) | Self::WrongContent { .. } => true,
            Self::Malformed(_) | Self::Local(_) => false,
        }
    }

    /// Whether S3 said so with this code.
    pub fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// Whether the bucket or object is not there. HEAD answers carry no code, only the status.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The failure of a whole command, with what to do next.
    pub fn into_failure(self, what: &str) -> Failure {
        let advice = match &self {
            Self::Connect { .. } => {
                return Failure::Unreachable {
                    what: format!("{what}: {self}"),
                    advice: "start a cell with `shingle up`, or name another one with --dir or --endpoint".into(),
                };
            }
            Self::Refused { status: 403, .. } => {
                "check the access key and secret: `source DIR/env` of the cell, or give --dir DIR"
            }
            Self::Refused { code, .. } if code == "NoSuchBucket" => {
                "list the buckets with `shingle ls`; `shingle cp` makes one"
            }
            Self::Refused { status: 503, .. } => "the cell is busy: see `shingle status`, then try again",
            Self::WrongContent { .. } => "do not trust the copy; see `shingle status` for findings, then try again",
            _ => "",
        };
        Failure::failed(format!("{what}: {self}"), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> S3Error {
        S3Error::Refused { status, code: code.into(), message: String::new() }
    }

    #[test]
    fn only_passing_errors_are_tried_again() {
        assert!(refused(503, "SlowDown").is_passing());
        assert!(refused(400, "RequestTimeout").is_passing());
        assert!(S3Error::Broken(String::new()).is_passing());
        assert!(!refused(404, "NoSuchKey").is_passing());
        assert!(!refused(403, "SignatureDoesNotMatch").is_passing());
        assert!(!S3Error::Local(String::new()).is_passing());
    }
}
