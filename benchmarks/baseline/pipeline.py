"""One request as the Peruvian system answered it, a function a step: what our own costs are measured against.

Written from a description of that system, not from its code. Where the description leaves a choice the cheaper one is
taken: no gradients, and plain floats in the loops.

=============  =========================================================================================================
json           The body goes through `json.loads` as a whole, face mesh included.
`landmarks`    A loop over frames and points makes 544 points a frame: a missing pose or face is zeros, a missing hand
               copies of its wrist of the pose, the neck the mean of the shoulders. All frames are kept, as its server
               for landmarks did (that for videos dropped every other one).
log            All of these landmarks are logged, as a container's standard error is kept: a line in a file.
`select`       Pandas reads the table of points in each request; the points become a dictionary of tracks by name.
`normalize`    A loop over frames moves body and face into a box around head and chest and each hand into its own; a
               point with x = 0 stays; half a picture is taken from all.
tensor         An array of (T, 54, 2), flattened to (T, 108).
`predict`      The forward of one clip, softmax, and the five best.
`answer`       Glosses are looked up in meaning.json, and written without scores.
=============  =========================================================================================================

The original itself was measured once on another machine, with 60 frames: `MEASURED` holds the times of its parts in
units of its json.loads. Logging the text of the body would take a seventh of that json.loads, logging the parsed body
twice of it, and logging all landmarks about the measured time.

Its server failed on a frame without shoulders (an unbound variable); here that is a ValueError.
"""

import json
import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch

# Part of a frame, number of its points, and the point of the pose that stands for it where it is missing.
_PARTS = (("pose", 33, None), ("face", 468, None), ("left_hand", 21, 15), ("right_hand", 21, 16))
_SHOULDERS = (11, 12)
_HANDS = ("leftHand_", "rightHand_")
_BEST = 5

MEASURED = {"filter and normalise": 49 / 65, "log": 74 / 65, "forward": 16 / 65}
"""Milliseconds of the original over those of its json.loads (65); 14 to 18 of the forward."""


class Original:
    """The original's request handling around a model: logits (classes,) of a clip (T, 108), glosses by index."""

    def __init__(self, model: torch.nn.Module, meaning: dict[str, str], logger: logging.Logger):
        self.model, self.meaning, self.logger = model, meaning, logger

    def __call__(self, body: bytes) -> bytes:
        """Answer the full request of the browser's client."""
        return answer(predict(self.model, input_fn(body, self.logger)), self.meaning)


def input_fn(body: bytes | bytearray | str, logger: logging.Logger) -> torch.Tensor:
    """Return the input (T, 108) of a request's body: the original server's first function, without its model."""
    frames = landmarks(json.loads(body))
    logger.warning(frames)
    return torch.from_numpy(normalize(select(frames))).float()


def open_logger(path: Path) -> logging.Logger:
    """Return a logger that writes to a file in the original's format; its one handler closes the file."""
    logger = logging.Logger("inference")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(name)s - %(levelname)s - %(message)s"))
    logger.addHandler(handler)
    return logger


def landmarks(content: dict) -> list[list[list[float]]]:
    """Return (T, 544, 2): x and y of each point in the order pose, face, left hand, right hand, neck."""
    frames = []
    for frame in content.get("keypoints_list") or content["keypoints"]:
        points = []
        for part, size, stand_in in _PARTS:
            found = frame[f"{part}_landmarks"]
            if found:
                for point in found:
                    points.append([point["x"], point["y"]])
            else:
                for _ in range(size):
                    points.append([0.0, 0.0] if stand_in is None else list(points[stand_in]))
        left, right = (points[shoulder] for shoulder in _SHOULDERS)
        points.append([(left[0] + right[0]) / 2, (left[1] + right[1]) / 2])
        frames.append(points)
    return frames


def select(frames: list[list[list[float]]]) -> dict[str, list[list[float]]]:
    """Return the track of each of the 54 points by name: T points [x, y]."""
    with resources.files("spoter.landmarks").joinpath("tables", "points_54.csv").open() as file:
        table = pd.read_csv(file)
    tracks = {}
    for name, index in zip(table["name"], table["mediapipe"], strict=True):
        track = []
        for points in frames:
            track.append(list(points[index]))
        tracks[name] = track
    return tracks


def normalize(tracks: dict[str, list[list[float]]]) -> np.ndarray:
    """Return the features (T, 2K), float64, of tracks of K points; 0 is missing."""
    count = len(next(iter(tracks.values())))
    moved: dict[str, list[Sequence[float]]] = {name: [] for name in tracks}
    for i in range(count):
        left, right = tracks["pose_left_shoulder"][i], tracks["pose_right_shoulder"][i]
        if left[0] == 0 or right[0] == 0:
            raise ValueError(f"frame {i} has no shoulders, without which the original failed")
        half = ((left[0] - right[0]) ** 2 + (left[1] - right[1]) ** 2) ** 0.5 / 2
        start = (0.5 - 3 * half, tracks["pose_right_eye"][i][1] - half / 2)
        end = (0.5 + 3 * half, 0.5 + 4.5 * half)
        for name, track in tracks.items():
            if not name.startswith(_HANDS):
                moved[name].append(within(track[i], start, end))
    for hand in _HANDS:
        names = [name for name in tracks if name.startswith(hand)]
        for i in range(count):
            corners = hand_box([tracks[name][i] for name in names])
            for name in names:
                moved[name].append(within(tracks[name][i], *corners) if corners else tracks[name][i])
    out = np.empty((count, len(tracks), 2))
    for column, track in enumerate(moved.values()):
        out[:, column] = track
    return (out - 0.5).reshape(count, -1)


def hand_box(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return the corners of a square around a hand's points, a tenth wider; None where it has no width or height."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    margin = 0.1 * max(width, height)
    dx, dy = margin + max(height - width, 0) / 2, margin + max(width - height, 0) / 2
    start, end = (min(xs) - dx, min(ys) - dy), (max(xs) + dx, max(ys) + dy)
    return None if start[0] == end[0] or start[1] == end[1] else (start, end)


def within(point: Sequence[float], start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Return a point relative to a box; one with x = 0 stays as it is."""
    if point[0] == 0:
        return point[0], point[1]
    return (point[0] - start[0]) / (end[0] - start[0]), (point[1] - start[1]) / (end[1] - start[1])


def predict(model: torch.nn.Module, frames: torch.Tensor) -> list[int]:
    """Return the label indices of the five highest probabilities for a clip (T, 2K), best first."""
    with torch.no_grad():
        probabilities = torch.nn.functional.softmax(model(frames), dim=0)
    return torch.argsort(probabilities, descending=True)[:_BEST].tolist()


def answer(indices: list[int], meaning: dict[str, str]) -> bytes:
    """Return the glosses of label indices as the original wrote them."""
    return json.dumps({"instances": [{"gloss": meaning[str(index)]} for index in indices]}).encode()
