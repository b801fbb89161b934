"""A request in the Peruvian system, one function per step: the baseline for the cost of our requests.

This code follows a description of that system, not its code. Where the description permits several readings, this code
uses the cheapest: no gradients, and plain floats in the loops.

=============  =========================================================================================================
json           `json.loads` parses the complete body, including the face mesh.
`landmarks`    A loop over frames and points makes 544 points per frame. A missing pose or face becomes zeros, a missing
               hand becomes copies of the pose's wrist, and the neck is the mean of the shoulders. All frames are kept,
               as in the original's server for landmarks (its server for videos dropped every second frame).
log            All landmarks are logged: one line in a file, as a container stores its standard error.
`select`       Pandas reads the table of points for each request; the points become a dictionary of tracks by name.
`normalize`    A loop over frames moves body and face into a box around head and chest, and each hand into a box around
               the hand. A point with x = 0 does not move. Then 0.5, half a picture, is subtracted from all points.
tensor         An array of (T, 54, 2), flattened to (T, 108).
`predict`      The forward pass of one clip, softmax, and the five best glosses.
`answer`       Glosses are looked up in meaning.json, and written without scores.
=============  =========================================================================================================

The original was measured once on another machine, with 60 frames; `MEASURED` holds the times of its steps relative to
its json.loads. Logging the text of the body would take a seventh of the time of json.loads, and logging the parsed body
twice that time; logging all landmarks takes about the measured time.

The original failed on a frame without shoulders (an unbound variable); this code raises ValueError.
"""

import json
import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch

# Part of a frame, its number of points, and the pose point that replaces a missing part.
_PARTS = (("pose", 33, None), ("face", 468, None), ("left_hand", 21, 15), ("right_hand", 21, 16))
_SHOULDERS = (11, 12)
_HANDS = ("leftHand_", "rightHand_")
_BEST = 5

MEASURED = {"filter and normalize": 49 / 65, "log": 74 / 65, "forward pass": 16 / 65}
"""Milliseconds of the original's steps, divided by the 65 ms of its json.loads; the forward pass took 14 to 18 ms."""


class Original:
    """The original's request handling; `model` returns logits (classes,) for a clip (T, 108)."""

    def __init__(self, model: torch.nn.Module, meaning: dict[str, str], logger: logging.Logger):
        self.model, self.meaning, self.logger = model, meaning, logger

    def __call__(self, body: bytes) -> bytes:
        """Answer a full request."""
        return answer(predict(self.model, input_fn(body, self.logger)), self.meaning)


def input_fn(body: bytes | bytearray | str, logger: logging.Logger) -> torch.Tensor:
    """Return the model's input (T, 108) for a request's body: the original's code before the model."""
    frames = landmarks(json.loads(body))
    logger.warning(frames)
    return torch.from_numpy(normalize(select(frames))).float()


def open_logger(path: Path) -> logging.Logger:
    """Return a logger that writes to a file in the original's format; its single handler closes the file."""
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
        for part, size, substitute in _PARTS:
            part_landmarks = frame[f"{part}_landmarks"]
            if part_landmarks:
                for point in part_landmarks:
                    points.append([point["x"], point["y"]])
            else:
                for _ in range(size):
                    points.append([0.0, 0.0] if substitute is None else list(points[substitute]))
        left, right = (points[shoulder] for shoulder in _SHOULDERS)
        points.append([(left[0] + right[0]) / 2, (left[1] + right[1]) / 2])
        frames.append(points)
    return frames


def select(frames: list[list[list[float]]]) -> dict[str, list[list[float]]]:
    """Return the tracks of the 54 points by name; a track is T points [x, y]."""
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
    """Return the features (T, 2K), float64, of the tracks of K points; 0 means missing."""
    count = len(next(iter(tracks.values())))
    moved: dict[str, list[Sequence[float]]] = {name: [] for name in tracks}
    for i in range(count):
        left, right = tracks["pose_left_shoulder"][i], tracks["pose_right_shoulder"][i]
        if left[0] == 0 or right[0] == 0:
            raise ValueError(f"frame {i}: found no shoulders, expected both: the original system fails without them")
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
    """Return the corners of a square around a hand with a margin of a tenth; None if its width or height is 0."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    margin = 0.1 * max(width, height)
    dx, dy = margin + max(height - width, 0) / 2, margin + max(width - height, 0) / 2
    start, end = (min(xs) - dx, min(ys) - dy), (max(xs) + dx, max(ys) + dy)
    return None if start[0] == end[0] or start[1] == end[1] else (start, end)


def within(point: Sequence[float], start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Return a point relative to a box; a point with x = 0 is returned unchanged."""
    if point[0] == 0:
        return point[0], point[1]
    return (point[0] - start[0]) / (end[0] - start[0]), (point[1] - start[1]) / (end[1] - start[1])


def predict(model: torch.nn.Module, frames: torch.Tensor) -> list[int]:
    """Return the label indices of the five highest probabilities for a clip (T, 2K), highest first."""
    with torch.no_grad():
        probabilities = torch.nn.functional.softmax(model(frames), dim=0)
    return torch.argsort(probabilities, descending=True)[:_BEST].tolist()


def answer(indices: list[int], meaning: dict[str, str]) -> bytes:
    """Return the JSON with the glosses of label indices, as the original wrote it."""
    return json.dumps({"instances": [{"gloss": meaning[str(index)]} for index in indices]}).encode()
