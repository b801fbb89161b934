"""What a loaded model knows and takes, for clients: the answer to ``{"describe": true}``."""

from __future__ import annotations

from dataclasses import asdict

from spoter import __version__
from spoter.formats import content_types
from spoter.formats.request import VIDEOS
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.serving.recognizer import Recognizer


def describe(recognizer: Recognizer) -> dict[str, object]:
    """Describe a model, and the content types that are read where it runs.

    Returns
    -------
    dict
        For JSON; docs/formats.md lists its keys. ``layout.mediapipe`` has for each landmark its index in MediaPipe's
        543 points, 543 for the mean of the shoulders, and None where MediaPipe lacks it.
    """
    config, layout = recognizer.config, recognizer.layout
    types = content_types()
    video = any(kind in VIDEOS for kind in types)
    limits = asdict(recognizer.limits)
    return {
        "name": config.name,
        "version": config.version,
        "glosses": recognizer.glosses,
        "enrolled": [gloss.gloss for gloss in recognizer.enrolled],
        "layout": {
            "name": layout.name,
            "landmarks": layout.names,
            "mediapipe": [landmark.index.get(MEDIAPIPE.name) for landmark in layout.landmarks],
        },
        "estimator": config.estimator,
        "tells_unknown": config.known_threshold is not None,
        "enrolment": recognizer.prototypes is not None,
        "limits": {name: value for name, value in limits.items() if video or not name.startswith("max_video_")},
        "content_types": types,
        "video": video,
        "spoter": __version__,
    }
