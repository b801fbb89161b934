"""Clips in each of the wire formats, as clients send them."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd

from spoter.formats import Limits
from spoter.formats.spoter_csv import NAMES
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE, NECK, OPENPOSE, WHOLEPOSE
from spoter.landmarks.layouts import load_layout

LIMITS = Limits(max_frames=40, max_clips=4, max_bytes=8_000_000)


def number(value: float) -> float | None:
    """Return a coordinate for JSON: null if missing."""
    return None if math.isnan(value) else float(value)


def holistic(clip: Clip, refined: bool = False) -> dict:
    """Return a clip as the web page sends it; a part without any point is []."""
    frames = []
    for points in clip.points:
        frame = {}
        for part in MEDIAPIPE.parts:
            part_points = points[MEDIAPIPE.part(part)]
            landmarks = [] if np.isnan(part_points).all() else [_landmark(x, y) for x, y in part_points]
            if refined and part == "face":
                landmarks += [_landmark(0.5, 0.5)] * 10
            frame[f"{part}_landmarks"] = landmarks
        frames.append(frame)
    return {"keypoints": frames}


def _landmark(x: float, y: float) -> dict:
    return {"x": number(x), "y": number(y), "z": -0.25, "visibility": 0.9}


def openpose(clip: Clip, width: float = 640, height: float = 480) -> dict:
    """Return a clip as a list of OpenPose documents, in pixels."""
    keys = dict(pose="pose", face="face", left_hand="hand_left", right_hand="hand_right")
    frames = []
    for points in clip.points:
        person = {}
        for part, key in keys.items():
            pixels = points[OPENPOSE.part(part)].astype(float) * (width, height)
            confidence = np.where(np.isnan(pixels[:, :1]), 0, 0.8)
            person[f"{key}_keypoints_2d"] = np.hstack([np.nan_to_num(pixels), confidence]).ravel().tolist()
        frames.append({"version": 1.3, "people": [person]})
    return {"frames": frames, "width": width, "height": height}


def mmpose(clip: Clip, width: float = 640, height: float = 480) -> dict:
    """Return a clip as MMPose's demo scripts write it, in pixels."""
    frames = []
    for i, points in enumerate(clip.points):
        pixels = np.nan_to_num(points.astype(float) * (width, height), nan=-1)
        scores = np.where(np.isnan(points[:, 0]), 0, 0.7)
        instance = {"keypoints": pixels.tolist(), "keypoint_scores": scores.tolist(), "bbox": [[0, 0, 1, 1]]}
        frames.append({"frame_id": i + 1, "instances": [instance]})
    return {"meta_info": {"dataset_name": "coco_wholebody"}, "instance_info": frames, "width": width, "height": height}


FRAME_FORMS = {MEDIAPIPE.name: holistic, OPENPOSE.name: openpose, WHOLEPOSE.name: mmpose}


def nested(points: np.ndarray) -> list:
    """Return points as nested lists with null for NaN."""
    return [[[number(x), number(y)] for x, y in frame] for frame in points]


def by_name(points: np.ndarray, names: tuple[str, ...]) -> dict:
    """Return points as an object with one key per landmark."""
    frames = nested(points)
    return {name: [frame[i] for frame in frames] for i, name in enumerate(names)}


def wide(points: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Return points as a table with one row per frame."""
    return pd.DataFrame(
        points.reshape(len(points), -1).astype(float), columns=[name + axis for name in names for axis in ("_x", "_y")]
    )


def long(clip: Clip) -> pd.DataFrame:
    """Return a MediaPipe clip as a table with one row per landmark, in the columns of the competition data."""
    rows = []
    for frame, points in enumerate(clip.points):
        for part in ("face", "left_hand", "pose", "right_hand"):
            for index, (x, y) in enumerate(points[MEDIAPIPE.part(part)].astype(float)):
                rows.append((frame, f"{frame}-{part}-{index}", part, index, x, y, 0.1))
    return pd.DataFrame(rows, columns=["frame", "row_id", "type", "landmark_index", "x", "y", "z"])


def spoter_table(clips: np.ndarray, neck: bool = True) -> pd.DataFrame:
    """Return clips (C, T, 54, 2) in layout spoter54 as a SPOTER data set: y up, 0 = missing, lists in cells."""
    layout = load_layout("spoter54")
    columns = {}
    for name, landmark in NAMES.items():
        if name.endswith(("_0", "_1", "_Left", "_Right")) or (landmark == NECK and not neck):
            continue
        points = clips[:, :, layout.column(landmark)].astype(float)
        points = np.where(np.isnan(points), 0, np.stack([points[..., 0], 1 - points[..., 1]], axis=-1))
        columns[f"{name}_X"] = [str(track.tolist()) for track in points[..., 0]]
        columns[f"{name}_Y"] = [str(track.tolist()) for track in points[..., 1]]
    return pd.DataFrame(columns | {"labels": range(1, len(clips) + 1)})


def csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def npy(points: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, points)
    return stream.getvalue()


def dumps(body: object) -> bytes:
    return json.dumps(body).encode()
