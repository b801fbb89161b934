""".pose files as pose-format writes them; videos, with a stand-in for MediaPipe."""

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
    "FACE_LANDMARKS": [str(i) for i in range(478)],  # refined: with the irises
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
    data[:, 1:] += 50  # somebody else
    confidence = (~np.isnan(points).any(axis=2)).astype(np.float32)[:, None].repeat(persons, axis=1)
    stream = io.BytesIO()
    pose_format.Pose(header, NumPyPoseBody(fps, data.astype(np.float32), confidence)).write(stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
    return path


def holistic_points(clip: Clip) -> np.ndarray:
    """Return a MediaPipe clip's points in the order of `HOLISTIC`'s components."""
    frames = len(clip)
    parts = [clip.points[:, MEDIAPIPE.part(part)] for part in MEDIAPIPE.parts]
    parts[1] = np.concatenate([parts[1], np.full((frames, 10, 2), 0.5, np.float32)], axis=1)
    return np.concatenate([*parts, np.full((frames, 33, 2), 0.1, np.float32)], axis=1)


@pytest.mark.parametrize("persons", [1, 2])
def test_holistic_pose_files_come_in_image_units_with_what_is_masked_missing(tmp_path, persons):
    clip = figure_clip()
    found = read_pose(write_pose(tmp_path / "a.pose", HOLISTIC, holistic_points(clip), persons))
    assert (found.names, found.estimator, found.fps) == (MEDIAPIPE.names, "mediapipe", 25)
    np.testing.assert_allclose(found.points, clip.points, rtol=0, atol=1e-6)


def test_points_are_taken_by_name_so_that_a_part_of_the_face_will_do(tmp_path):
    clip = figure_clip(gaps=False)
    chosen = [467, 0, 37]
    components = {
        "FACE_LANDMARKS": [str(i) for i in chosen],
        "POSE_LANDMARKS": list(reversed(HOLISTIC["POSE_LANDMARKS"])),
        "RIGHT_HAND_LANDMARKS": HOLISTIC["RIGHT_HAND_LANDMARKS"],
    }
    face = MEDIAPIPE.part("face").start + np.array(chosen)
    columns = [*face, *range(32, -1, -1), *range(522, 543)]
    found = read_pose(write_pose(tmp_path / "a.pose", components, clip.points[:, columns]))
    expected = np.full_like(clip.points, np.nan)
    expected[:, columns] = clip.points[:, columns]
    np.testing.assert_allclose(found.points, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["openpose", "wholepose"])
def test_pose_files_of_other_estimators_are_known_by_their_components(tmp_path, name):
    clip = figure_clip(name)
    found = read_pose(write_pose(tmp_path / "a.pose", IN_ORDER[name], clip.points))
    assert (found.names, found.estimator) == (clip.names, name)
    np.testing.assert_allclose(found.points, clip.points, rtol=0, atol=1e-6)


def test_pose_files_of_a_folder_are_a_data_set_and_bad_ones_are_named(tmp_path):
    clip = figure_clip()
    good = write_pose(tmp_path / "HOLA" / "a.pose", HOLISTIC, holistic_points(clip))
    assert [clip.name for clip in read_dataset(tmp_path).clips] == ["HOLA/a"]
    whole = good.read_bytes()
    bad = tmp_path / "HOLA" / "b.pose"
    for content, said in [
        (whole[: len(whole) // 2], "no .pose file"),
        (b"", "no .pose file"),
        (b"hello, this is text", "no .pose file"),
    ]:
        bad.write_bytes(content)
        with pytest.raises(DataError, match=rf"HOLA/b\.pose: found {said}"):
            read_dataset(tmp_path)
    write_pose(bad, {"SOMETHING": ["a", "b"]}, np.full((4, 2, 2), 0.5))
    with pytest.raises(DataError, match=r"b\.pose: found the components SOMETHING \(2 points\), expected those of"):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip), size=(0, 0))
    with pytest.raises(DataError, match=r"b\.pose: found a picture of 0 x 0 pixels"):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip) * np.nan)
    with pytest.raises(DataError, match=r"b\.pose: found no landmark"):
        read_dataset(tmp_path)
    write_pose(bad, HOLISTIC, holistic_points(clip) * 40)
    with pytest.raises(DataError, match=r"b\.pose: .*found [xy] = "):
        read_dataset(tmp_path)
    assert [clip.name for clip in read_dataset(tmp_path, skip_bad=True).clips] == ["HOLA/a"]


# --- videos, with a stand-in for MediaPipe; tests/video has the real one ---


class StandIn:
    """Replaces `spoter.video.reader.read`: returns a drawn figure for each video, and counts its calls."""

    def __init__(self, points: np.ndarray, fps: float | None = 30.0):
        self.points, self.fps, self.asked = points, fps, 0

    def __call__(self, path: Path) -> VideoLandmarks:
        self.asked += 1
        return VideoLandmarks(make_clip(self.points, MEDIAPIPE.names, "mediapipe", self.fps), self.fps, WIDTH, HEIGHT)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spoter"


def test_a_video_is_looked_at_once_and_known_again_by_its_bytes(tmp_path, cache):
    find = StandIn(figure_clip().points)
    first, second = tmp_path / "a.mp4", tmp_path / "renamed.mp4"
    for path in (first, second):
        path.write_bytes(b"a film")
    clips = [video.read_clip(path, find) for path in (first, second, first)]
    assert find.asked == 1
    for clip in clips:
        assert (clip.names, clip.estimator, clip.fps) == (MEDIAPIPE.names, "mediapipe", 30)
        np.testing.assert_array_equal(clip.points, find.points)
    (kept,) = cache.iterdir()
    assert kept.name.startswith(hashlib.sha256(b"a film").hexdigest())
    first.write_bytes(b"another film")
    video.read_clip(first, find)
    assert find.asked == 2 and len(list(cache.iterdir())) == 2


def test_a_spoilt_cache_is_made_anew_and_a_failed_look_leaves_none(tmp_path, cache):
    find = StandIn(figure_clip().points, fps=None)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a film")
    assert video.read_clip(path, find).fps is None
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for spoilt in (b"", whole[:100], whole[:-200], b"x" * 500):
        kept.write_bytes(spoilt)
        np.testing.assert_array_equal(video.read_clip(path, find).points, find.points)
    assert find.asked == 5

    def fail(path: Path):
        raise InputError(ErrorCode.BAD_VIDEO, "found no video")

    path.write_bytes(b"no film")
    with pytest.raises(InputError, match="no video"):
        video.read_clip(path, fail)
    assert list(cache.iterdir()) == [kept]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, cache):
    (tmp_path / "a.mp4").write_bytes(b"a film")
    cache.parent.write_text("a file in the folder's place")
    with pytest.raises(DataError, match=r"cannot be written .*XDG_CACHE_HOME"):
        video.read_clip(tmp_path / "a.mp4", StandIn(figure_clip().points))


def test_videos_of_a_folder_are_a_data_set_and_without_an_environment_one_line_says_what_to_do(
    tmp_path, cache, monkeypatch
):
    from spoter.video import reader

    path = tmp_path / "signs" / "HOLA" / "a.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a film")
    monkeypatch.setattr(reader, "find_python", lambda: None)
    with pytest.raises(DataError, match=r"a\.mp4: .*spoter\.video\.install"):
        read_dataset(path.parents[1])
    find = StandIn(figure_clip().points)
    video.read_clip(path, find)  # into the cache
    (clip,) = read_dataset(path.parents[1]).clips
    assert (clip.name, clip.gloss, find.asked) == ("HOLA/a", "HOLA", 1)
