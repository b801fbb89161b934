""".pose files written by pose-format, and videos with a replacement for MediaPipe."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE
from spoter.training.data import read_dataset, video
from spoter.training.data.pose_files import read_clip as read_pose
from spoter.video.reader import VideoLandmarks
from tests.generate import figure_clip

WIDTH, HEIGHT = 640, 480


# --- .pose ---

HOLISTIC = {
    "POSE_LANDMARKS": [name.removeprefix("pose_").upper() for name in MEDIAPIPE.parts["pose"]],
    "FACE_LANDMARKS": [str(i) for i in range(478)],  # with the irises (refined)
    "LEFT_HAND_LANDMARKS": [name.removeprefix("leftHand_").upper() for name in MEDIAPIPE.parts["left_hand"]],
    "RIGHT_HAND_LANDMARKS": [name.removeprefix("rightHand_").upper() for name in MEDIAPIPE.parts["right_hand"]],
    "POSE_WORLD_LANDMARKS": [name.removeprefix("pose_").upper() for name in MEDIAPIPE.parts["pose"]],
}
_SIZES = {name: [len(points) for points in ESTIMATORS[name].parts.values()] for name in ("openpose", "wholepose")}
IN_ORDER = {
    "openpose": dict(
        zip(
            ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"),
            [[f"p{i}" for i in range(size)] for size in _SIZES["openpose"]],
            strict=True,
        )
    ),
    "wholepose": dict(
        zip(
            ("BODY", "FACE", "LEFT_HAND", "RIGHT_HAND"),
            [[f"p{i}" for i in range(size)] for size in _SIZES["wholepose"]],
            strict=True,
        )
    ),
}


def write_pose(
    path: Path, components: dict[str, list[str]], points: np.ndarray, persons: int = 1, size=(WIDTH, HEIGHT), fps=25.0
) -> Path:
    """Write points (T, N, 2) in image units with pose-format; NaN = confidence 0."""
    pose_format = pytest.importorskip("pose_format", reason=".pose files need the extra train")
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    header = PoseHeader(
        0.2,
        PoseHeaderDimensions(*size),
        [PoseHeaderComponent(name, of, [], [(0, 0, 0)], "XYZC") for name, of in components.items()],
    )
    pixels = np.nan_to_num(points.astype(np.float64)) * (WIDTH, HEIGHT)
    data = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)[:, None].repeat(persons, axis=1)
    data[:, 1:] += 50  # another person
    confidence = (~np.isnan(points).any(axis=2)).astype(np.float32)[:, None].repeat(persons, axis=1)
    stream = io.BytesIO()
    pose_format.Pose(header, NumPyPoseBody(fps, data.astype(np.float32), confidence)).write(stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
    return path


def holistic_points(clip: Clip) -> np.ndarray:
    """Return the points of a MediaPipe clip in the order of the components in `HOLISTIC`."""
    frames = len(clip)
    parts = [clip.points[:, MEDIAPIPE.part(part)] for part in MEDIAPIPE.parts]
    parts[1] = np.concatenate([parts[1], np.full((frames, 10, 2), 0.5, np.float32)], axis=1)
    return np.concatenate([*parts, np.full((frames, 33, 2), 0.1, np.float32)], axis=1)


@pytest.mark.parametrize("persons", [1, 2])
def test_holistic_pose_files_are_read_in_image_units_with_masked_points_missing(tmp_path, persons):
    clip = figure_clip()
    read = read_pose(write_pose(tmp_path / "a.pose", HOLISTIC, holistic_points(clip), persons))
    assert (read.names, read.estimator, read.fps) == (MEDIAPIPE.names, "mediapipe", 25)
    np.testing.assert_allclose(read.points, clip.points, rtol=0, atol=1e-6)


def test_points_are_read_by_name_so_that_the_face_may_be_incomplete(tmp_path):
    clip = figure_clip(gaps=False)
    chosen = [467, 0, 37]
    components = {
        "FACE_LANDMARKS": [str(i) for i in chosen],
        "POSE_LANDMARKS": list(reversed(HOLISTIC["POSE_LANDMARKS"])),
        "RIGHT_HAND_LANDMARKS": HOLISTIC["RIGHT_HAND_LANDMARKS"],
    }
    face = MEDIAPIPE.part("face").start + np.array(chosen)
    columns = [*face, *range(32, -1, -1), *range(522, 543)]
    read = read_pose(write_pose(tmp_path / "a.pose", components, clip.points[:, columns]))
    expected = np.full_like(clip.points, np.nan)
    expected[:, columns] = clip.points[:, columns]
    np.testing.assert_allclose(read.points, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["openpose", "wholepose"])
def test_components_identify_the_estimator_of_a_pose_file(tmp_path, name):
    clip = figure_clip(name)
    read = read_pose(write_pose(tmp_path / "a.pose", IN_ORDER[name], clip.points))
    assert (read.names, read.estimator) == (clip.names, name)
    np.testing.assert_allclose(read.points, clip.points, rtol=0, atol=1e-6)


def test_folder_of_pose_files_is_a_data_set_and_bad_files_are_errors(tmp_path):
    clip = figure_clip()
    good = write_pose(tmp_path / "HOLA" / "a.pose", HOLISTIC, holistic_points(clip))
    assert [clip.name for clip in read_dataset(tmp_path).clips] == ["HOLA/a"]
    complete = good.read_bytes()
    bad = tmp_path / "HOLA" / "b.pose"
    for content in (complete[: len(complete) // 2], b"", b"hello, this is text"):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"HOLA/b\.pose: "):
            read_dataset(tmp_path)
    write_pose(bad, {"SOMETHING": ["a", "b"]}, np.full((4, 2, 2), 0.5))
    with pytest.raises(DataError, match=r"b\.pose: .*SOMETHING \(2 points\)"):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip), size=(0, 0))
    with pytest.raises(DataError, match=r"b\.pose: .*0 x 0 "):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip) * np.nan)
    with pytest.raises(DataError, match=r"b\.pose: .*HOLA/b"):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip) * 40)
    with pytest.raises(DataError, match=r"b\.pose: .*\b[xy] = "):
        read_dataset(tmp_path)
    assert [clip.name for clip in read_dataset(tmp_path, skip_bad=True).clips] == ["HOLA/a"]


# --- videos, with a replacement for MediaPipe; tests/video uses MediaPipe ---


class FakeReader:
    """A replacement for `spoter.video.reader.read` that returns a drawn figure and counts its calls."""

    def __init__(self, points: np.ndarray, fps: float | None = 30.0):
        self.points, self.fps, self.calls = points, fps, 0

    def __call__(self, path: Path) -> VideoLandmarks:
        self.calls += 1
        return VideoLandmarks(make_clip(self.points, MEDIAPIPE.names, "mediapipe", self.fps), self.fps, WIDTH, HEIGHT)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spoter"


def test_video_is_extracted_once_and_cached_by_its_content(tmp_path, cache):
    reader = FakeReader(figure_clip().points)
    first, second = tmp_path / "a.mp4", tmp_path / "renamed.mp4"
    for path in (first, second):
        path.write_bytes(b"a video")
    clips = [video.read_clip(path, reader) for path in (first, second, first)]
    assert reader.calls == 1
    for clip in clips:
        assert (clip.names, clip.estimator, clip.fps) == (MEDIAPIPE.names, "mediapipe", 30)
        np.testing.assert_array_equal(clip.points, reader.points)
    (cached,) = cache.iterdir()
    assert cached.name.startswith(hashlib.sha256(b"a video").hexdigest())
    first.write_bytes(b"another video")
    video.read_clip(first, reader)
    assert reader.calls == 2 and len(list(cache.iterdir())) == 2


def test_damaged_cache_file_is_replaced_and_a_failed_extraction_is_not_cached(tmp_path, cache):
    reader = FakeReader(figure_clip().points, fps=None)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a video")
    assert video.read_clip(path, reader).fps is None
    (cached,) = cache.iterdir()
    complete = cached.read_bytes()
    for damaged in (b"", complete[:100], complete[:-200], b"x" * 500):
        cached.write_bytes(damaged)
        np.testing.assert_array_equal(video.read_clip(path, reader).points, reader.points)
    assert reader.calls == 5

    def fail(path: Path):
        raise InputError(ErrorCode.BAD_VIDEO, "found no video")

    path.write_bytes(b"not a video")
    with pytest.raises(InputError) as caught:
        video.read_clip(path, fail)
    assert caught.value.code == ErrorCode.BAD_VIDEO and list(cache.iterdir()) == [cached]


def test_unwritable_cache_is_an_error(tmp_path, cache):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    cache.parent.write_text("a file instead of a folder")
    with pytest.raises(DataError, match=r"\.npz: .*XDG_CACHE_HOME"):
        video.read_clip(tmp_path / "a.mp4", FakeReader(figure_clip().points))


def test_folder_of_videos_is_a_data_set_and_a_missing_environment_is_an_error(tmp_path, cache, monkeypatch):
    from spoter.video import reader as video_reader

    path = tmp_path / "signs" / "HOLA" / "a.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a video")
    monkeypatch.setattr(video_reader, "find_python", lambda: None)
    with pytest.raises(DataError, match=r"a\.mp4: .*spoter\.video\.install"):
        read_dataset(path.parents[1])
    reader = FakeReader(figure_clip().points)
    video.read_clip(path, reader)  # into the cache
    (clip,) = read_dataset(path.parents[1]).clips
    assert (clip.name, clip.gloss, reader.calls) == ("HOLA/a", "HOLA", 1)
