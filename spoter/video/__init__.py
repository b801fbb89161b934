"""Videos: landmarks by MediaPipe Holistic 0.10.21, found in a child process with an environment of its own.

`reading` starts the child of `worker/` and minds it; `environment` finds and makes what it runs in. `extract` makes
files of many videos, `writers` their forms, and `kept` knows which are made. `command` is `spoter extract`, and
`terminal` what it and other commands show meanwhile.
"""

from __future__ import annotations

from spoter.video.reader import ENDINGS, EXTRACTION, Extracted, VideoLimits, read

__all__ = ["ENDINGS", "EXTRACTION", "Extracted", "VideoLimits", "read"]
