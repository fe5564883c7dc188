#!/usr/bin/env python3
"""Drives every verb of the S3 front door through boto3, as it comes: default checksums, default retries, default
transfer settings.

Reads AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION. Prints what it checked; the first wrong
result ends it with a non-zero status.
"""

import base64
import datetime
import hashlib
import io
import os
import random
import sys
import time
import urllib.error
import urllib.request
import zlib

import boto3
import botocore
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1024 * 1024
REGION = os.environ["AWS_REGION"]
BUCKET = "boto3-%d-%d" % (os.getpid(), int(time.time()))
RANDOM = random.Random(20250101)

s3 = boto3.client("s3", region_name=REGION)
checked = 0


def check(condition, what):
    """Ends the script unless `condition`."""
    global checked
    if not condition:
        sys.exit("WRONG: " + what)
    checked += 1
    print("ok  " + what, flush=True)


def refused(code, call, **arguments):
    """Whether the call fails with this S3 error code (or, for a HEAD without a body, this status)."""
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        if got != code:
            print("    expected %s, got %s: %s" % (code, got, error))
        return got == code
    print("    expected %s, got no error" % code)
    return False


def blob(size):
    return RANDOM.randbytes(size)


def buckets():
    s3.create_bucket(Bucket=BUCKET)
    check(True, "CreateBucket")
    check(refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=BUCKET,
                  CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}),
          "CreateBucket again is BucketAlreadyOwnedByYou")
    check(refused("InvalidBucketName", s3.create_bucket, Bucket="Not-A-Name"),
          "CreateBucket with a bad name is InvalidBucketName")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    check(BUCKET in names, "ListBuckets names the bucket")
    s3.head_bucket(Bucket=BUCKET)
    check(True, "HeadBucket")
    check(refused("404", s3.head_bucket, Bucket=BUCKET + "-absent"), "HeadBucket of an absent bucket is 404")
    location = s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"]
    check((location or "us-east-1") == REGION, "GetBucketLocation")
    check("Status" not in s3.get_bucket_versioning(Bucket=BUCKET), "GetBucketVersioning: not versioned")


def objects():
    for size in (0, 1, 65537, 5 * MIB + 3):
        body = blob(size)
        put = s3.put_object(Bucket=BUCKET, Key="size/%d" % size, Body=body)
        got = s3.get_object(Bucket=BUCKET, Key="size/%d" % size)
        check(got["Body"].read() == body and got["ETag"] == put["ETag"], "PutObject and GetObject of %d bytes" % size)
        head = s3.head_object(Bucket=BUCKET, Key="size/%d" % size)
        check(head["ContentLength"] == size and head["ETag"] == put["ETag"], "HeadObject of %d bytes" % size)
    now = datetime.datetime.now(datetime.timezone.utc)
    check(abs((now - head["LastModified"]).total_seconds()) < 300, "LastModified is now")
    check(refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="absent"), "GetObject of an absent key is NoSuchKey")
    check(refused("404", s3.head_object, Bucket=BUCKET, Key="absent"), "HeadObject of an absent key is 404")
    check(refused("NoSuchBucket", s3.put_object, Bucket=BUCKET + "-absent", Key="k", Body=b"x"),
          "PutObject into an absent bucket is NoSuchBucket")
    long_key = "k" * 1024
    s3.put_object(Bucket=BUCKET, Key=long_key, Body=b"long")
    check(s3.get_object(Bucket=BUCKET, Key=long_key)["Body"].read() == b"long", "a key of 1,024 bytes")
    check(refused("KeyTooLongError", s3.put_object, Bucket=BUCKET, Key=long_key + "k", Body=b"x"),
          "a key of 1,025 bytes is KeyTooLongError")
    for key in ("a b+c&d=e", "ünïcödé/☃", "q?x#y%20z", "//slashes//", "quote\"'<>", "semi;colon:*()!"):
        s3.put_object(Bucket=BUCKET, Key="odd/" + key, Body=key.encode())
        check(s3.get_object(Bucket=BUCKET, Key="odd/" + key)["Body"].read() == key.encode(), "key %r" % key)


def headers_and_metadata():
    expires = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    s3.put_object(Bucket=BUCKET, Key="described", Body=b"text", ContentType="text/plain; charset=utf-8",
                  ContentEncoding="identity", ContentDisposition="attachment; filename=x", ContentLanguage="en",
                  CacheControl="max-age=60", Expires=expires, Metadata={"colour": "blue", "mtime": "1700000000.123"},
                  StorageClass="STANDARD")
    for call, name in ((s3.head_object, "HeadObject"), (s3.get_object, "GetObject")):
        got = call(Bucket=BUCKET, Key="described")
        check(got["Metadata"] == {"colour": "blue", "mtime": "1700000000.123"}, "%s: user metadata" % name)
        check((got["ContentType"], got["ContentEncoding"], got["ContentDisposition"], got["ContentLanguage"],
               got["CacheControl"]) == ("text/plain; charset=utf-8", "identity", "attachment; filename=x", "en",
                                        "max-age=60"), "%s: content headers" % name)
        check(got["ExpiresString"] == "Wed, 02 Jan 2030 03:04:05 GMT", "%s: Expires" % name)
    got = s3.get_object(Bucket=BUCKET, Key="described", ResponseContentType="image/png", ResponseCacheControl="no-store")
    check((got["ContentType"], got["CacheControl"]) == ("image/png", "no-store"), "response-* overrides")
    check(s3.head_object(Bucket=BUCKET, Key="size/1")["ContentType"] == "binary/octet-stream", "default Content-Type")
    check(refused("MetadataTooLarge", s3.put_object, Bucket=BUCKET, Key="large", Body=b"", Metadata={"m": "v" * 2048}),
          "more than 2 KiB of metadata is MetadataTooLarge")
    check(refused("InvalidStorageClass", s3.put_object, Bucket=BUCKET, Key="cold", Body=b"", StorageClass="GLACIER"),
          "StorageClass GLACIER is InvalidStorageClass")
    for what, arguments in (("SSE-KMS", {"ServerSideEncryption": "aws:kms"}), ("tags", {"Tagging": "a=b"}),
                            ("SSE-C", {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32})):
        # SSE-C over plain HTTP is refused by the SDK itself before it is sent.
        try:
            s3.put_object(Bucket=BUCKET, Key="promise", Body=b"", **arguments)
            check(False, "%s is refused" % what)
        except ClientError as error:
            check(error.response["Error"]["Code"] == "NotImplemented", "%s is NotImplemented" % what)
        except botocore.exceptions.BotoCoreError:
            check(True, "%s is refused by the SDK" % what)
    check(refused("NotImplemented", s3.get_object_tagging, Bucket=BUCKET, Key="described"),
          "GetObjectTagging is NotImplemented")
    check(refused("NotImplemented", s3.get_bucket_acl, Bucket=BUCKET), "GetBucketAcl is NotImplemented")


def ranges_and_conditions():
    body = blob(100000)
    etag = s3.put_object(Bucket=BUCKET, Key="ranged", Body=body)["ETag"]
    for text, expected in (("bytes=0-99", body[:100]), ("bytes=99990-", body[99990:]), ("bytes=-10", body[-10:]),
                           ("bytes=99000-200000", body[99000:])):
        got = s3.get_object(Bucket=BUCKET, Key="ranged", Range=text)
        check(got["Body"].read() == expected and got["ResponseMetadata"]["HTTPStatusCode"] == 206, "Range " + text)
        check(got["ContentRange"].endswith("/100000"), "Content-Range of " + text)
    check(refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key="ranged", Range="bytes=100000-"),
          "a range behind the end is InvalidRange")
    key = {"Bucket": BUCKET, "Key": "ranged"}
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    check(s3.get_object(**key, IfMatch=etag)["Body"].read() == body, "If-Match holds")
    check(refused("PreconditionFailed", s3.get_object, **key, IfMatch='"other"'), "If-Match fails with 412")
    check(refused("304", s3.get_object, **key, IfNoneMatch=etag), "If-None-Match answers 304")
    check(s3.get_object(**key, IfNoneMatch='"other"')["Body"].read() == body, "If-None-Match holds")
    check(refused("304", s3.head_object, **key, IfModifiedSince=future), "If-Modified-Since answers 304")
    check(refused("PreconditionFailed", s3.get_object, **key, IfUnmodifiedSince=past), "If-Unmodified-Since fails")

    check(refused("PreconditionFailed", s3.put_object, **key, Body=b"x", IfNoneMatch="*"),
          "PutObject If-None-Match: * on a taken key fails")
    s3.put_object(Bucket=BUCKET, Key="created-once", Body=b"1", IfNoneMatch="*")
    check(True, "PutObject If-None-Match: * on a free key")
    check(refused("PreconditionFailed", s3.put_object, **key, Body=b"x", IfMatch='"other"'),
          "PutObject If-Match with another ETag fails")
    s3.put_object(**key, Body=b"replaced", IfMatch=etag)
    check(s3.get_object(**key)["Body"].read() == b"replaced", "PutObject If-Match with the right ETag")


def checksums():
    body = blob(300000)
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        field = "Checksum" + algorithm
        put = s3.put_object(Bucket=BUCKET, Key="sum/" + algorithm, Body=body, ChecksumAlgorithm=algorithm)
        check(put.get(field), "PutObject answers its " + algorithm)
        head = s3.head_object(Bucket=BUCKET, Key="sum/" + algorithm, ChecksumMode="ENABLED")
        check(head.get(field) == put[field] and head["ChecksumType"] == "FULL_OBJECT", "HeadObject answers it too")
        got = s3.get_object(Bucket=BUCKET, Key="sum/" + algorithm, ChecksumMode="ENABLED")
        check(got.get(field) == put[field] and got["Body"].read() == body, "GetObject is verified by the SDK")
    check(refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="bad", Body=body, ChecksumCRC32="AAAAAA=="),
          "a wrong CRC32 is BadDigest")
    check(refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="bad", Body=body,
                  ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="), "a wrong Content-MD5 is BadDigest")
    check(refused("404", s3.head_object, Bucket=BUCKET, Key="bad"), "nothing was stored")


def listings():
    keys = sorted(["list/%04d" % i for i in range(1203)] + ["list/dir/%d" % i for i in range(3)])
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/"))
    check([o["Key"] for page in pages for o in page["Contents"]] == keys and len(pages) == 2,
          "ListObjectsV2: %d keys in two pages" % len(keys))
    pages = list(s3.get_paginator("list_objects").paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 500}))
    check([o["Key"] for page in pages for o in page["Contents"]] == keys, "ListObjects: pages of 500")
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", Delimiter="/", MaxKeys=3, StartAfter="list/1201")
    check([o["Key"] for o in page["Contents"]] == ["list/1202"]
          and [p["Prefix"] for p in page["CommonPrefixes"]] == ["list/dir/"], "delimiter and start-after")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 1}))
    prefixes = [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])]
    check(prefixes == ["list/", "odd/", "size/", "sum/"], "common prefixes, one a page: %s" % prefixes)
    odd = s3.list_objects_v2(Bucket=BUCKET, Prefix="odd/", FetchOwner=True)["Contents"]
    check({o["Key"] for o in odd} >= {"odd/a b+c&d=e", "odd/ünïcödé/☃", "odd/q?x#y%20z"}, "odd keys are listed as they are")
    check("Owner" in odd[0] and odd[0]["StorageClass"] == "STANDARD", "fetch-owner and storage class")
    check(refused("InvalidArgument", s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="garbage!"),
          "a garbage continuation token is InvalidArgument")
    check(refused("NoSuchBucket", s3.list_objects_v2, Bucket=BUCKET + "-absent"), "listing an absent bucket")


def copies():
    s3.put_object(Bucket=BUCKET, Key="source ü", Body=b"copied", ContentType="text/x", Metadata={"a": "1"})
    source = {"Bucket": BUCKET, "Key": "source ü"}
    etag = s3.head_object(**source)["ETag"]
    copied = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
    got = s3.get_object(Bucket=BUCKET, Key="copy")
    check(got["Body"].read() == b"copied" and copied["CopyObjectResult"]["ETag"] == etag, "CopyObject")
    check((got["ContentType"], got["Metadata"]) == ("text/x", {"a": "1"}), "a copy keeps headers and metadata")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"},
                   ContentType="text/y")
    got = s3.head_object(Bucket=BUCKET, Key="copy")
    check((got["ContentType"], got["Metadata"]) == ("text/y", {"b": "2"}), "MetadataDirective REPLACE")
    check(refused("InvalidRequest", s3.copy_object, CopySource=source, **source), "a copy to itself is refused")
    s3.copy_object(CopySource=source, **source, MetadataDirective="REPLACE", Metadata={"c": "3"})
    check(s3.head_object(**source)["Metadata"] == {"c": "3"}, "a copy to itself with new metadata")
    check(refused("PreconditionFailed", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource=source,
                  CopySourceIfMatch='"other"'), "CopySourceIfMatch fails")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, CopySourceIfMatch=etag)
    check(True, "CopySourceIfMatch holds")
    check(refused("NoSuchKey", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource=BUCKET + "/absent"),
          "copying an absent key is NoSuchKey")


def multipart():
    body = blob(23 * MIB + 17)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "transferred",
                      Config=TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB))
    out = io.BytesIO()
    s3.download_fileobj(BUCKET, "transferred", out)
    check(hashlib.sha256(out.getvalue()).digest() == hashlib.sha256(body).digest(),
          "upload_fileobj and download_fileobj of 23 MiB in parts")

    key = {"Bucket": BUCKET, "Key": "by-hand"}
    upload = s3.create_multipart_upload(**key, Metadata={"m": "p"}, ContentType="text/z")["UploadId"]
    uploads = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    check([(u["Key"], u["UploadId"]) for u in uploads] == [("by-hand", upload)], "ListMultipartUploads")
    etags = {}
    for number, part in ((3, body[5 * MIB:5 * MIB + 9]), (1, body[:5 * MIB])):
        etags[number] = s3.upload_part(**key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
    copied = s3.upload_part_copy(**key, UploadId=upload, PartNumber=2, CopySource=BUCKET + "/transferred",
                                 CopySourceRange="bytes=0-%d" % (6 * MIB - 1))
    etags[2] = copied["CopyPartResult"]["ETag"]
    listed = s3.list_parts(**key, UploadId=upload, MaxParts=2)
    check([(p["PartNumber"], p["ETag"]) for p in listed["Parts"]] == [(1, etags[1]), (2, etags[2])]
          and listed["IsTruncated"] and listed["NextPartNumberMarker"] == 2, "ListParts in pages")
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]
    wrong = [parts[0], {"PartNumber": 2, "ETag": '"wrong"'}]
    check(refused("InvalidPart", s3.complete_multipart_upload, **key, UploadId=upload, MultipartUpload={"Parts": wrong}),
          "a part with another ETag is InvalidPart")
    check(refused("InvalidPartOrder", s3.complete_multipart_upload, **key, UploadId=upload,
                  MultipartUpload={"Parts": [parts[1], parts[0]]}), "parts out of order are InvalidPartOrder")
    check(refused("EntityTooSmall", s3.complete_multipart_upload, **key, UploadId=upload,
                  MultipartUpload={"Parts": [parts[0], parts[2], {"PartNumber": 4, "ETag": s3.upload_part(
                      **key, UploadId=upload, PartNumber=4, Body=b"last")["ETag"]}]}),
          "a small part that is not the last is EntityTooSmall")
    done = s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": parts})
    got = s3.get_object(**key)
    check(got["Body"].read() == body[:5 * MIB] + body[:6 * MIB] + body[5 * MIB:5 * MIB + 9] and got["ETag"] == done["ETag"],
          "CompleteMultipartUpload of an uploaded, a copied and a last part")
    check((got["Metadata"], got["ContentType"]) == ({"m": "p"}, "text/z"), "metadata given at the upload's start")
    check(refused("NoSuchUpload", s3.upload_part, **key, UploadId=upload, PartNumber=1, Body=b"x"),
          "a completed upload is gone")
    check(refused("NoSuchUpload", s3.list_parts, **key, UploadId="garbage"), "a garbage upload id is NoSuchUpload")

    upload = s3.create_multipart_upload(**key)["UploadId"]
    s3.upload_part(**key, UploadId=upload, PartNumber=10000, Body=b"x")
    check(refused("InvalidArgument", s3.upload_part, **key, UploadId=upload, PartNumber=10001, Body=b"x"),
          "part number 10,001 is InvalidArgument")
    s3.abort_multipart_upload(**key, UploadId=upload)
    check("Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET), "AbortMultipartUpload")

    upload = s3.create_multipart_upload(**key)["UploadId"]
    numbers = range(1, 41)
    parts = [{"PartNumber": n, "ETag": s3.upload_part(**key, UploadId=upload, PartNumber=n, Body=body[:5 * MIB])["ETag"]}
             for n in numbers]
    s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": parts})
    check(s3.head_object(**key)["ContentLength"] == len(numbers) * 5 * MIB, "an upload of 40 parts")


def multipart_checksums():
    parts = [blob(5 * MIB), blob(6 * MIB), b"tail"]
    body = b"".join(parts)
    crc = lambda data: base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    composite = base64.b64encode(zlib.crc32(b"".join(zlib.crc32(p).to_bytes(4, "big") for p in parts)).to_bytes(4, "big"))
    for kind, whole in (("FULL_OBJECT", crc(body)), ("COMPOSITE", composite.decode() + "-3")):
        key = {"Bucket": BUCKET, "Key": "sums/" + kind}
        created = s3.create_multipart_upload(**key, ChecksumAlgorithm="CRC32", ChecksumType=kind)
        check(created["ChecksumType"] == kind, "CreateMultipartUpload answers " + kind)
        upload = {**key, "UploadId": created["UploadId"]}
        named = []
        for number, part in enumerate(parts, 1):
            put = s3.upload_part(**upload, PartNumber=number, Body=part)
            check(put["ChecksumCRC32"] == crc(part), "UploadPart answers the part's checksum")
            named.append({"PartNumber": number, "ETag": put["ETag"], "ChecksumCRC32": put["ChecksumCRC32"]})
        wrong = [{**named[0], "ChecksumCRC32": "AAAAAA=="}] + named[1:]
        check(refused("InvalidPart", s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": wrong}),
              "a part with another checksum is InvalidPart")
        check(refused("BadDigest", s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": named},
                      ChecksumCRC32="AAAAAA=="), "another checksum of the object is BadDigest")
        done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": named}, ChecksumCRC32=whole,
                                            ChecksumType=kind)
        check((done["ChecksumCRC32"], done["ChecksumType"]) == (whole, kind), "CompleteMultipartUpload, " + kind)
        head = s3.head_object(**key, ChecksumMode="ENABLED")
        check((head["ChecksumCRC32"], head["ChecksumType"]) == (whole, kind), "HeadObject answers it too")
        got = s3.get_object(**key, ChecksumMode="ENABLED")
        check(got["Body"].read() == body, "GetObject is verified by the SDK")
        part = s3.get_object(**key, PartNumber=2)
        check(part["PartsCount"] == 3 and part["Body"].read() == parts[1], "GetObject of one part")


def objects_that_stay():
    """For `shingle cp`, which has to check an object whose parts are not whole blocks."""
    s3.create_bucket(Bucket="stays")
    s3.upload_fileobj(io.BytesIO(blob(23 * MIB + 17)), "stays", "odd-parts",
                      Config=TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB))
    s3.copy_object(Bucket="stays", Key="copied", CopySource="stays/odd-parts")
    check(True, "objects that stay")


def presigned():
    signer = boto3.client("s3", region_name=REGION, config=Config(signature_version="s3v4"))
    url = signer.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "presigned"}, ExpiresIn=60)
    request = urllib.request.Request(url, data=b"by url", method="PUT")
    check(urllib.request.urlopen(request).status == 200, "presigned PUT")
    url = signer.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "presigned"}, ExpiresIn=60)
    check(urllib.request.urlopen(url).read() == b"by url", "presigned GET")
    head, signature = url.split("X-Amz-Signature=")
    forged = head + "X-Amz-Signature=" + ("1" if signature[0] == "0" else "0") + signature[1:]
    try:
        urllib.request.urlopen(forged)
        check(False, "a changed signature is refused")
    except urllib.error.HTTPError as error:
        check(error.code == 403, "a changed signature is refused")
    url = signer.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "presigned"}, ExpiresIn=1)
    time.sleep(2.1)
    try:
        urllib.request.urlopen(url)
        check(False, "an expired URL is refused")
    except urllib.error.HTTPError as error:
        check(error.code == 403, "an expired URL is refused")


def credentials():
    wrong = boto3.client("s3", region_name=REGION, aws_secret_access_key="wrong",
                         aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"])
    check(refused("SignatureDoesNotMatch", wrong.list_buckets), "a wrong secret is SignatureDoesNotMatch")
    unknown = boto3.client("s3", region_name=REGION, aws_secret_access_key="wrong", aws_access_key_id="AKIDUNKNOWN")
    check(refused("InvalidAccessKeyId", unknown.list_buckets), "an unknown key is InvalidAccessKeyId")
    nobody = boto3.client("s3", region_name=REGION, config=Config(signature_version=botocore.UNSIGNED))
    check(refused("AccessDenied", nobody.list_objects_v2, Bucket=BUCKET), "no signature is AccessDenied")


def deletions():
    s3.delete_object(Bucket=BUCKET, Key="described")
    check(refused("404", s3.head_object, Bucket=BUCKET, Key="described"), "DeleteObject")
    s3.delete_object(Bucket=BUCKET, Key="described")
    check(True, "DeleteObject of an absent key is no error")
    check(refused("BucketNotEmpty", s3.delete_bucket, Bucket=BUCKET), "DeleteBucket of a full bucket is BucketNotEmpty")
    keys = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET) for o in page["Contents"]]
    first, rest = keys[:1000], keys[1000:]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in first]})
    check([d["Key"] for d in answer["Deleted"]] == first and "Errors" not in answer, "DeleteObjects of 1,000 keys")
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in rest], "Quiet": True})
    check("Deleted" not in answer and "Errors" not in answer, "DeleteObjects, quiet")
    check("Contents" not in s3.list_objects_v2(Bucket=BUCKET), "nothing is left")
    s3.delete_bucket(Bucket=BUCKET)
    check(refused("404", s3.head_bucket, Bucket=BUCKET), "DeleteBucket")


def main():
    print("boto3 %s against %s" % (boto3.__version__, os.environ["AWS_ENDPOINT_URL"]))
    for step in (buckets, objects, headers_and_metadata, ranges_and_conditions, checksums, listings, copies, multipart,
                 multipart_checksums, presigned, credentials, deletions, objects_that_stay):
        print("--- " + step.__name__)
        step()
    print("%d checks passed" % checked)


if __name__ == "__main__":
    main()
