"""Upload the archive: once, whole or not at all, and verified."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.progress import Reporter, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.files import file_sha256

# S3 takes no more in one PUT (S3 user guide, "Uploading objects"). An archive is a few megabytes.
LARGEST = 5 * 1024**3


def create_bucket(settings: Settings, account: Account, bucket: str, undo: Undo) -> None:
    """Create a bucket in the account's region without public access."""
    # us-east-1 is the default, and S3 refuses its name (API reference, CreateBucket).
    location: dict[str, Any] = {}
    if account.region != "us-east-1":
        location = {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
    account.call("s3", "create_bucket", Bucket=bucket, **location)
    undo.add(f"bucket {bucket}", lambda: account.call("s3", "delete_bucket", Bucket=bucket))
    blocked = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    account.call("s3", "put_public_access_block", Bucket=bucket, PublicAccessBlockConfiguration=blocked)
    account.call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": requests.tag_list(settings)})


def upload(
    settings: Settings, account: Account, bucket: str, archive: Path, undo: Undo, reporter: Reporter
) -> tuple[str, bool]:
    """Upload the archive to `requests.archive_key`, unless it is there.

    One PUT with the content's SHA-256: S3 keeps it when it has all of it and the sum is right, and nothing otherwise,
    so that an upload that breaks off leaves no parts behind that would be paid for.

    Return its s3:// address, and whether anything was uploaded.

    Raises
    ------
    DeployError
        Where the upload fails, or S3 then holds something else.
    """
    size, digest = archive.stat().st_size, file_sha256(archive)
    if size > LARGEST:
        raise DeployError(f"found an archive of {size:,} bytes, expected at most {LARGEST:,}: S3 takes no more at once")
    key = requests.archive_key(settings, digest)
    address = f"s3://{bucket}/{key}"
    checksum = base64.b64encode(bytes.fromhex(digest)).decode()
    if _holds(account, bucket, key, size, checksum):
        return address, False
    # Before the upload: after one that broke off, S3 may or may not hold it, and to delete nothing is no error.
    undo.add(address, lambda: account.call("s3", "delete_object", Bucket=bucket, Key=key))
    with reporter.open(archive) as file:
        properties = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum, "ContentType": "application/gzip"}
        properties["Tagging"] = urlencode(requests.tags(settings))
        account.call("s3", "put_object", Bucket=bucket, Key=key, Body=file, **properties)
    if not _holds(account, bucket, key, size, checksum) and not account.dry_run:
        raise DeployError(f"{address} is not what was uploaded: run `spoter deploy` again")
    return address, True


def _holds(account: Account, bucket: str, key: str, size: int, checksum: str) -> bool:
    try:
        head = account.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except CallError as error:
        # S3 answers 403 instead of 404 to those who may not list the bucket (API reference, HeadObject).
        if error.code == "403":
            raise DeployError(f"{error}; s3:ListBucket and s3:GetObject on {bucket} are needed") from None
        raise
    return head is not None and head["ContentLength"] == size and head.get("ChecksumSHA256") == checksum
