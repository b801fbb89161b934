"""How much a request may hold."""

from dataclasses import dataclass

from spoter.error_codes import ErrorCode
from spoter.errors import InputError

VIDEO_SECONDS = 40.0
"""Seconds that the videos of a batch may take together by default: about 400 frames of a core. SageMaker waits 60."""


@dataclass(frozen=True)
class Limits:
    """The most frames in a clip, clips in a request, bytes in a body, and enrolled glosses.

    The first and third hold for a video too, which also has at most `max_video_seconds`, and `max_video_pixels` in each
    picture: 4K.
    """

    max_frames: int = 512
    max_clips: int = 64
    max_bytes: int = 26_214_400
    max_enrolled: int = 100  # in models of layout 54 each takes about 5 kB
    max_video_seconds: float = 30.0
    max_video_pixels: int = 3840 * 2160

    def check_frames(self, frames: int) -> None:
        """Raise ``no_frames`` or ``too_many_frames`` where a clip is empty or too long."""
        if frames == 0:
            raise InputError(ErrorCode.NO_FRAMES, "found 0 frames, expected at least 1")
        if frames > self.max_frames:
            raise InputError(ErrorCode.TOO_MANY_FRAMES, f"found {frames} frames, expected at most {self.max_frames}")

    def check_clips(self, clips: int) -> None:
        """Raise ``no_clips`` or ``too_many_clips`` where a request of several clips holds none or too many."""
        if clips == 0:
            raise InputError(ErrorCode.NO_CLIPS, "found 0 clips, expected at least 1")
        if clips > self.max_clips:
            raise self.too_many_clips()

    def too_many_clips(self) -> InputError:
        """Return the error of a request of too many clips, however many they are."""
        return InputError(ErrorCode.TOO_MANY_CLIPS, f"found more than {self.max_clips} clips, expected at most that")

    def check_enrolled(self, glosses: int) -> None:
        """Raise ``too_many_enrolled`` where a request brings too many glosses along, or would with what it learns."""
        if glosses > self.max_enrolled:
            raise InputError(
                ErrorCode.TOO_MANY_ENROLLED,
                f"found {glosses} glosses, expected at most {self.max_enrolled}",
                "enrolled",
            )
