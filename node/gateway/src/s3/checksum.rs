//! The checksums clients declare for a body (Content-MD5, x-amz-checksum-*, in headers or in trailers), verified while
//! the body passes. The S3 library parses trailers and checks their signature, not their values: this file does.
//! Nothing is hashed that the client did not ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use md5::Digest as _;
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::errors::{bad_request, refuse};
pub use crate::checksum::Algorithm;
use crate::checksum::big_endian;
use crate::request::Checksum;

/// The header or trailer that carries a value.
fn header_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Crc32 => "x-amz-checksum-crc32",
        Algorithm::Crc32c => "x-amz-checksum-crc32c",
        Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        Algorithm::Sha1 => "x-amz-checksum-sha1",
        Algorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

enum Hasher {
    Crc(Box<crc_fast::Digest>, usize),
    Sha(aws_lc_rs::digest::Context),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
        match algorithm.crc() {
            Some(crc) => Self::Crc(Box::new(crc_fast::Digest::new(crc)), algorithm.value_bytes()),
            None if algorithm == Algorithm::Sha1 => Self::Sha(Context::new(&SHA1_FOR_LEGACY_USE_ONLY)),
            None => Self::Sha(Context::new(&SHA256)),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha(context) => context.update(bytes),
        }
    }

    /// Big-endian, as S3 writes it.
    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(digest, width) => big_endian(digest.finalize(), width),
            Self::Sha(context) => context.finish().as_ref().to_vec(),
        }
    }
}

/// Where the declared value of a checksum is.
enum Declared {
    Value(Vec<u8>),
    Trailer,
}

/// Verifies one body.
pub struct BodyVerifier {
    checksum: Option<(Algorithm, Hasher, Declared)>,
    md5: Option<(md5::Md5, Vec<u8>)>,
    payload_sha256: Option<(Hasher, Vec<u8>)>,
}

impl BodyVerifier {
    /// What the headers of a request declare for its body. Refuses contradictions and algorithms we cannot verify.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let mut verifier = Self::content_md5(headers)?;
        refuse_unknown_algorithms(headers)?;
        let mut declared = Vec::new();
        for algorithm in Algorithm::ALL {
            if let Some(value) = text(headers, header_of(algorithm))? {
                declared.push((algorithm, Declared::Value(decode(algorithm, value)?)));
            }
        }
        if let Some(trailer) = text(headers, "x-amz-trailer")? {
            let named =
                Algorithm::ALL.into_iter().find(|algorithm| trailer.trim().eq_ignore_ascii_case(header_of(*algorithm)));
            let Some(algorithm) = named else {
                return Err(refuse(
                    S3ErrorCode::InvalidRequest,
                    "The value specified in the x-amz-trailer header is not supported",
                ));
            };
            declared.push((algorithm, Declared::Trailer));
        }
        if declared.len() > 1 {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        let wanted = text(headers, "x-amz-sdk-checksum-algorithm")?;
        if let Some(wanted) = wanted {
            let matches = declared.first().is_some_and(|(algorithm, _)| algorithm.name().eq_ignore_ascii_case(wanted));
            if !matches {
                return Err(refuse(
                    S3ErrorCode::InvalidRequest,
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
        }
        verifier.checksum = declared.pop().map(|(algorithm, value)| (algorithm, Hasher::new(algorithm), value));
        Ok(verifier)
    }

    /// Content-MD5 only, for requests whose x-amz-checksum-* headers speak of something else than their body.
    pub fn content_md5(headers: &HeaderMap) -> S3Result<Self> {
        let md5 = match text(headers, "content-md5")? {
            None => None,
            Some(value) => {
                let digest =
                    STANDARD.decode(value).ok().filter(|digest| digest.len() == 16).ok_or_else(|| {
                        refuse(S3ErrorCode::InvalidDigest, "The Content-MD5 you specified was invalid.")
                    })?;
                Some((md5::Md5::new(), digest))
            }
        };
        Ok(Self { checksum: None, md5, payload_sha256: None })
    }

    /// Also verifies a hex x-amz-content-sha256, for bodies that the library reads itself.
    pub fn with_payload_sha256(mut self, headers: &HeaderMap) -> S3Result<Self> {
        let value = text(headers, "x-amz-content-sha256")?.filter(|value| value.len() == 64);
        if let Some(digest) = value.and_then(decode_hex) {
            self.payload_sha256 = Some((Hasher::new(Algorithm::Sha256), digest));
        }
        Ok(self)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        if let Some((_, hasher, _)) = &mut self.checksum {
            hasher.update(bytes);
        }
        if let Some((hasher, _)) = &mut self.md5 {
            hasher.update(bytes);
        }
        if let Some((hasher, _)) = &mut self.payload_sha256 {
            hasher.update(bytes);
        }
    }

    /// Compares everything; the checksum the client declared, if it did. `trailers` are those of the body.
    pub fn finish(self, trailers: Option<&HeaderMap>) -> S3Result<Option<Checksum>> {
        if self.payload_sha256.is_some_and(|(hasher, expected)| hasher.finish() != expected) {
            return Err(payload_mismatch());
        }
        if self.md5.is_some_and(|(hasher, expected)| hasher.finalize().as_slice() != expected) {
            return Err(refuse(
                S3ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        let Some((algorithm, hasher, declared)) = self.checksum else { return Ok(None) };
        let expected = match declared {
            Declared::Value(value) => value,
            Declared::Trailer => {
                let value = trailers.map(|trailers| text(trailers, header_of(algorithm))).transpose()?.flatten();
                let Some(value) = value else {
                    return Err(bad_request(
                        "MalformedTrailerError",
                        "The request's trailer does not hold the checksum that its headers announced.",
                    ));
                };
                decode(algorithm, value)?
            }
        };
        let actual = hasher.finish();
        if actual != expected {
            let name = algorithm.name();
            return Err(refuse(
                S3ErrorCode::BadDigest,
                format!("The {name} you specified did not match the calculated checksum."),
            ));
        }
        Ok(Some(Checksum { algorithm: algorithm.name().to_owned(), value: STANDARD.encode(actual) }))
    }
}

/// The body is not the one whose SHA-256 was signed.
pub fn payload_mismatch() -> S3Error {
    bad_request(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> S3Result<Option<&'h str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let value = value
        .to_str()
        .map_err(|_| refuse(S3ErrorCode::InvalidArgument, format!("The value of {name} is not plain text")))?;
    Ok(Some(value.trim()))
}

fn decode(algorithm: Algorithm, value: &str) -> S3Result<Vec<u8>> {
    algorithm.decode(value).ok_or_else(|| {
        refuse(S3ErrorCode::InvalidRequest, format!("Value for {} header is invalid.", header_of(algorithm)))
    })
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())).collect()
}

fn refuse_unknown_algorithms(headers: &HeaderMap) -> S3Result<()> {
    const OTHERS: [&str; 3] = ["type", "mode", "algorithm"];
    for name in headers.keys() {
        let Some(what) = name.as_str().strip_prefix("x-amz-checksum-") else { continue };
        let known = Algorithm::ALL.into_iter().any(|algorithm| name.as_str() == header_of(algorithm));
        if !known && !OTHERS.contains(&what) {
            return Err(super::errors::unsupported(&format!("The checksum algorithm {what}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// Check values of "123456789" from the catalogue of parametrised CRC algorithms, and RFC 3174, FIPS 180.
    const CHECKS: [(Algorithm, &str); 5] = [
        (Algorithm::Crc32, "y/Q5Jg=="),
        (Algorithm::Crc32c, "4waSgw=="),
        (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
        (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
        (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];

    #[test]
    fn every_algorithm_gives_its_published_check_value() {
        for (algorithm, value) in CHECKS {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"1234");
            hasher.update(b"56789");
            assert_eq!(STANDARD.encode(hasher.finish()), value, "{algorithm:?}");
        }
    }

    #[test]
    fn right_values_pass_and_wrong_ones_are_bad_digests() {
        for (algorithm, value) in CHECKS {
            for (body, good) in [(&b"123456789"[..], true), (&b"123456780"[..], false)] {
                let mut verifier = BodyVerifier::from_headers(&headers(&[(header_of(algorithm), value)])).unwrap();
                verifier.update(body);
                match verifier.finish(None) {
                    Ok(checksum) => assert!(good && checksum.unwrap().value == value),
                    Err(error) => assert!(!good && error.code() == &S3ErrorCode::BadDigest),
                }
            }
        }
    }

    #[test]
    fn a_declared_trailer_must_come() {
        let declared = headers(&[("x-amz-trailer", "x-amz-checksum-crc32")]);
        let verifier = BodyVerifier::from_headers(&declared).unwrap();
        let error = verifier.finish(None).unwrap_err();
        assert_eq!(error.code().as_str(), "MalformedTrailerError");
        let mut verifier = BodyVerifier::from_headers(&declared).unwrap();
        verifier.update(b"123456789");
        let trailers = headers(&[("x-amz-checksum-crc32", "y/Q5Jg==")]);
        assert_eq!(verifier.finish(Some(&trailers)).unwrap().unwrap().algorithm, "CRC32");
    }

    #[test]
    fn contradictions_and_malformed_values_are_refused() {
        for pairs in [
            &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "4waSgw==")][..],
            &[("x-amz-checksum-crc32", "4waSgw")],
            &[("x-amz-checksum-crc32", "AAAAAAAA")],
            &[("content-md5", "abc")],
            &[("x-amz-sdk-checksum-algorithm", "CRC32")],
            &[("x-amz-trailer", "x-amz-checksum-xxh3")],
            &[("x-amz-checksum-sha512", "AAAA")],
        ] {
            assert!(BodyVerifier::from_headers(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }
}
