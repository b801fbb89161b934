"""Landmarks of many videos, in files: `spoter extract`."""

import errno
import glob
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from spoter.errors import SpoterError
from spoter.files import atomic_write, atomic_write_bytes, exclusive_lock
from spoter.video.child import Progress
from spoter.video.manifest import Manifest, fingerprint
from spoter.video.reader import (
    DEFAULT_LIMITS,
    OVERLAY_INFIX,
    VIDEO_SUFFIXES,
    VideoLandmarks,
    VideoLimits,
    is_overlay,
    read,
)
from spoter.video.writers import WRITERS, check_dependencies

_HDF5_SUFFIXES = (".hdf5", ".h5")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER_FILES = (".csv", ".jsonl", ".npz", ".gif")  # a path with such a suffix means a file, not a folder


@dataclass(frozen=True)
class VideoFile:
    """A video, and its path below the folder that was named, without the suffix: ``ana/HOLA/03``."""

    path: Path
    name: str


@dataclass(frozen=True)
class ExtractionResult:
    """The result for a video."""

    video: VideoFile
    output: Path
    frames: int = 0
    fps: float | None = None
    reused: bool = False  # from an earlier run
    notes: list[str] = field(default_factory=list)
    error: SpoterError | None = None


@dataclass(frozen=True)
class ExtractionSettings:
    """How videos are extracted."""

    jobs: int = 1  # videos that are read at the same time
    overlay: str | None = None  # "mp4" or "gif": draw one for each video
    limits: VideoLimits = DEFAULT_LIMITS
    watch: Callable[[VideoFile], Progress | None] = lambda video: None  # returns the progress callback of a video


def find_videos(places: Sequence[str]) -> list[VideoFile]:
    """Find the videos that files, folders and globs name.

    Names are relative to the given folder, and for files to the deepest folder that they have in common. Overlays that
    an earlier run drew are left out. Raise `SpoterError` if a place holds no video, two videos have one name, or all
    are overlays.
    """
    videos: list[VideoFile] = []
    files: list[Path] = []
    for place in places:
        path = Path(place)
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and not file.is_dir()]
            hidden = [file for file in inside if any(part[0] == "." for part in file.relative_to(path).parts)]
            paths = [file for file in inside if file not in hidden and not is_overlay(file)]
            videos += [VideoFile(file, _name_below(path, file)) for file in paths]
        else:
            paths = [path] if path.exists() else sorted(map(Path, glob.glob(place, recursive=True)))
            paths = [file for file in paths if file == path or file.suffix.lower() in VIDEO_SUFFIXES]
            files += paths
        if not paths:
            raise SpoterError(f"{place}: found no video there, expected files ending in {', '.join(VIDEO_SUFFIXES)}")
    files = [file for file in files if not is_overlay(file)]
    if files:
        base = Path(os.path.commonpath([file.absolute().parent for file in files]))
        videos += [VideoFile(file, _name_below(base, file.absolute())) for file in files]
    first: dict[str, VideoFile] = {}
    for video in videos:
        other = first.setdefault(video.name, video)
        if other.path.absolute() != video.path.absolute():
            raise SpoterError(f"{other.path} and {video.path} would both be written to {video.name!r}: rename one")
    if not first:
        raise SpoterError(f"{', '.join(places)}: found only overlays that spoter drew, expected the videos themselves")
    return sorted(first.values(), key=lambda video: video.name)


def _name_below(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def extract_videos(
    videos: Sequence[VideoFile], out: Path, file_format: str | None, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into a folder, a file, or one HDF5 file; outputs that an earlier run finished are reused.

    Yield a result as each video is finished, also for one that cannot be read. `out` is a folder, unless it has the
    suffix of a format; `file_format` is ``json``, ``npy``, ``pose`` or ``hdf5``, by default that of the suffix, and
    json for a folder. Raise `SpoterError` if the two do not fit each other or the videos, before any work.
    """
    suffix = out.suffix.lower()
    suffix_format = "hdf5" if suffix in _HDF5_SUFFIXES else suffix[1:] if suffix in WRITERS else None
    if suffix_format and file_format and suffix_format != file_format:
        raise SpoterError(f"{out}: found the format {file_format}, but the ending of {suffix_format}")
    file_format = file_format or suffix_format or "json"
    check_dependencies(file_format)
    if file_format == "hdf5":
        if suffix_format is None:
            raise SpoterError(f"{out}: found {suffix or 'no ending'}, expected one file ending in .hdf5 for hdf5")
        return _extract_to_hdf5(videos, out, settings)
    if suffix_format is not None:
        if len(videos) != 1:
            raise SpoterError(f"{out}: found {len(videos)} videos for one {suffix} file, expected a folder, or .hdf5")
        return _extract_files([_Job(videos[0], out, out.with_suffix(""))], out.parent, _write_file, settings)
    if suffix in (*VIDEO_SUFFIXES, *_OTHER_FILES) or out.is_file():
        raise SpoterError(f"{out}: expected a folder, or a file ending in {', '.join((*WRITERS, *_HDF5_SUFFIXES))}")
    jobs = [_Job(video, out / f"{video.name}.{file_format}", out / video.name) for video in videos]
    return _extract_files(jobs, out, _write_file, settings)


@dataclass(frozen=True)
class _Job:
    """A video to extract into `output`; the path of its overlay begins with `overlay_stem`."""

    video: VideoFile
    output: Path
    overlay_stem: Path

    def overlay(self, settings: ExtractionSettings) -> Path | None:
        if settings.overlay is None:
            return None
        return self.overlay_stem.with_name(f"{self.overlay_stem.name}{OVERLAY_INFIX}.{settings.overlay}")


_Write = Callable[[_Job, VideoLandmarks, str], None]
"""Writes landmarks to the output of a job, given the fingerprint of its video."""


def _write_file(job: _Job, landmarks: VideoLandmarks, video_fingerprint: str) -> None:
    atomic_write_bytes(job.output, WRITERS[job.output.suffix.lower()](landmarks))


def _extract_files(
    jobs: Sequence[_Job], folder: Path, write: _Write, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into files below `folder`, which has the manifest of the finished ones."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest, stop = Manifest(folder), threading.Event()

    def run(job: _Job) -> ExtractionResult:
        video, output, overlay = job.video, job.output, job.overlay(settings)
        paths = [output] if overlay is None else [output, overlay]
        try:
            video_fingerprint = fingerprint(video.path)
            if all(manifest.is_current(path, video_fingerprint) for path in paths):
                return ExtractionResult(video, output, reused=True)
            for path in paths:
                _check_writable(path)
            landmarks = read(video.path, settings.limits, settings.watch(video), overlay=overlay, stop=stop)
            write(job, landmarks, video_fingerprint)
            for path in paths:
                manifest.add(path, video_fingerprint)
        except SpoterError as error:
            return ExtractionResult(video, output, error=error)
        except OSError as error:
            place, reason = error.filename or str(output), error.strerror or str(error)
            if error.errno in _DISK_FULL:  # so the other videos would fail, too
                raise OSError(error.errno, reason, place) from error
            return ExtractionResult(video, output, error=SpoterError(f"{place}: {reason}"))
        return ExtractionResult(video, output, len(landmarks.clip), landmarks.fps, False, landmarks.notes)

    pool = ThreadPoolExecutor(settings.jobs)  # each thread waits for one child process
    try:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            yield future.result()
    finally:  # also on Ctrl-C, and when the caller stops early
        stop.set()
        pool.shutdown(cancel_futures=True)


def _check_writable(path: Path) -> None:
    """Raise OSError if `path` cannot be written: before the work, not after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):  # this also refuses a name that is too long
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    tempfile.TemporaryFile(dir=path.parent).close()


def _extract_to_hdf5(
    videos: Sequence[VideoFile], out: Path, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into a hidden folder of one-clip files, and merge those at the end."""
    from spoter.video.hdf5_files import Member, read_fingerprints, read_member, write_hdf5  # h5py is in an extra

    names = {video: _clip_name(video) for video in videos}
    existing = read_fingerprints(out) if out.exists() else {}
    foreign = sorted(set(existing) - set(names.values()))
    if foreign:
        raise SpoterError(
            f"{out}: holds clips that are not among these videos ({foreign[0]}), expected a file of the same ones; "
            "name all videos, or another file"
        )
    parts = out.with_name(f".{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    # The name of a part has a fixed length, however long the video's is.
    jobs = [
        _Job(video, parts / f"{hashlib.sha256(video.name.encode()).hexdigest()}.hdf5", out.with_suffix("") / video.name)
        for video in videos
    ]

    def write(job: _Job, landmarks: VideoLandmarks, video_fingerprint: str) -> None:
        with atomic_write(job.output) as temporary:
            gloss = job.video.path.absolute().parent.name
            write_hdf5(temporary, [Member(names[job.video], gloss, landmarks.clip, video_fingerprint)])

    def is_current(job: _Job) -> bool:
        """Tell whether an earlier run's file has the video, and its overlay exists if one is wanted."""
        _, stored = existing.get(names[job.video], ("", None))
        overlay = job.overlay(settings)
        try:
            is_same_video = stored is not None and stored == fingerprint(job.video.path)
            return is_same_video and (overlay is None or overlay.is_file())
        except (SpoterError, OSError):  # it cannot be read: _extract_files reports that
            return False

    with exclusive_lock(parts):
        current = {job.video for job in jobs if is_current(job)}
        for video in filter(current.__contains__, videos):
            yield ExtractionResult(video, out, reused=True)
        made = set()
        for result in _extract_files([job for job in jobs if job.video not in current], parts, write, settings):
            if result.error is None:
                made.add(result.video)
            yield replace(result, output=out)
        if made:
            members = (
                read_member(job.output, "0") if job.video in made else read_member(out, existing[names[job.video]][0])
                for job in jobs
                if job.video in current | made
            )
            with atomic_write(out) as temporary:
                write_hdf5(temporary, members)
        shutil.rmtree(parts, ignore_errors=True)


def _clip_name(video: VideoFile) -> str:
    """Return a clip's video_name: its first part is its group, or its gloss if there is no group."""
    try:
        str(video.path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise SpoterError(f"{video.path}: found a name that is no UTF-8, which HDF5 wants; rename it") from error
    return video.name if "/" in video.name else f"{video.path.absolute().parent.name}/{video.name}"
