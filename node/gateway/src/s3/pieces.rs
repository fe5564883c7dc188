//! How an object is cut into blocks, for clients that check its ETag: `x-shingle-pieces: OFFSET` in a request is answered
//! with the lengths of the object's pieces from that byte on, `LENGTH` or `LENGTHxCOUNT` separated by commas. A piece is
//! stored in blocks of 4 MiB, only its last block may be shorter: usually an object is one piece, and objects of parts that
//! are not whole blocks have as many as parts. The answer may end early; the sum of its lengths says where to go on.

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use s3s::S3Result;
use shingle_proto::limits::{BLOCK_BYTES_MAX, BLOCKS_PER_REQUEST_MAX, S3_PIECES_BYTES_MAX, S3_PIECES_PAGES_MAX};
use shingle_proto::message::{BlockName, ListBlocks, ObjectRow, Request, Response};

use super::errors::{RequestId, refuse, to_s3};
use super::frontend::{Frontend, unexpected};

/// Of requests and of their answers.
pub const HEADER: &str = "x-shingle-pieces";

/// Lengths that follow each other, as many as fit into a header.
#[derive(Default)]
struct Pieces {
    /// Length of a piece, and how many such follow each other.
    runs: Vec<(u64, u64)>,
    /// Of the piece that may still grow.
    open_bytes: u64,
    text_bytes: usize,
}

impl Pieces {
    fn push(&mut self, block_bytes: u32) {
        self.open_bytes += u64::from(block_bytes);
        if block_bytes < BLOCK_BYTES_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        let bytes = std::mem::take(&mut self.open_bytes);
        match self.runs.last_mut() {
            _ if bytes == 0 => {}
            Some((length, count)) if *length == bytes => *count += 1,
            _ => {
                self.runs.push((bytes, 1));
                // Two numbers of up to twenty digits, an x and a comma.
                self.text_bytes += 42;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.text_bytes + 42 > S3_PIECES_BYTES_MAX
    }

    fn into_text(mut self) -> String {
        self.close();
        let run = |(length, count): &(u64, u64)| match count {
            1 => length.to_string(),
            count => format!("{length}x{count}"),
        };
        self.runs.iter().map(run).collect::<Vec<_>>().join(",")
    }
}

/// Where the client wants to know the cut from, if it does.
pub fn wanted(headers: &HeaderMap) -> S3Result<Option<u64>> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let offset = value.to_str().ok().and_then(|text| text.parse().ok());
    offset.map(Some).ok_or_else(|| refuse(s3s::S3ErrorCode::InvalidArgument, format!("{HEADER} must be an offset")))
}

/// The header of the answer. An object of one block is one piece, and costs no question.
pub async fn header(frontend: &Frontend, id: &RequestId, row: &ObjectRow, offset_bytes: u64) -> S3Result<HeaderMap> {
    let mut pieces = Pieces::default();
    let mut at = offset_bytes;
    let one = row.blocks <= 1 && offset_bytes == 0;
    for _ in 0..S3_PIECES_PAGES_MAX {
        if one || at >= row.size_bytes || pieces.is_full() {
            break;
        }
        let max_blocks = BLOCKS_PER_REQUEST_MAX as u32;
        let list = ListBlocks { manifest: row.manifest.clone(), offset_bytes: at, max_blocks };
        let page =
            match frontend.catalog(Request::ListBlocks(Box::new(list))).await.map_err(|error| to_s3(error, id))? {
                Response::BlockList(page) => page,
                other => return Err(to_s3(unexpected(&other), id)),
            };
        for BlockName { offset_bytes: begin, plain_bytes, .. } in page.blocks {
            if pieces.is_full() {
                break;
            }
            if begin != at || plain_bytes == 0 {
                return Err(refuse(s3s::S3ErrorCode::InvalidArgument, format!("{HEADER}: no block begins at {at}")));
            }
            pieces.push(plain_bytes);
            at += u64::from(plain_bytes);
        }
    }
    if one {
        pieces.open_bytes = row.size_bytes;
    }
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(pieces.into_text()) {
        headers.insert(HEADER, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(blocks: impl IntoIterator<Item = u32>) -> String {
        let mut pieces = Pieces::default();
        blocks.into_iter().for_each(|block| pieces.push(block));
        pieces.into_text()
    }

    #[test]
    fn pieces_end_with_a_short_block_and_alike_ones_are_counted() {
        let block = BLOCK_BYTES_MAX;
        assert_eq!(text([]), "");
        assert_eq!(text([block, block, 7]), format!("{}", 2 * block + 7));
        assert_eq!(text([block, 1, block, 1, block, 1, 5]), format!("{}x3,5", block + 1));
        assert_eq!(text([block, block]), format!("{}", 2 * block), "an open piece of whole blocks");
    }

    #[test]
    fn a_header_has_a_bound() {
        let mut pieces = Pieces::default();
        for length in 1.. {
            if pieces.is_full() {
                break;
            }
            pieces.push(BLOCK_BYTES_MAX - length);
        }
        let text = pieces.into_text();
        assert!(text.len() <= S3_PIECES_BYTES_MAX && text.len() > 100, "{}", text.len());
    }
}
