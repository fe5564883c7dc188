"""An upload of 10,000 parts, S3's limit, made of copies so that only references move; and one part more, refused."""

import concurrent.futures
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

PARTS = 10_000
PART_BYTES = 5 << 20

client = boto3.client(
    "s3",
    region_name=os.environ["AWS_REGION"],
    config=Config(max_pool_connections=32, retries={"max_attempts": 5}),
)
bucket = "ten-thousand"
client.create_bucket(Bucket=bucket)
piece = bytes(range(256)) * (PART_BYTES // 256)
client.put_object(Bucket=bucket, Key="piece", Body=piece)
upload = client.create_multipart_upload(Bucket=bucket, Key="whole")["UploadId"]


def copy(number):
    answer = client.upload_part_copy(
        Bucket=bucket,
        Key="whole",
        UploadId=upload,
        PartNumber=number,
        CopySource={"Bucket": bucket, "Key": "piece"},
    )
    return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}


with concurrent.futures.ThreadPoolExecutor(16) as pool:
    parts = list(pool.map(copy, range(1, PARTS + 1)))

try:
    copy(PARTS + 1)
    sys.exit("part 10,001 was accepted")
except ClientError as error:
    assert error.response["Error"]["Code"] == "InvalidArgument", error

client.complete_multipart_upload(
    Bucket=bucket, Key="whole", UploadId=upload, MultipartUpload={"Parts": parts}
)
head = client.head_object(Bucket=bucket, Key="whole")
assert head["ContentLength"] == PARTS * PART_BYTES, head
assert head["ETag"].endswith('-20000"'), head["ETag"]
for first in (0, 5 * PART_BYTES - 3, 9_999 * PART_BYTES + 17):
    answer = client.get_object(Bucket=bucket, Key="whole", Range=f"bytes={first}-{first + 9}")
    start = first % PART_BYTES
    want = (piece + piece)[start : start + 10]
    assert answer["Body"].read() == want, first
client.delete_object(Bucket=bucket, Key="whole")
print("10,000 parts copied, completed, read and deleted")
