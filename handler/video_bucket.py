"""Videos in an S3 bucket, as in the original system: a request names one with ``{"uniqueName": KEY}``.

The environment of the worker configures the bucket:

SPOTER_VIDEO_BUCKET
    Name of the bucket; without it there are no stored videos. boto3 finds the credentials and the region.
SPOTER_VIDEO_PREFIX
    Prefix for the key in a request, such as ``uploads/``; empty by default.

`spoter pack` packs this file next to spoter_handler.py, which imports it when the `spoter` of the archive is on the
path. boto3 (extra ``deploy``) is imported only if a bucket is configured.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.request import quote

logger = logging.getLogger(__name__)

# Seconds to connect, seconds to wait for a piece of an answer, and number of attempts.
CONNECTING, READING, TRIES = 2.0, 5.0, 3
PIECE = 1 << 16
# Bytes: "Creating object key names", Amazon S3 User Guide.
LONGEST_KEY = 1024
# S3's codes of temporary errors ("Error responses", Amazon S3 API Reference).
PASSING = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}


class VideoBucket:
    """A bucket of videos, with a prefix for all keys.

    `client` is boto3's client of S3, or None if it cannot be created; the log has the reason.
    """

    def __init__(self, bucket: str, prefix: str, client: Any):
        self.bucket, self.prefix, self._client = bucket, prefix, client

    def fetch(self, key: str, path: Path, max_bytes: int, deadline: float) -> None:
        """Write the video of a key to a file; a `spoter.formats.video_format.Fetch`.

        The size that S3 reports is compared with `max_bytes` before the first byte is read.

        Raises
        ------
        spoter.errors.InputError
            ``bad_key``; ``unknown_video`` (404); ``body_too_large`` (413); ``bucket_busy`` (503) if S3 cannot be
            reached, is overloaded or too slow; ``bucket_refused`` (502) if the server is not set up correctly; its log
            has the reason.
        """
        self._check(key)
        if self._client is None:
            raise _refused("no client of S3")
        from botocore import exceptions as errors

        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            with closing(answer["Body"]) as body, path.open("wb") as file:
                size = answer["ContentLength"]  # HTTP also ends the body there
                if size > max_bytes:
                    message = f"found a video of {size} bytes, expected at most {max_bytes}"
                    raise InputError(ErrorCode.BODY_TOO_LARGE, message, "uniqueName")
                for piece in body.iter_chunks(PIECE):
                    file.write(piece)
                    if time.monotonic() > deadline:
                        raise _busy("the download is too slow")
        except errors.ClientError as error:
            raise self._failure(error.response["Error"]["Code"], key) from None
        except (errors.ConnectionError, errors.HTTPClientError, errors.IncompleteReadError) as error:
            logger.warning("bucket %s: %s", self.bucket, type(error).__name__)
            raise _busy("S3 cannot be reached") from None
        except errors.BotoCoreError as error:  # no credentials, no region, an invalid name of a bucket
            logger.error("bucket %s: %s", self.bucket, error)
            raise _refused(type(error).__name__) from None

    def _check(self, key: str) -> None:
        """Raise `InputError` for a key that is not a plain path below the prefix."""
        size = len((self.prefix + key).encode(errors="replace"))
        if not key.isprintable() or {"", ".", ".."}.intersection(key.split("/")) or size > LONGEST_KEY:
            raise InputError(
                ErrorCode.BAD_KEY,
                f"found {quote(key, 80)}, expected the key of a video, such as '0.123.webm': printable, at most "
                f"{LONGEST_KEY} bytes, without empty parts, '.' or '..' between slashes",
                "uniqueName",
            )

    def _failure(self, code: str, key: str) -> InputError:
        """Return the error for the client; log the code of S3's error, but never the key."""
        if code == "NoSuchKey":
            return InputError(ErrorCode.UNKNOWN_VIDEO, f"found no video {quote(key, 80)} in the bucket", "uniqueName")
        if code in PASSING:
            logger.warning("bucket %s: %s", self.bucket, code)
            return _busy("S3 is overloaded")
        hint = ""
        if code == "AccessDenied":
            hint = "; the server needs s3:GetObject, and s3:ListBucket, without which missing keys also get this code"
        logger.error("bucket %s cannot be read: %s%s", self.bucket, code, hint)
        return _refused(code)


def _busy(reason: str) -> InputError:
    return InputError(ErrorCode.BUCKET_BUSY, f"the stored video cannot be read now: {reason}; try again", "uniqueName")


def _refused(reason: str) -> InputError:
    return InputError(
        ErrorCode.BUCKET_REFUSED, f"the server cannot read its bucket: {reason}; see its log", "uniqueName"
    )


def from_environment() -> VideoBucket | None:
    """Return the bucket that the environment names, or None.

    If the bucket cannot be used, the log and the answers to requests for videos report it; landmarks work without it.
    """
    bucket, prefix = os.environ.get("SPOTER_VIDEO_BUCKET", ""), os.environ.get("SPOTER_VIDEO_PREFIX", "")
    if not bucket:
        return None
    client = None
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        logger.error("SPOTER_VIDEO_BUCKET is set, but boto3 is not installed: run pip install 'boto3>=1.35'")
        return VideoBucket(bucket, prefix, None)
    retries = {"mode": "standard", "total_max_attempts": TRIES}
    try:
        client = boto3.session.Session().client(
            "s3", config=Config(connect_timeout=CONNECTING, read_timeout=READING, retries=retries)
        )
    except (BotoCoreError, ValueError) as error:  # an invalid profile, region or address
        logger.error("SPOTER_VIDEO_BUCKET is set, but the client of S3 cannot be created: %s", error)
    return VideoBucket(bucket, prefix, client)
