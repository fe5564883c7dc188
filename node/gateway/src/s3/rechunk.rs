//! Cuts the chunks of an aws-chunked body small before the S3 library sees them. The library holds a chunk whole, and
//! some SDKs send a body of gigabytes as one chunk: this file keeps a gateway's memory bounded whatever clients send.
//!
//! Unsigned chunks are cut where the network cut them: each fragment becomes a chunk of its own. Signed chunks cannot
//! be cut (the signature covers them whole) and are refused above `S3_SIGNED_CHUNK_BYTES_MAX`. Trailers pass untouched.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use shingle_proto::limits::S3_SIGNED_CHUNK_BYTES_MAX;

/// Longest line `size;chunk-signature=...`: 8 digits, the name, 64 digits and room for what clients add.
const HEAD_BYTES_MAX: usize = 256;

/// A body that is not aws-chunked as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedChunks {
    #[error("the chunked body is malformed")]
    Malformed,
    #[error("a signed chunk has more than {S3_SIGNED_CHUNK_BYTES_MAX} bytes")]
    SignedChunkTooLarge,
}

enum State {
    Head,
    /// Bytes of the chunk's data still to come; cut when the chunk is unsigned.
    Data {
        left: u64,
        cut: bool,
    },
    /// The line end after a cut chunk's data: bytes of it seen.
    DataEnd {
        seen: usize,
    },
    /// Behind the last chunk: passed on as it is.
    Trailers,
}

/// The re-framing of one body.
pub struct Rechunker {
    state: State,
    head: Vec<u8>,
    /// Every chunk must be signed.
    signed: bool,
    out: VecDeque<Bytes>,
}

impl Rechunker {
    /// `signed`: the mode that x-amz-content-sha256 announced.
    pub fn new(signed: bool) -> Self {
        Self { state: State::Head, head: Vec::new(), signed, out: VecDeque::new() }
    }

    /// The next bytes for the library.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Takes bytes from the network.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<(), MalformedChunks> {
        while !bytes.is_empty() {
            match self.state {
                State::Head => self.head(&mut bytes)?,
                State::Data { left, cut } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let data = bytes.split_to(take);
                    if cut {
                        self.out.push_back(Bytes::from(format!("{take:x}\r\n")));
                        self.out.push_back(data);
                        self.out.push_back(Bytes::from_static(b"\r\n"));
                    } else {
                        self.out.push_back(data);
                    }
                    self.state = match (left - take as u64, cut) {
                        (0, true) => State::DataEnd { seen: 0 },
                        (0, false) => State::Head,
                        (left, cut) => State::Data { left, cut },
                    };
                }
                State::DataEnd { seen } => {
                    let expected = if seen == 0 { b'\r' } else { b'\n' };
                    if bytes.get_u8() != expected {
                        return Err(MalformedChunks::Malformed);
                    }
                    self.state = if seen == 0 { State::DataEnd { seen: 1 } } else { State::Head };
                }
                State::Trailers => self.out.push_back(std::mem::take(&mut bytes)),
            }
        }
        Ok(())
    }

    fn head(&mut self, bytes: &mut Bytes) -> Result<(), MalformedChunks> {
        let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        if self.head.len() + end > HEAD_BYTES_MAX {
            return Err(MalformedChunks::Malformed);
        }
        self.head.extend_from_slice(&bytes.split_to(end));
        if self.head.last() != Some(&b'\n') {
            return Ok(());
        }
        let head = Bytes::from(std::mem::take(&mut self.head));
        let (size, signed) = parse_head(&head).ok_or(MalformedChunks::Malformed)?;
        if self.signed && !signed {
            return Err(MalformedChunks::Malformed);
        }
        if size == 0 {
            self.out.push_back(head);
            self.state = State::Trailers;
        } else if signed {
            if size > S3_SIGNED_CHUNK_BYTES_MAX {
                return Err(MalformedChunks::SignedChunkTooLarge);
            }
            self.out.push_back(head);
            // The line end behind the data belongs to what passes untouched.
            self.state = State::Data { left: size + 2, cut: false };
        } else {
            self.state = State::Data { left: size, cut: true };
        }
        Ok(())
    }
}

/// Size, and whether the chunk is signed.
fn parse_head(head: &[u8]) -> Option<(u64, bool)> {
    let line = std::str::from_utf8(head.strip_suffix(b"\r\n")?).ok()?;
    let (digits, extension) = match line.split_once(';') {
        Some((digits, extension)) => (digits, Some(extension)),
        None => (line, None),
    };
    let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = u64::from_str_radix(digits, 16).ok().filter(|_| plain)?;
    // Far above every object, far below what would overflow a sum.
    (size < 1 << 56).then_some((size, extension.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(signed: bool, body: &[u8], piece: usize) -> Result<Vec<u8>, MalformedChunks> {
        let mut rechunker = Rechunker::new(signed);
        let mut out = Vec::new();
        for piece in body.chunks(piece) {
            rechunker.push(Bytes::copy_from_slice(piece))?;
            while let Some(bytes) = rechunker.pop() {
                out.extend_from_slice(&bytes);
            }
        }
        Ok(out)
    }

    fn unframe(mut framed: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let end = framed.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&framed[..end]).unwrap(), 16).unwrap();
            framed = &framed[end + 2..];
            if size == 0 {
                return (data, framed.to_vec());
            }
            data.extend_from_slice(&framed[..size]);
            assert_eq!(&framed[size..size + 2], b"\r\n");
            framed = &framed[size + 2..];
        }
    }

    #[test]
    fn one_large_chunk_becomes_many_small_ones_with_the_same_bytes_and_trailers() {
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(&data);
        body.extend_from_slice(b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        for piece in [1, 7, 1000, 65536, body.len()] {
            let out = run(false, &body, piece).unwrap();
            assert_eq!(unframe(&out), (data.clone(), b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n".to_vec()), "{piece}");
        }
    }

    #[test]
    fn signed_chunks_pass_unchanged_up_to_their_limit() {
        let signature = "a".repeat(64);
        let body = format!("5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n\r\n");
        for piece in [1, 3, body.len()] {
            assert_eq!(run(true, body.as_bytes(), piece).unwrap(), body.as_bytes());
        }
        let large = format!("{:x};chunk-signature={signature}\r\n", S3_SIGNED_CHUNK_BYTES_MAX + 1);
        assert_eq!(run(true, large.as_bytes(), 9), Err(MalformedChunks::SignedChunkTooLarge));
        assert_eq!(run(true, b"5\r\nhello\r\n", 9), Err(MalformedChunks::Malformed));
    }

    #[test]
    fn malformed_frames_are_refused() {
        for body in [
            &b"zz\r\n"[..],
            b"\r\n",
            b"5\nhello",
            b"+5\r\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"ffffffffffffffffffff\r\n",
            &[b'1'; 300],
        ] {
            assert_eq!(run(false, body, 3), Err(MalformedChunks::Malformed), "{body:?}");
        }
    }
}
