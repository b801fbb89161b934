"""Limits on the content of a request."""

from dataclasses import dataclass

from spoter.error_codes import ErrorCode
from spoter.errors import InputError

VIDEO_SECONDS = 40.0
"""Default time for all videos of a batch, in seconds: about 400 frames on one core. SageMaker waits for 60 s."""


@dataclass(frozen=True)
class Limits:
    """The largest number of frames in a clip, clips in a request, bytes in a body, and enrolled glosses.

    A video is limited by `max_frames` and `max_bytes`, by `max_video_seconds`, and by `max_video_pixels` per frame: 4K.
    """

    max_frames: int = 512
    max_clips: int = 64
    max_bytes: int = 26_214_400
    max_enrolled: int = 100  # with layout 54, each takes about 5 kB
    max_video_seconds: float = 30.0
    max_video_pixels: int = 3840 * 2160

    def check_frames(self, frames: int) -> None:
        """Raise ``no_frames`` or ``too_many_frames`` if a clip is empty or too long."""
        if frames == 0:
            raise InputError(ErrorCode.NO_FRAMES, "found 0 frames, expected at least 1")
        if frames > self.max_frames:
            raise InputError(ErrorCode.TOO_MANY_FRAMES, f"found {frames} frames, expected at most {self.max_frames}")

    def check_clips(self, clips: int) -> None:
        """Raise ``no_clips`` or ``too_many_clips`` if a request with several clips holds none or too many."""
        if clips == 0:
            raise InputError(ErrorCode.NO_CLIPS, "found 0 clips, expected at least 1")
        if clips > self.max_clips:
            raise self.too_many_clips()

    def too_many_clips(self) -> InputError:
        """Return the error for a request with too many clips."""
        return InputError(ErrorCode.TOO_MANY_CLIPS, f"found more than {self.max_clips} clips, the limit")

    def check_enrolled(self, glosses: int) -> None:
        """Raise ``too_many_enrolled`` if a request has too many glosses, including the one that it learns."""
        if glosses > self.max_enrolled:
            raise InputError(
                ErrorCode.TOO_MANY_ENROLLED,
                f"found {glosses} glosses, expected at most {self.max_enrolled}",
                "enrolled",
            )
