"""The archive's way into the bucket: once, whole or not at all, and looked at afterwards."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.rollback import Undo
from spoter.aws.deploy.settings import DeployError, Settings

# S3 takes no more in one PUT (S3 user guide, "Uploading objects"). An archive is a few megabytes.
LARGEST = 5 * 1024**3


class Body:
    """A file on its way to S3, told of as far as it has been read; botocore begins anew by `seek` when it retries."""

    def __init__(self, path: Path, file: IO[bytes], size: int, show: Callable[[int], None]):
        self._path, self._file, self._size, self._show = path, file, size, show

    def __len__(self) -> int:
        return self._size

    def __str__(self) -> str:
        return f"{self._path.name}, {self._size} bytes"

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._show(self._file.tell())
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def digest_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_bucket(settings: Settings, account: Account, bucket: str, undo: Undo) -> None:
    """Make a bucket in the account's region that nobody outside reaches."""
    # us-east-1 is where a bucket comes to lie that says nothing; S3 refuses its name (API reference, CreateBucket).
    place: dict[str, Any] = {}
    if account.region != "us-east-1":
        place = {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
    account.call("s3", "create_bucket", Bucket=bucket, **place)
    undo.add(f"bucket {bucket}", lambda: account.call("s3", "delete_bucket", Bucket=bucket))
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    account.call("s3", "put_public_access_block", Bucket=bucket, PublicAccessBlockConfiguration=closed)
    account.call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": requests.tag_list(settings)})


def upload(settings: Settings, account: Account, bucket: str, archive: Path, undo: Undo, reporter: Reporter) -> bool:
    """Put the archive where `plan.archive_key` says, unless it is there.

    One PUT with the content's SHA-256: S3 keeps it when it has all of it and the sum is right, and nothing otherwise,
    so that an upload that breaks off leaves no parts behind that would be paid for.

    Returns
    -------
    bool
        Whether anything was uploaded.

    Raises
    ------
    DeployError
        Where the upload fails, or what S3 then has is not the archive.
    """
    size, digest = archive.stat().st_size, digest_of(archive)
    if size > LARGEST:
        raise DeployError(f"found an archive of {size:,} bytes, expected at most {LARGEST:,}: S3 takes no more at once")
    key = requests.archive_key(settings, digest)
    checksum = base64.b64encode(bytes.fromhex(digest)).decode()
    if _holds(account, bucket, key, size, checksum):
        return False
    # Before it begins: when it breaks off, nobody knows whether S3 had all of it, and to remove nothing is no error.
    undo.add(f"s3://{bucket}/{key}", lambda: account.call("s3", "delete_object", Bucket=bucket, Key=key))
    with archive.open("rb") as file, reporter.upload(archive.name, size) as show:
        account.call(
            "s3",
            "put_object",
            Bucket=bucket,
            Key=key,
            Body=Body(archive, file, size, show),
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
            ContentType="application/gzip",
            Tagging=urlencode(requests.tags(settings)),
        )
    if not _holds(account, bucket, key, size, checksum) and not account.dry_run:
        raise DeployError(f"s3://{bucket}/{key} is not what was uploaded: run deploy.py again")
    return True


def _holds(account: Account, bucket: str, key: str, size: int, checksum: str) -> bool:
    try:
        found = account.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except CallError as error:
        # S3 says 403 instead of 404 to those who may not list the bucket (API reference, HeadObject).
        if error.code == "403":
            raise DeployError(f"{error}; s3:ListBucket and s3:GetObject on {bucket} are needed") from None
        raise
    return found is not None and found["ContentLength"] == size and found.get("ChecksumSHA256") == checksum
