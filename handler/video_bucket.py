"""Videos that lie in an S3 bucket, as in the original system: ``{"uniqueName": KEY}`` names one.

The worker's environment says where:

SPOTER_VIDEO_BUCKET
    Name of the bucket; without it there are no stored videos. Credentials and region are found as boto3 finds them.
SPOTER_VIDEO_PREFIX
    Put before the key that a request names: ``uploads/``. Nothing unless said.

`build_mar.py` packs this file beside spoter_handler.py, which imports it once the archive's own `spoter` is on the
path. boto3 (extra ``deploy``) is imported only where a bucket is named.
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

# Seconds to connect, and to wait for a piece of an answer; tries, the first included.
CONNECTING, READING, TRIES = 2.0, 5.0, 3
PIECE = 1 << 16
# Bytes: "Creating object key names", Amazon S3 User Guide.
LONGEST_KEY = 1024
# S3's words for what may succeed in a moment ("Error responses", Amazon S3 API Reference).
PASSING = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}


class VideoBucket:
    """A bucket of videos, with a prefix for each key.

    The client is boto3's of s3; None where there is none to be had, for a reason in the log.
    """

    def __init__(self, bucket: str, prefix: str, client: Any):
        self.bucket, self.prefix, self._client = bucket, prefix, client

    def fetch(self, key: str, path: Path, max_bytes: int, deadline: float) -> None:
        """Write the video of a key into a file: a `spoter.formats.video_format.Fetch`.

        S3's number of bytes is compared with `max_bytes` before one of them is read.

        Raises
        ------
        spoter.errors.InputError
            ``bad_key``; ``unknown_video`` (404); ``body_too_large`` (413); ``bucket_busy`` (503) where S3 cannot be
            reached, is overburdened or too slow; ``bucket_refused`` (502) where the server's own set-up is at fault,
            which its log explains.
        """
        self._check(key)
        if self._client is None:
            raise _refused("it has no way to S3")
        from botocore import exceptions as errors

        try:
            found = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            with closing(found["Body"]) as body, path.open("wb") as file:
                size = found["ContentLength"]  # where HTTP ends the body, too
                if size > max_bytes:
                    message = f"found a video of {size} bytes, expected at most {max_bytes}"
                    raise InputError(ErrorCode.BODY_TOO_LARGE, message, "uniqueName")
                for piece in body.iter_chunks(PIECE):
                    file.write(piece)
                    if time.monotonic() > deadline:
                        raise _busy("it does not come in time")
        except errors.ClientError as error:
            raise self._failure(error.response["Error"]["Code"], key) from None
        except (errors.ConnectionError, errors.HTTPClientError, errors.IncompleteReadError) as error:
            logger.warning("bucket %s: %s", self.bucket, type(error).__name__)
            raise _busy("S3 is not reached") from None
        except errors.BotoCoreError as error:  # no credentials, no region, a bucket's name that is none
            logger.error("bucket %s: %s", self.bucket, error)
            raise _refused(type(error).__name__) from None

    def _check(self, key: str) -> None:
        """Refuse a key that is no plain path below the prefix."""
        size = len((self.prefix + key).encode(errors="replace"))
        if not key.isprintable() or {"", ".", ".."}.intersection(key.split("/")) or size > LONGEST_KEY:
            raise InputError(
                ErrorCode.BAD_KEY,
                f"found {quote(key, 80)}, expected the key of a video, such as '0.123.webm': printable, at most "
                f"{LONGEST_KEY} bytes, and no empty, . or .. part between slashes",
                "uniqueName",
            )

    def _failure(self, code: str, key: str) -> InputError:
        """Return what an error of S3's is answered with; the log gets its code, and never the key."""
        if code == "NoSuchKey":
            return InputError(ErrorCode.UNKNOWN_VIDEO, f"found no video {quote(key, 80)} in the bucket", "uniqueName")
        if code in PASSING:
            logger.warning("bucket %s: %s", self.bucket, code)
            return _busy("S3 is overburdened")
        hint = ""
        if code == "AccessDenied":
            hint = "; it needs s3:GetObject, and s3:ListBucket, without which S3 says the same of a key that is absent"
        logger.error("bucket %s cannot be read: %s%s", self.bucket, code, hint)
        return _refused(code)


def _busy(reason: str) -> InputError:
    return InputError(ErrorCode.BUCKET_BUSY, f"the stored video cannot be read now, {reason}; try again", "uniqueName")


def _refused(reason: str) -> InputError:
    return InputError(
        ErrorCode.BUCKET_REFUSED, f"the server cannot read its bucket, {reason}; its log says more", "uniqueName"
    )


def from_environment() -> VideoBucket | None:
    """Return the bucket that the environment names, None where it names none.

    A bucket that cannot be used is said in the log, and to who asks for a video: landmarks need none.
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
        logger.error("SPOTER_VIDEO_BUCKET is set, but boto3 is not installed here: pip install 'boto3>=1.35'")
        return VideoBucket(bucket, prefix, None)
    retries = {"mode": "standard", "total_max_attempts": TRIES}
    try:
        client = boto3.session.Session().client(
            "s3", config=Config(connect_timeout=CONNECTING, read_timeout=READING, retries=retries)
        )
    except (BotoCoreError, ValueError) as error:  # a profile, a region or an address that is none
        logger.error("SPOTER_VIDEO_BUCKET is set, but there is no way to S3: %s", error)
    return VideoBucket(bucket, prefix, client)
