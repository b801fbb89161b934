"""Extraction of landmarks from many videos into files: `spoter extract`."""

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
    """A video, with its path below the given folder, without suffix: ``ana/HOLA/03``."""

    path: Path
    name: str


@dataclass(frozen=True)
class ExtractionResult:
    """The outcome for one video."""

    video: VideoFile
    output: Path
    frames: int = 0
    fps: float | None = None
    reused: bool = False  # True if an earlier run wrote the output
    notes: list[str] = field(default_factory=list)
    error: SpoterError | None = None


@dataclass(frozen=True)
class ExtractionSettings:
    """Settings of an extraction."""

    jobs: int = 1  # number of videos read in parallel
    overlay: str | None = None  # "mp4" or "gif": also write each video with the skeleton drawn over it
    limits: VideoLimits = DEFAULT_LIMITS
    watch: Callable[[VideoFile], Progress | None] = lambda video: None  # returns a video's progress callback


def find_videos(places: Sequence[str]) -> list[VideoFile]:
    """Return the videos that files, folders and globs name.

    Names are relative to the given folder; names of files are relative to their deepest common folder. Overlays that an
    earlier run drew are skipped. Raise `SpoterError` if a place holds no video, two videos have the same name, or all
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
            raise SpoterError(f"{place}: found no video, expected files ending in {', '.join(VIDEO_SUFFIXES)}")
    files = [file for file in files if not is_overlay(file)]
    if files:
        base = Path(os.path.commonpath([file.absolute().parent for file in files]))
        videos += [VideoFile(file, _name_below(base, file.absolute())) for file in files]
    by_name: dict[str, VideoFile] = {}
    for video in videos:
        other = by_name.setdefault(video.name, video)
        if other.path.absolute() != video.path.absolute():
            raise SpoterError(f"{other.path} and {video.path} would both be written to {video.name!r}: rename one")
    if not by_name:
        raise SpoterError(f"{', '.join(places)}: found only overlays drawn by spoter, expected the original videos")
    return sorted(by_name.values(), key=lambda video: video.name)


def _name_below(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def extract_videos(
    videos: Sequence[VideoFile], out: Path, file_format: str | None, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into a folder, a file, or one HDF5 file; reuse outputs that an earlier run finished.

    Yield one result per video as it finishes, including videos that cannot be read. `out` is a folder unless it has the
    suffix of a format. `file_format` is ``json``, ``npy``, ``pose`` or ``hdf5``; the default is the format of the
    suffix, or json for a folder. Raise `SpoterError` before any work if `out`, format and videos do not fit together.
    """
    suffix = out.suffix.lower()
    suffix_format = "hdf5" if suffix in _HDF5_SUFFIXES else suffix[1:] if suffix in WRITERS else None
    if suffix_format and file_format and suffix_format != file_format:
        raise SpoterError(f"{out}: the extension {suffix} does not match the format {file_format}; change one")
    file_format = file_format or suffix_format or "json"
    check_dependencies(file_format)
    if file_format == "hdf5":
        if suffix_format is None:
            raise SpoterError(f"{out}: found {suffix or 'no extension'}, expected a file ending in .hdf5")
        return _extract_to_hdf5(videos, out, settings)
    if suffix_format is not None:
        if len(videos) != 1:
            raise SpoterError(f"{out}: found {len(videos)} videos for one {suffix} file, expected a folder or .hdf5")
        return _extract_files([_Job(videos[0], out, out.with_suffix(""))], out.parent, _write_file, settings)
    if suffix in (*VIDEO_SUFFIXES, *_OTHER_FILES) or out.is_file():
        raise SpoterError(f"{out}: expected a folder or a file ending in {', '.join((*WRITERS, *_HDF5_SUFFIXES))}")
    jobs = [_Job(video, out / f"{video.name}.{file_format}", out / video.name) for video in videos]
    return _extract_files(jobs, out, _write_file, settings)


@dataclass(frozen=True)
class _Job:
    """A video to extract into `output`; its overlay's path starts with `overlay_stem`."""

    video: VideoFile
    output: Path
    overlay_stem: Path

    def overlay(self, settings: ExtractionSettings) -> Path | None:
        if settings.overlay is None:
            return None
        return self.overlay_stem.with_name(f"{self.overlay_stem.name}{OVERLAY_INFIX}.{settings.overlay}")


_Write = Callable[[_Job, VideoLandmarks, str], None]
"""Writes landmarks to a job's output; the string is the fingerprint of the job's video."""


def _write_file(job: _Job, landmarks: VideoLandmarks, video_fingerprint: str) -> None:
    atomic_write_bytes(job.output, WRITERS[job.output.suffix.lower()](landmarks))


def _extract_files(
    jobs: Sequence[_Job], folder: Path, write: _Write, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into files below `folder`, which also holds the manifest."""
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
            if error.errno in _DISK_FULL:  # the other videos would fail as well
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
    """Raise OSError if `path` cannot be written; called before the slow work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):  # stat raises for a name that is too long
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    tempfile.TemporaryFile(dir=path.parent).close()


def _extract_to_hdf5(
    videos: Sequence[VideoFile], out: Path, settings: ExtractionSettings
) -> Generator[ExtractionResult]:
    """Extract videos into one file each in a hidden folder, and merge these files at the end."""
    from spoter.video.hdf5_files import Member, read_fingerprints, read_member, write_hdf5  # h5py is in an extra

    names = {video: _clip_name(video) for video in videos}
    existing = read_fingerprints(out) if out.exists() else {}
    unrelated = sorted(set(existing) - set(names.values()))
    if unrelated:
        raise SpoterError(f"{out}: holds clips of other videos ({unrelated[0]}); give those, too, or use another file")
    parts = out.with_name(f".{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    # The name of a part is a hash: a long name of a video must not make it too long.
    jobs = [
        _Job(video, parts / f"{hashlib.sha256(video.name.encode()).hexdigest()}.hdf5", out.with_suffix("") / video.name)
        for video in videos
    ]

    def write(job: _Job, landmarks: VideoLandmarks, video_fingerprint: str) -> None:
        with atomic_write(job.output) as temporary:
            gloss = job.video.path.absolute().parent.name
            write_hdf5(temporary, [Member(names[job.video], gloss, landmarks.clip, video_fingerprint)])

    def is_current(job: _Job) -> bool:
        """Return whether an earlier run stored the video and, if requested, its overlay."""
        _, stored = existing.get(names[job.video], ("", None))
        overlay = job.overlay(settings)
        try:
            is_same_video = stored is not None and stored == fingerprint(job.video.path)
            return is_same_video and (overlay is None or overlay.is_file())
        except (SpoterError, OSError):  # the video cannot be read; _extract_files reports that
            return False

    with exclusive_lock(parts):
        current = {job.video for job in jobs if is_current(job)}
        for video in filter(current.__contains__, videos):
            yield ExtractionResult(video, out, reused=True)
        added = set()
        for result in _extract_files([job for job in jobs if job.video not in current], parts, write, settings):
            if result.error is None:
                added.add(result.video)
            yield replace(result, output=out)
        if added:
            members = (
                read_member(job.output, "0") if job.video in added else read_member(out, existing[names[job.video]][0])
                for job in jobs
                if job.video in current | added
            )
            with atomic_write(out) as temporary:
                write_hdf5(temporary, members)
        shutil.rmtree(parts, ignore_errors=True)


def _clip_name(video: VideoFile) -> str:
    """Return a clip's video_name; its first part is the clip's group, or its gloss if there is no group."""
    try:
        str(video.path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise SpoterError(f"{video.path}: the name is not UTF-8, which HDF5 requires; rename the file") from error
    return video.name if "/" in video.name else f"{video.path.absolute().parent.name}/{video.name}"
