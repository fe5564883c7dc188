//! The S3 requests that move no object bytes.

use bytes::Bytes;
use hyper::header::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusty_s3::actions::{CompleteMultipartUpload, DeleteObjects, ObjectIdentifier};
use rusty_s3::{Bucket, Method, UrlStyle};
use shingle_proto::limits::S3_DELETE_OBJECTS_MAX;

use crate::s3::client::{Ask, Client, header};
use crate::s3::error::S3Error;
use crate::s3::xml::{self, BucketEntry, ListPage, ObjectEntry};
use crate::transfer::place::Remote;

/// What HEAD says of an object.
#[derive(Clone, Debug)]
pub struct Head {
    pub size_bytes: u64,
    /// Without quotes.
    pub etag: String,
    pub last_modified: String,
    pub headers: HeaderMap,
}

impl Client {
    pub async fn list_buckets(&self) -> Result<Vec<BucketEntry>, S3Error> {
        let answer = self.ask(&Ask::new(Method::Get, "", ""), Bytes::new()).await?;
        Ok(xml::parse::<xml::BucketList>(&answer.body)?.buckets.list)
    }

    /// Whether the bucket is there. One try: it is the first request of a command, and a cell that is not running
    /// should be told at once.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool, S3Error> {
        match self.ask_once(&Ask::new(Method::Head, bucket, ""), Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub async fn create_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        match self.ask(&Ask::new(Method::Put, bucket, ""), Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_code("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        self.ask(&Ask::new(Method::Delete, bucket, ""), Bytes::new()).await.map(drop)
    }

    pub async fn head(&self, object: &Remote) -> Result<Head, S3Error> {
        let answer = self.ask(&Ask::new(Method::Head, &object.bucket, &object.key), Bytes::new()).await?;
        let size = header(&answer.headers, "content-length").and_then(|value| value.parse().ok());
        Ok(Head {
            size_bytes: size.ok_or_else(|| S3Error::Malformed("no Content-Length in a HEAD answer".into()))?,
            etag: crate::s3::client::etag(&answer.headers)?,
            last_modified: header(&answer.headers, "last-modified").unwrap_or_default().to_string(),
            headers: answer.headers,
        })
    }

    /// One page of a listing; `token` continues an earlier one.
    pub async fn list_page(&self, place: &Remote, delimiter: bool, token: Option<&str>) -> Result<ListPage, S3Error> {
        let mut ask = Ask::new(Method::Get, &place.bucket, "").query("list-type", "2").query("encoding-type", "url");
        ask = ask.query("prefix", &*place.key);
        if delimiter {
            ask = ask.query("delimiter", "/");
        }
        if let Some(token) = token {
            ask = ask.query("continuation-token", token);
        }
        ListPage::parse(&self.ask(&ask, Bytes::new()).await?.body)
    }

    /// Every object whose key starts with the place's key, handed over page by page.
    pub async fn list_all(
        &self,
        place: &Remote,
        mut page_of: impl AsyncFnMut(Vec<ObjectEntry>) -> Result<(), S3Error>,
    ) -> Result<(), S3Error> {
        let mut token: Option<String> = None;
        loop {
            let page = self.list_page(place, false, token.as_deref()).await?;
            page_of(page.contents).await?;
            token = match page.next_continuation_token {
                Some(next) if page.is_truncated && token.as_ref() != Some(&next) => Some(next),
                Some(_) if page.is_truncated => return Err(S3Error::Malformed("a listing that does not end".into())),
                _ => return Ok(()),
            };
        }
    }

    /// Deletes one object; one that is not there is deleted already.
    pub async fn delete(&self, object: &Remote) -> Result<(), S3Error> {
        self.ask(&Ask::new(Method::Delete, &object.bucket, &object.key), Bytes::new()).await.map(drop)
    }

    /// Deletes up to a thousand objects in one request; what could not be deleted, with the reason.
    pub async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<(String, String)>, S3Error> {
        assert!(keys.len() <= S3_DELETE_OBJECTS_MAX, "callers cut their lists into S3's batches");
        let place = self.sans_io_bucket(bucket)?;
        let names: Vec<_> = keys.iter().map(|key| ObjectIdentifier::new(key.clone())).collect();
        let mut action = DeleteObjects::new(&place, None, names.iter());
        action.set_quiet(true);
        let (body, md5) = action.body_with_md5();
        let ask = Ask::new(Method::Post, bucket, "").query("delete", "").header("content-md5", md5);
        let answer = self.ask(&ask, Bytes::from(body)).await?;
        let deleted: xml::Deleted = xml::parse(&answer.body)?;
        Ok(deleted.errors.into_iter().map(|error| (error.key, format!("{} ({})", error.message, error.code))).collect())
    }

    /// Copies inside the cell: no bytes pass through here. The ETag of the copy.
    pub async fn copy(&self, source: &Remote, target: &Remote) -> Result<String, S3Error> {
        let encoded: Vec<_> =
            source.key.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()).collect();
        let ask = Ask::new(Method::Put, &target.bucket, &target.key)
            .header("x-amz-copy-source", format!("/{}/{}", source.bucket, encoded.join("/")));
        self.stored(&ask, Bytes::new()).await
    }

    pub async fn start_upload(&self, object: &Remote, headers: Vec<(String, String)>) -> Result<String, S3Error> {
        let mut ask = Ask::new(Method::Post, &object.bucket, &object.key).query("uploads", "");
        ask.headers = headers;
        let answer = self.ask(&ask, Bytes::new()).await?;
        Ok(xml::parse::<xml::UploadStarted>(&answer.body)?.upload_id)
    }

    /// Puts the parts together; the ETag of the object.
    pub async fn complete_upload(&self, object: &Remote, upload: &str, parts: &[String]) -> Result<String, S3Error> {
        let place = self.sans_io_bucket(&object.bucket)?;
        let quoted: Vec<_> = parts.iter().map(|etag| format!("\"{etag}\"")).collect();
        let action = CompleteMultipartUpload::new(&place, None, &object.key, upload, quoted.iter().map(String::as_str));
        let body = Bytes::from(action.body());
        self.stored(&Ask::new(Method::Post, &object.bucket, &object.key).query("uploadId", upload), body).await
    }

    pub async fn abort_upload(&self, object: &Remote, upload: &str) -> Result<(), S3Error> {
        let ask = Ask::new(Method::Delete, &object.bucket, &object.key).query("uploadId", upload);
        self.ask(&ask, Bytes::new()).await.map(drop)
    }

    /// Copy and completion may begin with HTTP 200 and still end with an error in the body.
    async fn stored(&self, ask: &Ask, body: Bytes) -> Result<String, S3Error> {
        self.retry
            .run(async || {
                let answer = self.ask_once(ask, body.clone()).await?;
                if let Ok(stored) = xml::parse::<xml::Stored>(&answer.body) {
                    return Ok(stored.etag.trim_matches('"').to_string());
                }
                let error: xml::ErrorAnswer = xml::parse(&answer.body)?;
                // A 500 said late: what it stands for passes.
                Err(S3Error::Refused { status: 500, code: error.code, message: error.message })
            })
            .await
    }

    /// The sans-IO crate's idea of a bucket: only its body builders are used.
    fn sans_io_bucket(&self, bucket: &str) -> Result<Bucket, S3Error> {
        Bucket::new(self.endpoint().url.clone(), UrlStyle::Path, bucket.to_string(), self.endpoint().region.clone())
            .map_err(|error| S3Error::Local(error.to_string()))
    }
}
