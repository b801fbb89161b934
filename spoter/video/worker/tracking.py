"""Choice of the person that Holistic follows, if a picture shows several.

MediaPipe Holistic follows one person. Its person detector chooses the person in the first frame, and again in each
frame after it lost the person: it takes the highest score, not the largest person. Therefore the same detector runs
here first. If it finds several persons, the others are covered in each frame in which Holistic will run its detector.
Once Holistic has found the largest person, it follows that person in the original frames.
"""

from dataclasses import dataclass
from statistics import median

import numpy as np
from google.protobuf import text_format
from mediapipe.framework import calculator_pb2
from mediapipe.python.solution_base import SolutionBase

# The part of Holistic's graph that detects persons: mediapipe/modules/pose_detection/pose_detection_cpu.pbtxt.
_GRAPH = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""
DETECTION_INTERVAL = 12
"""The first pass detects persons in one of this many frames: several times per second."""

_SEVERAL = 0.25  # a video shows several persons if at least this share of the searched frames does
_SAME = 0.6  # distance within which a detection is the same person, in units of the person's size
_COVER = (0.55, 0.7, 0.8)  # covered area: to each side of, above and below the shoulders, in the same units


@dataclass(frozen=True)
class Person:
    """A person in a frame: x and y of the point between the shoulders, and the size (hips to head), in pixels."""

    x: float
    y: float
    size: float

    def distance(self, x: float, y: float) -> float:
        """Return the distance of a point from the shoulders, in pixels."""
        return float(np.hypot(self.x - x, self.y - y))

    def window(self, picture: np.ndarray) -> tuple[slice, slice]:
        """Return the rows and columns of the picture that hold head, body and arms."""
        height, width = picture.shape[:2]
        side, above, below = (part * self.size for part in _COVER)
        return _span(self.y - above, self.y + below, height), _span(self.x - side, self.x + side, width)


def _span(start: float, stop: float, end: int) -> slice:
    return slice(int(np.clip(start, 0, end)), int(np.clip(stop, 0, end)))


class PersonDetector:
    """MediaPipe's person detector."""

    def __init__(self) -> None:
        graph = text_format.Parse(_GRAPH, calculator_pb2.CalculatorGraphConfig())
        self._solution = SolutionBase(graph_config=graph, outputs=["detections"])

    def detect(self, picture: np.ndarray) -> list[Person]:
        """Return the persons in a picture (H, W, 3) RGB, the largest first."""
        height, width = picture.shape[:2]
        persons = []
        for detection in self._solution.process({"image": picture}).detections or ():
            points = [(point.x * width, point.y * height) for point in detection.location_data.relative_keypoints]
            hips, top, shoulders = points[:3]
            persons.append(Person(*shoulders, float(np.hypot(top[0] - hips[0], top[1] - hips[1]))))
        return sorted(persons, key=lambda person: -person.size)

    def close(self) -> None:
        """Free the graph."""
        self._solution.close()


class PersonTracker:
    """Keeps Holistic on the largest of several persons; `detections` maps frame numbers to persons, largest first."""

    def __init__(self, detector: PersonDetector, detections: dict[int, list[Person]]):
        self._detector = detector
        self._crowded = {frame: persons for frame, persons in detections.items() if len(persons) > 1}
        self.several = bool(self._crowded) and len(self._crowded) >= _SEVERAL * len(detections)
        if self.several:
            self.persons = round(median(len(persons) for persons in self._crowded.values()))
            largest = [persons[0] for persons in self._crowded.values()]
            self._target = Person(*(median(getattr(one, name) for one in largest) for name in ("x", "y", "size")))
        self._checked = self._other = 0

    def cover_others(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture (H, W, 3) RGB in which all other persons are covered in gray."""
        persons, target = self._detector.detect(picture), self._target
        near = sorted(persons, key=lambda person: person.distance(target.x, target.y))
        followed = near[0] if near and near[0].distance(target.x, target.y) < _SAME * target.size else None
        covered = picture.copy()
        for person in persons:
            if person is not followed:
                covered[person.window(picture)] = 128
        if followed is not None:
            covered[followed.window(picture)] = picture[followed.window(picture)]
        return covered

    def check(self, frame: int, shoulders: np.ndarray) -> None:
        """Count whom Holistic followed in a frame; `shoulders` (2,) is in pixels, NaN if it lost the person."""
        persons = self._crowded.get(frame)
        if persons and not np.isnan(shoulders).any():
            self._checked += 1
            self._other += min(persons, key=lambda person: person.distance(*shoulders)) is not persons[0]

    def notes(self) -> list[str]:
        """Return notes about several persons."""
        if not self.several:
            return []
        notes = [f"found {self.persons} persons in the picture; the largest is followed"]
        if self._other:
            notes.append(f"in {self._other} of {self._checked} checked frames, a smaller person was followed")
        return notes
