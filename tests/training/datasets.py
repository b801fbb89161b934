"""Generated data sets in the ConnectingPoints form: three glosses with different hand movements and places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

# Settings of a small model and a recipe that learns these glosses in seconds.
SMALL = dict(
    heads=4, encoder_layers=1, decoder_layers=1, encoder_feedforward=32, decoder_feedforward=32, position_rows=64,
    batch_size=8, learning_rate=3e-3, average=0.8, threads=1,
)  # fmt: skip
GLOSSES = ("CIRCLE", "NOD", "WAVE")
GROUPS = ("camera00", "camera01", "camera02", "camera03", "camera04", "camera05")
_BODY = {0: (0.5, 0.25), 2: (0.53, 0.22), 5: (0.47, 0.22), 7: (0.56, 0.24), 8: (0.44, 0.24), 11: (0.62, 0.45)}
_BODY |= {12: (0.38, 0.45), 13: (0.68, 0.65), 14: (0.32, 0.62), 15: (0.66, 0.85), 16: (0.36, 0.55)}


def generated_points(gloss: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return a clip (T, 543, 2) like the extractor: the right hand moves, the left hand is copies of its wrist."""
    points = np.zeros((frames, 543, 2), dtype=np.float32)
    for column, place in _BODY.items():
        points[:, column] = place
    turn = np.linspace(0, 4 * np.pi, frames) + rng.uniform(0, 1)
    x, y = {
        "CIRCLE": (np.cos(turn), np.sin(turn)),
        "NOD": (1 + 0 * turn, np.sin(turn)),
        "WAVE": (np.cos(turn), 0 * turn - 2),
    }[gloss]
    points[:, 16] += 0.12 * np.stack([x, y], axis=1)
    fingers = np.stack(np.meshgrid(np.linspace(0, 0.06, 7), np.linspace(0, -0.08, 3)), axis=-1).reshape(21, 2)
    points[:, 522:] = points[:, None, 16] + fingers
    points += 0.03 * rng.standard_normal(2) + 0.003 * rng.standard_normal(points.shape)
    points[:, 33:501] = 0  # no face, as in the webcam data
    points[:, 501:522] = points[:, None, 15]
    return points.astype(np.float32)


def generated_clips(seed: int = 0, per_gloss: int = 3) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield name, gloss and points of `per_gloss` clips of each gloss in each group."""
    rng = np.random.default_rng(seed)
    for group in GROUPS:
        for gloss in GLOSSES:
            for number in range(per_gloss):
                yield (
                    f"{group}/{gloss.lower()}/{number}",
                    gloss,
                    generated_points(gloss, int(rng.integers(16, 28)), rng),
                )


def write_hdf5(path: Path, clips=None) -> Path:
    """Write clips (name, gloss, points) in the ConnectingPoints form; default: the generated data set."""
    with h5py.File(path, "w") as file:
        for i, (name, gloss, points) in enumerate(generated_clips() if clips is None else clips):
            group = file.create_group(str(i))
            group["video_name"] = name
            group["label"] = gloss
            group["data"] = np.asarray(points).transpose(0, 2, 1)
    return path


def put(path: Path, content: bytes) -> Path:
    """Write a file and create its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
