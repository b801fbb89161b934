"""Landmarks of many videos, in files: what `spoter extract` does."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from spoter.errors import SpoterError
from spoter.files import atomic_write, atomic_write_bytes, exclusive_lock
from spoter.video.manifest import Kept, mark
from spoter.video.reader import ENDINGS, OVERLAY, Extracted, Progress, VideoLimits, is_overlay, read
from spoter.video.writers import WRITERS, Member, check_pose_format, read_marks, read_member, write_hdf5

FORMATS = ("json", "npy", "pose", "hdf5")
OVERLAYS = ("mp4", "gif")
_HDF5 = (".hdf5", ".h5")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FOLDERS = (".csv", ".jsonl", ".npz", ".gif")  # who names one of these means a file


@dataclass(frozen=True)
class Video:
    """A video to be read.

    Attributes
    ----------
    path : Path
    name : str
        Its place among the others, without the ending: ``ana/HOLA/03``.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Done:
    """What became of a video.

    Attributes
    ----------
    video : Video
    output : Path
    frames : int
        0 where nothing was made.
    fps : float or None
    kept : bool
        Whether an earlier run had made it.
    notes : list of str
    error : SpoterError or None
    """

    video: Video
    output: Path
    frames: int = 0
    fps: float | None = None
    kept: bool = False
    notes: list[str] = field(default_factory=list)
    error: SpoterError | None = None


@dataclass(frozen=True)
class Settings:
    """How videos are extracted.

    Attributes
    ----------
    jobs : int
        Processes at the same time.
    overlay : str or None
        One of `OVERLAYS`.
    limits : VideoLimits
    watch : callable
        Returns for a video what its `Progress` is told.
    """

    jobs: int = 1
    overlay: str | None = None
    limits: VideoLimits = VideoLimits()
    watch: Callable[[Video], Progress | None] = lambda video: None


def find_videos(places: Sequence[str]) -> list[Video]:
    """Find the videos that files, folders and globs name.

    Names go on from the folder given, and for files from the deepest folder that all of them have in common. Overlays
    that an earlier run drew are left out.

    Raises
    ------
    SpoterError
        Where a place holds no video, two videos have one name, or all are overlays.
    """
    videos, files = [], []
    for place in places:
        path = Path(place)
        if path.is_dir():
            found = [file for name in _walk(path) if not is_overlay(file := path / name)]
            videos += [Video(file, file.relative_to(path).with_suffix("").as_posix()) for file in found]
        else:
            found = [path] if path.exists() else sorted(map(Path, glob.glob(place, recursive=True)))
            found = [file for file in found if file == path or file.suffix.lower() in ENDINGS]
            files += found
        if not found:
            raise SpoterError(f"{place}: found no video there, expected files ending in {', '.join(ENDINGS)}")
    files = [file for file in files if not is_overlay(file)]
    if files:
        base = Path(os.path.commonpath([file.absolute().parent for file in files]))
        videos += [Video(file, file.absolute().relative_to(base).with_suffix("").as_posix()) for file in files]
    first: dict[str, Video] = {}
    for video in videos:
        other = first.setdefault(video.name, video)
        if other.path.absolute() != video.path.absolute():
            raise SpoterError(f"{other.path} and {video.path} would both be written to {video.name!r}: rename one")
    if not first:
        raise SpoterError(f"{', '.join(places)}: found only overlays that spoter drew, expected the videos themselves")
    return sorted(first.values(), key=lambda video: video.name)


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in ENDINGS and not name.startswith("."):
                yield os.path.relpath(os.path.join(place, name), folder)


def extract(videos: Sequence[Video], out: Path, kind: str | None, settings: Settings) -> Iterator[Done]:
    """Extract videos into a folder, a file, or one HDF5 file; what an earlier run finished is not made again.

    Parameters
    ----------
    videos : sequence of Video
    out : Path
        A folder, unless it ends like a file of one of `FORMATS`.
    kind : str, optional
        One of `FORMATS`; that of `out`'s ending unless given, and json for a folder.
    settings : Settings

    Yields
    ------
    Done
        Each video as it is done, also one that cannot be read.

    Raises
    ------
    SpoterError
        Where `out` and `kind` do not fit each other or the videos, before any work.
    """
    ending = out.suffix.lower()
    told = "hdf5" if ending in _HDF5 else ending[1:] if ending in WRITERS else None
    if told and kind and told != kind:
        raise SpoterError(f"{out}: found the format {kind}, but the ending of {told}")
    kind = kind or told or "json"
    if kind == "pose":
        check_pose_format()
    if kind == "hdf5":
        if told is None:
            raise SpoterError(f"{out}: found {ending or 'no ending'}, expected one file ending in .hdf5 for hdf5")
        return _into_hdf5(videos, out, settings)
    if told is None:
        if ending in (*ENDINGS, *_NO_FOLDERS) or out.is_file():
            raise SpoterError(f"{out}: expected a folder, or a file ending in {', '.join((*WRITERS, *_HDF5))}")
        works = [(video, out / f"{video.name}.{kind}", out / video.name) for video in videos]
        return _run(works, out, _write_file, settings)
    if len(videos) != 1:
        raise SpoterError(f"{out}: found {len(videos)} videos for one {ending} file, expected a folder, or .hdf5")
    return _run([(videos[0], out, out.with_suffix(""))], out.parent, _write_file, settings)


_Work = tuple[Video, Path, Path]  # with its output, and the path of its overlay up to OVERLAY
_Write = Callable[[Video, Path, Extracted, str], None]


def _write_file(video: Video, output: Path, extracted: Extracted, made_of: str) -> None:
    atomic_write_bytes(output, WRITERS[output.suffix.lower()](extracted))


def _run(works: Sequence[_Work], folder: Path, write: _Write, settings: Settings) -> Iterator[Done]:
    """Extract videos into files below `folder`, where the list of what is finished lies."""
    folder.mkdir(parents=True, exist_ok=True)
    kept, stop = Kept(folder), threading.Event()

    def work(video: Video, output: Path, overlay: Path) -> Done:
        drawn = _drawn(overlay, settings) if settings.overlay else None
        try:
            made_of = mark(video.path)
            if kept.has(output, made_of) and (drawn is None or kept.has(drawn, made_of)):
                return Done(video, output, kept=True)
            for path in filter(None, (output, drawn)):
                _check_place(path)
            extracted = read(video.path, settings.limits, settings.watch(video), overlay=drawn, stop=stop)
            write(video, output, extracted, made_of)
            for path in filter(None, (output, drawn)):
                kept.add(path, made_of)
        except SpoterError as error:
            return Done(video, output, error=error)
        except OSError as error:
            place, why = error.filename or str(output), error.strerror or str(error)
            if error.errno in _FULL:  # so will it be for the others
                raise OSError(error.errno, why, place) from error
            return Done(video, output, error=SpoterError(f"{place}: {why}"))
        return Done(video, output, len(extracted.clip), extracted.fps, False, extracted.notes)

    pool = ThreadPoolExecutor(settings.jobs)  # each thread minds one child
    try:
        futures = [pool.submit(work, *pair) for pair in works]
        for future in as_completed(futures):
            yield future.result()
    finally:  # also on Ctrl-C, and where whoever asked looks no further
        stop.set()
        pool.shutdown(cancel_futures=True)


def _check_place(path: Path) -> None:
    """Raise OSError where `path` cannot be written: before the work, not after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):  # this also refuses a name that is too long
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    tempfile.TemporaryFile(dir=path.parent).close()


def _drawn(overlay: Path, settings: Settings) -> Path:
    return overlay.with_name(f"{overlay.name}{OVERLAY}.{settings.overlay}")


def _into_hdf5(videos: Sequence[Video], out: Path, settings: Settings) -> Iterator[Done]:
    """Extract videos into a hidden folder of one-clip files, and put those together at the end."""
    names = {video: _labelled_name(video) for video in videos}
    there = read_marks(out) if out.exists() else {}
    foreign = sorted(set(there) - set(names.values()))
    if foreign:
        raise SpoterError(
            f"{out}: holds clips that are not among these videos ({foreign[0]}), expected a file of the same ones; "
            "name all videos, or another file"
        )
    parts = out.with_name(f".{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)

    def write(video: Video, output: Path, extracted: Extracted, made_of: str) -> None:
        with atomic_write(output) as temporary:
            gloss = video.path.absolute().parent.name
            write_hdf5(temporary, [Member(names[video], gloss, extracted.clip, made_of)])

    with exclusive_lock(parts):
        taken = {video for video in videos if _is_there(video, names[video], there, out, settings)}
        for video in filter(taken.__contains__, videos):
            yield Done(video, out, kept=True)
        overlays = out.with_suffix("")
        works = [(video, _part(parts, video), overlays / video.name) for video in videos if video not in taken]
        made = set()
        for done in _run(works, parts, write, settings):
            if done.error is None:
                made.add(done.video)
            yield replace(done, output=out)
        if made:
            members = (
                read_member(out, there[names[video]][0]) if video in taken else read_member(_part(parts, video), "0")
                for video in videos
                if video in taken | made
            )
            with atomic_write(out) as temporary:
                write_hdf5(temporary, members)
        shutil.rmtree(parts, ignore_errors=True)


def _part(parts: Path, video: Video) -> Path:
    """Return the file of one clip; its name is of a fixed length, whatever the video's is."""
    return parts / f"{hashlib.sha256(video.name.encode()).hexdigest()}.hdf5"


def _labelled_name(video: Video) -> str:
    """Return a clip's video_name: its first part is its group, or else its gloss, which tells none."""
    try:
        str(video.path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise SpoterError(f"{video.path}: found a name that is no UTF-8, which HDF5 wants; rename it") from error
    return video.name if "/" in video.name else f"{video.path.absolute().parent.name}/{video.name}"


def _is_there(video: Video, name: str, there: dict[str, tuple[str, str]], out: Path, settings: Settings) -> bool:
    """Tell whether an earlier run's file holds a video, and what was drawn of it, where that is wanted, lies there."""
    if name not in there:
        return False
    drawn = _drawn(out.with_suffix("") / video.name, settings)
    try:
        return there[name][1] == mark(video.path) and (settings.overlay is None or drawn.is_file())
    except (SpoterError, OSError):  # cannot be read: _run will say so
        return False
