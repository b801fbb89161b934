"""Drawing of the skeleton over the frames, as a video or a GIF."""

from __future__ import annotations

import errno
import os

import cv2
import numpy as np

_WIDEST = {"mp4": 1280, "gif": 480}  # pixels
_NARROWEST = 480  # pixels; in a smaller picture the lines would hide the person
_FPS = 25.0  # if the video's own rate is unknown
_GIF_FPS, _GIF_FRAMES = 12.5, 600  # limits: the whole GIF is in memory, here and in browsers


class Overlay:
    """Writer of frames with landmarks drawn over them.

    `path` ends in .mp4 or .gif. Each of the `parts` of the body has ``name``, ``colour`` [r, g, b] and ``pairs`` of
    columns to join; a hand also has its ``columns`` [start, stop] and the column of the pose's ``wrist``. `frames` is
    the number of frames that will be added.
    """

    def __init__(self, path: str, parts: list[dict], fps: float | None, frames: int):
        self._path, self._parts, self._kind = path, parts, path.rpartition(".")[2]
        rate = fps or _FPS
        self._step = max(round(rate / _GIF_FPS), -(-frames // _GIF_FRAMES), 1) if self._kind == "gif" else 1
        self._fps, self._count, self._writer = rate / self._step, 0, None

    def add(self, picture: np.ndarray, points: np.ndarray) -> None:
        """Write one frame: the picture (H, W, 3) BGR with its landmarks (N, 2) in image units."""
        self._count += 1
        if (self._count - 1) % self._step:
            return
        if self._writer is None:
            height, width = picture.shape[:2]
            scale = float(np.clip(1, _NARROWEST / width, _WIDEST[self._kind] / width))
            # Codecs require even numbers.
            self._size = max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)
            colours = [part["colour"] for part in self._parts]
            self._writer = _open_writer(self._path, self._kind, self._fps, self._size, colours)
        smaller = self._size[0] < picture.shape[1]
        canvas = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        draw(canvas, points, self._parts, f"frame {self._count - 1}")
        self._writer.write(canvas)

    def close(self) -> None:
        """Finish the file; raise OSError if it is incomplete, because OpenCV does not report a full disk."""
        if self._writer is not None:
            self._writer.release()
            if not cv2.VideoCapture(self._path, cv2.CAP_FFMPEG).isOpened():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def draw(canvas: np.ndarray, points: np.ndarray, parts: list[dict], title: str) -> None:
    """Draw a frame's landmarks into a picture (H, W, 3) BGR.

    A missing hand is drawn as a ring at the pose's wrist in the hand's color, and is named in the line of text. A frame
    without any landmark is labeled "no person".
    """
    height, width = canvas.shape[:2]
    thick = max(2, round(max(height, width) / 400))
    present = ~np.isnan(points).any(axis=1)
    # Lines extend beyond the picture; more than three widths away OpenCV's fixed-point numbers overflow.
    places = (np.clip(np.nan_to_num(points), -3, 3) * (width, height)).round().astype(int)
    missing = []
    for part in parts:
        colour = tuple(part["colour"][::-1])
        for ink, pen in (((255, 255, 255), thick + 2), (colour, thick)):
            for start, stop in part["pairs"]:
                if present[start] and present[stop]:
                    cv2.line(canvas, places[start].tolist(), places[stop].tolist(), ink, pen, cv2.LINE_AA)
        if "columns" in part and not present[slice(*part["columns"])].any():
            missing.append(part["name"])
            if present[part["wrist"]]:
                # A hand below the picture is missing; its ring is drawn at the edge.
                ring = np.clip(places[part["wrist"]], 8 * thick, (width - 8 * thick, height - 8 * thick)).tolist()
                cv2.circle(canvas, ring, 6 * thick, (255, 255, 255), -1, cv2.LINE_AA)
                cv2.circle(canvas, ring, 6 * thick, colour, thick + 1, cv2.LINE_AA)
    missing_text = "no person" if not present.any() else f"no {', no '.join(missing)}" if missing else ""
    text, size = f"{title}  {missing_text}".rstrip(), max(0.5, width / 1400)
    place = (round(16 * size), round(40 * size))
    for ink, pen in (((255, 255, 255), 3), ((0, 0, 0), 1)):
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, pen, cv2.LINE_AA)


def _open_writer(
    path: str, kind: str, fps: float, size: tuple[int, int], colours: list[list[int]]
) -> cv2.VideoWriter | _GifWriter:
    if kind == "gif":
        return _GifWriter(path, fps, colours)
    # MPEG-4 part 2: this OpenCV has no H.264 encoder, and its VP9 encoder takes six times as long as MediaPipe.
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise OSError(errno.EIO, "OpenCV cannot write the overlay")
    return writer


class _GifWriter:
    def __init__(self, path: str, fps: float, colours: list[list[int]]):
        self._path, self._fps, self._pictures = path, fps, []
        self._colours = [number for colour in colours for number in colour]

    def write(self, picture: np.ndarray) -> None:
        from PIL import Image  # installed with MediaPipe, for matplotlib

        picture = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        # A palette of 256 colors chosen by frequency has none for thin lines: reserve theirs.
        palette = Image.new("P", (1, 1))
        palette.putpalette(self._colours + picture.quantize(128).getpalette()[: 3 * 128])
        self._pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))

    def release(self) -> None:
        first, *others = self._pictures
        first.save(self._path, save_all=True, append_images=others, duration=round(1000 / self._fps), loop=0)
