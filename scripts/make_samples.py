"""Make the samples. Each is an average of several people's clips of a sign, so none is a recording of a person.

    python scripts/make_samples.py dgs11-train.hdf5

The script uses only clips of the groups that models/dgs11 was trained on. For each gloss it selects the `CLIPS` clips
closest to the medoid, the clip with the smallest total distance to the others. It moves and scales them to a common
position and width of the shoulders, and averages them by DTW barycenter averaging (Petitjean, Ketterlin and Gançarski,
"A global averaging method for dynamic time warping", Pattern Recognition 44, 2011): dynamic time warping aligns the
frames of each clip with the average, and the average's frames become means of the aligned frames; both repeat.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from spoter.files import atomic_write, atomic_write_bytes
from spoter.formats.csv_table import axis_columns
from spoter.formats.estimator_frames import MEDIAPIPE_KEYS
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.training.augment.transforms import resample_time
from spoter.training.data import read_dataset
from spoter.training.data.split_record import SPLIT, read_split

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = load_layout("54")
CLIPS = 9
_ROUNDS = 6
_COARSE = 40  # frames for comparing clips
_SHOULDERS = [MEDIAPIPE.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]
_ARMS = [
    MEDIAPIPE.names.index(f"pose_{side}_{joint}") for side in ("left", "right") for joint in ("elbow", "wrist", "index")
]
_DECIMALS = 4


def average_clip(clips: list[np.ndarray]) -> np.ndarray:
    """Average clips of one sign, each of shape (T, 543, 2) in image units, with NaN for missing points.

    The average is float32 of shape (median T, 543, 2). It has the points that at least half of the clips have.
    """
    centers, widths = zip(*map(_shoulders, clips), strict=True)
    aligned = [(points - center) / width for points, center, width in zip(clips, centers, widths, strict=True)]
    coarse = [resample_time(points, _COARSE) for points in aligned]
    distances = np.array([[_warp(a, b)[1] for b in coarse] for a in coarse])
    medoid = int(distances.sum(axis=1).argmin())
    chosen = np.argsort(distances[medoid], kind="stable")[:CLIPS]
    frames = int(np.median([len(aligned[i]) for i in chosen]))
    mean = resample_time(aligned[medoid], frames)
    for _ in range(_ROUNDS):
        mean = _mean_by(mean, [aligned[i] for i in chosen])
    return (mean * np.mean(np.array(widths)[chosen]) + np.mean(np.array(centers)[chosen], axis=0)).astype(np.float32)


def _shoulders(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the center and the distance of a clip's shoulders."""
    left, right = (np.nanmedian(points[:, column], axis=0) for column in _SHOULDERS)
    return (left + right) / 2, float(np.linalg.norm(left - right))


def _warp(one: np.ndarray, other: np.ndarray) -> tuple[list[tuple[int, int]], float]:
    """Return the dynamic time warping path between the arms of two clips, as pairs of frames, and its mean cost."""
    cost = np.linalg.norm(one[:, None, _ARMS] - other[None, :, _ARMS], axis=3).mean(axis=2)
    total = np.full((len(one) + 1, len(other) + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(cost.shape):
        total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    i, j = len(one), len(other)
    path = []
    while i and j:
        path.append((i - 1, j - 1))
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda step: total[step])
    return path[::-1], float(total[-1, -1] / len(path))


def _mean_by(mean: np.ndarray, clips: list[np.ndarray]) -> np.ndarray:
    """Return the mean of all clips' frames aligned with each frame of `mean`; all clips have the same weight."""
    total, votes = np.zeros(mean.shape), np.zeros(mean.shape)
    for points in clips:
        clip_sum, count, matched = np.zeros(mean.shape), np.zeros(mean.shape), np.zeros((len(mean), 1, 1))
        for i, j in _warp(mean, points)[0]:
            clip_sum[i] += np.nan_to_num(points[j])
            count[i] += ~np.isnan(points[j])
            matched[i] += 1
        has_point = count >= matched / 2
        total[has_point] += clip_sum[has_point] / count[has_point]
        votes += has_point
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(votes >= len(clips) / 2, total / votes, np.nan)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), _DECIMALS)


def _pairs(points: np.ndarray) -> list | None:
    """Return points (..., 2) as nested lists, with None for missing points."""
    if points.ndim > 1:
        return [_pairs(inner) for inner in points]
    return None if np.isnan(points).any() else [_number(value) for value in points]


def _format_browser(points: np.ndarray) -> str:
    """Return the JSON of a browser client."""
    frames = []
    for frame in points:
        sections = {key: frame[MEDIAPIPE.part(part)] for part, key in MEDIAPIPE_KEYS.items()}
        frames.append({
            key: [] if np.isnan(section).all() else [{"x": _number(x), "y": _number(y)} for x, y in section]
            for key, section in sections.items()
        })  # fmt: skip
    return json.dumps({"keypoints": frames}, separators=(",", ":")) + "\n"


def _format_compact(points: np.ndarray) -> str:
    """Return a layout's points as JSON."""
    return json.dumps({"layout": 54, "points": _pairs(_select(points))}, separators=(",", ":")) + "\n"


def _format_wide(points: np.ndarray) -> str:
    """Return a CSV table with one row per frame."""
    return _to_csv(pd.DataFrame(_select(points).reshape(len(points), -1), columns=axis_columns(LAYOUT.names)))


def _format_long(points: np.ndarray) -> str:
    """Return a CSV table with one row per landmark."""
    rows = [
        (number, part, index, x, y)
        for number, frame in enumerate(points)
        for part in MEDIAPIPE.parts
        for index, (x, y) in enumerate(frame[MEDIAPIPE.part(part)])
        if not np.isnan(x)
    ]
    return _to_csv(pd.DataFrame(rows, columns=["frame", "type", "landmark_index", "x", "y"]))


def _to_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format=f"%.{_DECIMALS}f", lineterminator="\n")


def _select(points: np.ndarray) -> np.ndarray:
    """Return the points of `LAYOUT`."""
    return LAYOUT.select(make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name))


def main() -> None:
    """Write the samples into samples/."""
    groups = read_split(ROOT / "models" / "dgs11" / SPLIT).split.groups("train")
    clips = [clip for clip in read_dataset(Path(sys.argv[1])).clips if clip.group in groups]

    def average(gloss: str) -> np.ndarray:
        """Average the clips of a gloss, without the neck that data sets add."""
        return average_clip([clip.clip.points[:, : len(MEDIAPIPE.names)] for clip in clips if clip.gloss == gloss])

    texts = {
        "hallo.json": _format_browser(average("HALLO")),
        "zeigen-compact.json": _format_compact(average("ZEIGEN")),
        "deutschland.csv": _format_wide(average("DEUTSCHLAND")),
        "mainz-long.csv": _format_long(average("MAINZ")),
        "ich-welt.jsonl": "".join(_format_compact(average(gloss)) for gloss in ("ICH", "WELT")),
    }
    for name, text in texts.items():
        atomic_write_bytes(ROOT / "samples" / name, text.encode())
    with atomic_write(ROOT / "samples" / "software.npy") as temporary, temporary.open("wb") as file:
        np.save(file, _select(average("SOFTWARE")))


if __name__ == "__main__":
    main()
