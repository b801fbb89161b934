"""Upload the archive to S3: at most once, completely or not at all, and verified."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.progress import Reporter, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.files import file_sha256

# S3's limit for one PUT, in bytes (S3 user guide, "Uploading objects"). An archive has a few megabytes.
MAX_BYTES = 5 * 1024**3


def create_bucket(settings: Settings, account: Account, bucket: str, undo: Undo) -> None:
    """Create a bucket without public access in the account's region."""
    # us-east-1 is the default, which S3 does not accept as a constraint (API reference, CreateBucket).
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
    """Upload the archive to `requests.archive_key` unless it exists; return its address and whether it was uploaded.

    One PUT sends the content with its SHA-256. S3 stores the object only if it is complete and the checksum matches, so
    an interrupted upload leaves no parts behind that would cost money.

    Raises
    ------
    DeployError
        If the upload fails, or if S3 then holds another content.
    """
    size, digest = archive.stat().st_size, file_sha256(archive)
    if size > MAX_BYTES:
        raise DeployError(f"found an archive of {size:,} bytes, expected at most {MAX_BYTES:,}, the limit of S3")
    key = requests.archive_key(settings, digest)
    address = f"s3://{bucket}/{key}"
    checksum = base64.b64encode(bytes.fromhex(digest)).decode()
    if _holds(account, bucket, key, size, checksum):
        return address, False
    # Before the upload: after an interruption S3 may hold the object, and deleting a missing object is no error.
    undo.add(address, lambda: account.call("s3", "delete_object", Bucket=bucket, Key=key))
    with reporter.open(archive) as file:
        properties = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum, "ContentType": "application/gzip"}
        properties["Tagging"] = urlencode(requests.tags(settings))
        account.call("s3", "put_object", Bucket=bucket, Key=key, Body=file, **properties)
    if not _holds(account, bucket, key, size, checksum) and not account.dry_run:
        raise DeployError(f"{address} differs from the uploaded archive: run `spoter deploy` again")
    return address, True


def _holds(account: Account, bucket: str, key: str, size: int, checksum: str) -> bool:
    try:
        head = account.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except CallError as error:
        # S3 answers 403 instead of 404 without permission to list the bucket (API reference, HeadObject).
        if error.code == "403":
            raise DeployError(f"{error}; s3:ListBucket and s3:GetObject on {bucket} are required") from None
        raise
    return head is not None and head["ContentLength"] == size and head.get("ChecksumSHA256") == checksum
