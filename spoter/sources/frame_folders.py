"""Folders that OpenPose and MMPose write, a JSON file a frame: read as the JSON body that a client would send.

OpenPose's ``--write_json`` leaves ``NAME_000000000012_keypoints.json`` for each frame of a video; MMPose's
``--pred-out-dir`` leaves ``NAME12.json`` for each picture, or one file for a whole video. OpenPose's documents are of
BODY_25 with ``--hand``. Neither writes the size of the picture: a file ``picture.json`` beside the frames may say it,
``{"width": 1280, "height": 720, "fps": 25}``, each optional.
Sources: OpenPose's doc/02_output.md, MMPose's mmpose/apis/inferencers/base_mmpose_inferencer.py.
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats.request import FramesPerSecond, Options, Pixels

PICTURE = "picture.json"
OPENPOSE_ENDING = "_keypoints.json"
MOST_FRAMES = 100_000
"""Between the first and the last number of a folder; more is no clip but a misread name."""

_NUMBER = re.compile(r"^(.*?)(\d+)$", re.DOTALL)


class _Picture(msgspec.Struct, forbid_unknown_fields=True):
    width: Pixels | None = None
    height: Pixels | None = None
    fps: FramesPerSecond | None = None


class _Hands(msgspec.Struct):
    hand_left_keypoints_2d: list | None = None
    hand_right_keypoints_2d: list | None = None


class _Document(msgspec.Struct):
    people: list[_Hands] | UnsetType | None = UNSET
    instances: Raw | UnsetType = UNSET
    instance_info: Raw | UnsetType = UNSET
    keypoints: Raw | UnsetType = UNSET


_DOCUMENT = msgspec.json.Decoder(list[_Document] | _Document)


def picture(folder: Path) -> Options:
    """Return what a folder's picture.json says; nothing where there is none.

    Raises
    ------
    SpoterError
        For a file that cannot be read, and another content.
    """
    path = folder / PICTURE
    try:
        said = msgspec.json.decode(_content(path), type=_Picture)
    except FileNotFoundError:
        return Options()
    except OSError as error:
        raise SpoterError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpoterError(f'{path}: {error}, expected {{"width": 1280, "height": 720, "fps": 25}}') from error
    return Options(width=said.width, height=said.height, fps=said.fps)


def read(folder: Path) -> tuple[bytes, list[str]]:
    """Read the frames of one clip.

    Frames are ordered by the last number of their files' names. A number that is not there is a frame without anybody;
    where all numbers are so many apart, the frames between were never looked at, and are none.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    bytes, list of str
        A body for ``application/json`` (docs/formats.md), and what has to be said about the folder: gaps, steps, files
        that were left out.

    Raises
    ------
    SpoterError
        For a folder that cannot be read, holds no frames, or those of several clips.
    InputError
        ``invalid_json``, ``unknown_form``, naming the file; ``missing_landmarks`` for OpenPose without ``--hand``.
    """
    files, notes = _frame_files(folder)
    said = picture(folder)
    documents = {file: _read_document(file) for file in files}
    whole = next((file for file, document in documents.items() if document.whole), None)
    if whole is not None and len(files) > 1:
        raise SpoterError(
            f"{whole}: found the results of a whole video among {len(files)} files, expected a frame in each; "
            "give such files one by one"
        )
    if whole is not None:
        return _body(documents[whole].frames, said), notes
    hands = {document.hands for document in documents.values()}
    if False in hands and True not in hands:
        raise InputError(
            ErrorCode.MISSING_LANDMARKS,
            "found people of whom no frame has hands, expected what OpenPose writes with --hand",
            str(folder),
        )
    numbered = _numbered(folder, files)
    first, last = min(numbered), max(numbered)
    step = math.gcd(*(number - first for number in numbered)) or 1
    if step > 1:
        notes.append(f"numbers go up by {step}: nothing is put between these frames")
    wanted = range(first, last + 1, step)
    frames = [documents[numbered[number]].frames if number in numbered else b"null" for number in wanted]
    gaps = [number for number in wanted if number not in numbered]
    if gaps:
        notes.append(
            f"{len(gaps)} of {len(frames)} frames have no file, the first is number {gaps[0]}: read as frames without "
            "anybody"
        )
    return _body(b"[" + b",".join(frames) + b"]", said), notes


def is_picture(file: Path) -> bool:
    """Tell whether a file holds a picture's instances as MMPose writes them, a frame of a clip; no clip looks so."""
    try:
        document = _DOCUMENT.decode(_content(file))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(document, list) and all(item.keypoints is not UNSET for item in document)


def wrap(body: bytes) -> bytes:
    """Return a bare list of frames, as MMPose writes it of a video, as a JSON object; anything else as it is.

    A byte order mark is left out.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    return _body(body, Options()) if body.lstrip()[:1] == b"[" else body


def _content(file: Path) -> bytes:
    """Return what is in a file, without a byte order mark."""
    return file.read_bytes().removeprefix(codecs.BOM_UTF8)


def _body(frames: bytes, said: Options) -> bytes:
    options = {"width": said.width, "height": said.height, "fps": said.fps}
    said_too = b"".join(b',"%s":%s' % (key.encode(), repr(value).encode()) for key, value in options.items() if value)
    return b'{"frames":' + frames + said_too + b"}"


def _frame_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of frames, by name, and what was left out beside them."""
    try:
        there = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != PICTURE)
    except OSError as error:
        raise SpoterError(f"{folder}: {error.strerror or error}") from error
    files = [path for path in there if path.name.endswith(OPENPOSE_ENDING)]
    files = files or [path for path in there if path.suffix == ".json"]
    if not files:
        found = ", ".join(path.name for path in there[:3]) + ", …" * (len(there) > 3)
        raise SpoterError(
            f"{folder}: found {found or 'nothing'} in it, expected the frames of one clip as OpenPose "
            f"(*{OPENPOSE_ENDING}) or MMPose (*.json) writes them"
        )
    others = [path.name for path in there if path not in set(files)]
    left_out = f"left out, no frames of the clip: {', '.join(others[:3])}{', …' * (len(others) > 3)}"
    return files, [left_out] if others else []


@dataclass(frozen=True)
class _Read:
    """A file's frame, or with `whole` its list of frames, as JSON; `hands` is None where that cannot be told."""

    frames: bytes
    whole: bool = False
    hands: bool | None = None


def _read_document(file: Path) -> _Read:
    """Read a file: a picture's list of instances becomes ``{"instances": …}``; of a video's results come the frames."""
    try:
        raw = _content(file)
        document = _DOCUMENT.decode(raw)
    except OSError as error:
        raise SpoterError(f"{file}: {error.strerror or error}") from error
    except msgspec.ValidationError as error:
        raise InputError(
            ErrorCode.UNKNOWN_FORM, f"{error}, expected what OpenPose or MMPose writes", str(file)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(ErrorCode.INVALID_JSON, f"{error}; was its writing interrupted?", str(file)) from error
    if isinstance(document, list):
        if all(item.keypoints is not UNSET for item in document):
            return _Read(b'{"instances":%s}' % raw)
        if all(item.instances is not UNSET for item in document):
            return _Read(raw, whole=True)
    elif document.instance_info is not UNSET:
        return _Read(bytes(document.instance_info), whole=True)
    elif document.instances is not UNSET:
        return _Read(raw)
    elif document.people is not UNSET:
        hands = [bool(one.hand_left_keypoints_2d or one.hand_right_keypoints_2d) for one in document.people or ()]
        return _Read(raw, hands=any(hands) if hands else None)
    raise InputError(ErrorCode.UNKNOWN_FORM, "found none of people, instances and instance_info", str(file))


def _numbered(folder: Path, files: list[Path]) -> dict[int, Path]:
    """Return the files by the number in their names."""
    numbered: dict[int, Path] = {}
    names: dict[str, Path] = {}
    for file in files:
        stem = file.name.removesuffix(OPENPOSE_ENDING).removesuffix(".json")
        match = _NUMBER.match(stem)
        if match is None:
            raise SpoterError(f"{file}: found no number at the end of {stem!r}, expected that of its frame")
        names.setdefault(match[1], file)
        number = int(match[2])
        numbered[number] = file
    if len(names) > 1:
        one, other = [file.name for file in names.values()][:2]
        raise SpoterError(f"{folder}: found frames of several clips ({one}, {other}), expected a folder for each clip")
    if len(numbered) < len(files):
        raise SpoterError(f"{folder}: found a frame twice, its number written differently, expected it once")
    if max(numbered) - min(numbered) >= MOST_FRAMES:
        raise SpoterError(
            f"{folder}: found frames numbered {min(numbered)} to {max(numbered)}, expected at most {MOST_FRAMES} in a "
            "clip"
        )
    return numbered
