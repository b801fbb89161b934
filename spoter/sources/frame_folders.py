"""Folders that OpenPose and MMPose write, one JSON file per frame, converted to the JSON body of a request.

OpenPose's ``--write_json`` writes ``NAME_000000000012_keypoints.json`` for each frame of a video; MMPose's
``--pred-out-dir`` writes ``NAME12.json`` for each picture, or one file for a whole video. OpenPose must run with
BODY_25 and ``--hand``. Neither writes the size of the picture: a file ``picture.json`` next to the frames may hold it,
``{"width": 1280, "height": 720, "fps": 25}``; each key is optional.
Sources: OpenPose's doc/02_output.md, MMPose's mmpose/apis/inferencers/base_mmpose_inferencer.py.
"""

import codecs
import math
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.files import naming_errors
from spoter.formats.request import FramesPerSecond, Options, Pixels

PICTURE = "picture.json"
OPENPOSE_ENDING = "_keypoints.json"
MAX_FRAMES = 100_000
"""Largest range of frame numbers in a folder; a larger range means a misread name."""

_NUMBER = re.compile(r"^(.*?)(\d+)$", re.DOTALL)


class _Picture(msgspec.Struct, forbid_unknown_fields=True):
    width: Pixels | None = None
    height: Pixels | None = None
    fps: FramesPerSecond | None = None


class _Hands(msgspec.Struct):
    hand_left_keypoints_2d: list[Raw] | None = None
    hand_right_keypoints_2d: list[Raw] | None = None


class _Document(msgspec.Struct):
    people: list[_Hands] | UnsetType | None = UNSET
    instances: Raw | UnsetType = UNSET
    instance_info: Raw | UnsetType = UNSET
    keypoints: Raw | UnsetType = UNSET


_DOCUMENT = msgspec.json.Decoder(list[_Document] | _Document)


def read_picture_options(folder: Path) -> Options:
    """Return the options in a folder's picture.json, if any; raise `SpoterError` if it is unreadable or invalid."""
    return Options(**msgspec.structs.asdict(_read_picture(folder)))


def picture_attributes(folder: Path) -> str:
    """Return a folder's picture.json as ``width=1280,height=720``; raise the errors of `read_picture_options`."""
    values = msgspec.structs.asdict(_read_picture(folder))
    return ",".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


def _read_picture(folder: Path) -> _Picture:
    path = folder / PICTURE
    try:
        return msgspec.json.decode(_read_json(path), type=_Picture)
    except FileNotFoundError:
        return _Picture()
    except OSError as error:
        raise SpoterError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoterError(f'{path}: {error}, expected {{"width": 1280, "height": 720, "fps": 25}}') from error


def read_frame_folder(folder: Path) -> tuple[bytes, list[str]]:
    """Read the frames of one clip, ordered by the last number in their file names.

    A missing number is a frame without a person. If all numbers have a common step, the frames between were never
    analyzed and are not part of the clip.

    Return a body for ``application/json`` (docs/formats.md), and warnings: gaps, steps, ignored files. Raise
    `SpoterError` if the folder is unreadable, holds no frames, or holds frames of several clips. Raise `InputError`:
    ``invalid_json`` and ``unknown_form`` with the file, ``missing_landmarks`` for OpenPose without ``--hand``.
    """
    files, notes = _list_frames(folder)
    picture = _read_picture(folder)
    documents = {file: _read_frame_file(file) for file in files}
    for file, document in documents.items():
        if document.is_whole_video and len(files) > 1:
            raise SpoterError(
                f"{file}: found the results of a whole video among {len(files)} files, expected one frame per "
                "file; pass such files one by one"
            )
        if document.is_whole_video:
            return _to_body(document.frames, picture), notes
    hands = {document.has_hands for document in documents.values()}
    if False in hands and True not in hands:
        raise InputError(
            ErrorCode.MISSING_LANDMARKS,
            "found people but no hands in any frame; run OpenPose with --hand",
            str(folder),
        )
    numbered = _number_files(folder, files)
    first, last = min(numbered), max(numbered)
    step = math.gcd(*(number - first for number in numbered)) or 1
    if step > 1:
        notes.append(f"frame numbers increase by {step}; no frames are added between them")
    wanted = range(first, last + 1, step)
    frames = [documents[numbered[number]].frames if number in numbered else b"null" for number in wanted]
    gaps = [number for number in wanted if number not in numbered]
    if gaps:
        missing = f"{len(gaps)} of {len(frames)} frames have no file, starting with number {gaps[0]}"
        notes.append(f"{missing}; they count as frames without a person")
    return _to_body(b"[" + b",".join(frames) + b"]", picture), notes


def is_mmpose_frame(file: Path) -> bool:
    """Return whether a file holds one picture's instances as MMPose writes them: a frame, not a clip."""
    try:
        document = _DOCUMENT.decode(_read_json(file))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(document, list) and all(item.keypoints is not UNSET for item in document)


def wrap_frame_list(body: bytes) -> bytes:
    """Return a bare list of frames, which MMPose writes for a video, as a JSON object; other bodies unchanged.

    Remove a byte order mark.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    return _to_body(body, _Picture()) if body.lstrip()[:1] == b"[" else body


def _read_json(file: Path) -> bytes:
    return file.read_bytes().removeprefix(codecs.BOM_UTF8)


def _to_body(frames: bytes, picture: _Picture) -> bytes:
    options = {name: value for name, value in msgspec.structs.asdict(picture).items() if value}
    return msgspec.json.encode({"frames": Raw(frames), **options})


def _list_frames(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of frames, sorted by name, and a warning about other files."""
    with naming_errors(folder):
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != PICTURE)
    files = [path for path in entries if path.name.endswith(OPENPOSE_ENDING)]
    files = files or [path for path in entries if path.suffix == ".json"]
    if not files:
        raise SpoterError(
            f"{folder}: found {_first_names(entries) or 'no files'}, expected the frames of one clip from OpenPose "
            f"(*{OPENPOSE_ENDING}) or MMPose (*.json)"
        )
    frames = set(files)
    others = [path for path in entries if path not in frames]
    return files, [f"ignored files that are not frames: {_first_names(others)}"] if others else []


def _first_names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + ", …" * (len(paths) > 3)


@dataclass(frozen=True)
class _FrameFile:
    """A file's frame as JSON, or its list of frames if `is_whole_video`; `has_hands` is None if unknown."""

    frames: bytes
    is_whole_video: bool = False
    has_hands: bool | None = None


def _read_frame_file(file: Path) -> _FrameFile:
    try:
        raw = _read_json(file)
        document = _DOCUMENT.decode(raw)
    except OSError as error:
        raise SpoterError(f"{file}: {error.strerror or error}") from error
    except msgspec.ValidationError as error:
        text = f"{error}, expected a file written by OpenPose or MMPose"
        raise InputError(ErrorCode.UNKNOWN_FORM, text, str(file)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(ErrorCode.INVALID_JSON, f"{error}; the file may be incomplete", str(file)) from error
    if isinstance(document, list):
        if all(item.keypoints is not UNSET for item in document):
            return _FrameFile(b'{"instances":%s}' % raw)
        if all(item.instances is not UNSET for item in document):
            return _FrameFile(raw, is_whole_video=True)
    elif document.instance_info is not UNSET:
        return _FrameFile(bytes(document.instance_info), is_whole_video=True)
    elif document.instances is not UNSET:
        return _FrameFile(raw)
    elif document.people is not UNSET:
        hands = [bool(one.hand_left_keypoints_2d or one.hand_right_keypoints_2d) for one in document.people or ()]
        return _FrameFile(raw, has_hands=any(hands) if hands else None)
    raise InputError(ErrorCode.UNKNOWN_FORM, "expected the key people, instances or instance_info", str(file))


def _number_files(folder: Path, files: list[Path]) -> dict[int, Path]:
    """Return the files by the frame number in their names."""
    numbered: dict[int, Path] = {}
    names: dict[str, Path] = {}
    for file in files:
        stem = file.name.removesuffix(OPENPOSE_ENDING).removesuffix(".json")
        match = _NUMBER.match(stem)
        if match is None:
            raise SpoterError(f"{file}: expected a frame number at the end of {stem!r}")
        names.setdefault(match[1], file)
        numbered[int(match[2])] = file
    if len(names) > 1:
        one, other = [file.name for file in names.values()][:2]
        raise SpoterError(f"{folder}: found frames of several clips ({one}, {other}), expected one folder per clip")
    if len(numbered) < len(files):
        raise SpoterError(f"{folder}: found two files with the same frame number, such as 1 and 01; remove one")
    if max(numbered) - min(numbered) >= MAX_FRAMES:
        numbers = f"{min(numbered)} to {max(numbered)}"
        raise SpoterError(f"{folder}: found frame numbers {numbers}, expected a range of at most {MAX_FRAMES}")
    return numbered
