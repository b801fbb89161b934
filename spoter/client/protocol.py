"""What both clients do, step by step; sending the requests in between is the clients' own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np

from spoter.client import encoding, results, transport
from spoter.client.encoding import Said, Signs
from spoter.client.results import Description, Enrolment, Prediction
from spoter.client.transport import Retry
from spoter.errors import InputError
from spoter.formats.request import JSON
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout, load_layout
from spoter.messages import RawRequest, Response

OneClip = np.ndarray | Sequence | Clip | Mapping[str, Any] | str | os.PathLike
"""Points (T, K, 2), NaN = missing; a `Clip`; what a request's JSON holds; or the path of a file with one clip."""

_T = TypeVar("_T")
Steps = Generator[Iterable[RawRequest], Sequence[Response], _T]
"""Hands out requests that do not depend on one another, is sent their answers in order, returns what they come to."""


class About(TypedDict, total=False):
    """What may be said about a clip, or about all clips of a call.

    Attributes
    ----------
    top_k : int
        Glosses wanted in an answer; 5 unless said.
    layout : str or int
        The layout that arrays are in, and that clips and files are sent in. Unless said, an array's number of points
        tells whose they are, as docs/formats.md has it.
    estimator : str
        Whose landmarks they are: mediapipe, openpose or wholepose.
    fps : float
        Frames per second.
    width, height : float
        Size of the picture, where points are in pixels.
    """

    top_k: int
    layout: str | int
    estimator: str
    fps: float
    width: float
    height: float


class Asking(ABC):
    """What is known of a server, and how to ask it; the parameters are those of `Client`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        model: str = "spoter",
        *,
        token: str | os.PathLike | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        retry: Retry = Retry(),  # noqa: B008  frozen
        layout: str | int | None = None,
        max_clips: int | None = None,
        max_bytes: int | None = None,
    ):
        if any(most is not None and most < 1 for most in (max_clips, max_bytes)):
            raise ValueError(f"found max_clips {max_clips} and max_bytes {max_bytes}, expected at least 1")
        self.url = transport.address(url, model)
        self._policy = retry.policy(renewed=isinstance(token, os.PathLike))
        self._max_clips, self._max_bytes = max_clips, max_bytes
        self._table: Layout | None = None if layout is None else load_layout(str(layout))
        self._description: Description | None = None
        self._open(transport.settings(token, headers, timeout))

    @abstractmethod
    def _open(self, settings: dict) -> None:
        """Make httpx's client, of one kind or the other."""

    def _predict(self, clip: OneClip, enrolled: Signs | None, about: About) -> Steps[Prediction]:
        said = Said(**about)
        if said.needs_table(clip):
            yield from self._know()
        response = yield from _ask(encoding.one(clip, said, self._table, enrolled))
        return results.read(response, Prediction)

    def _predict_many(
        self, clips: Iterable[OneClip] | str | os.PathLike, enrolled: Signs | None, about: About
    ) -> Steps[list[Prediction | InputError]]:
        yield from self._know(limits=True)
        limits = self._description.limits
        most = (self._max_clips or limits.max_clips, self._max_bytes or limits.max_bytes)
        found: dict[int, Prediction | InputError] = {}
        numbers: list[tuple[int, ...]] = []

        def calls() -> Iterator[RawRequest]:
            for batch in encoding.batches(clips, Said(**about), self._table, enrolled, *most, found):
                numbers.append(batch.numbers)
                yield batch.call

        for response, mine in zip((yield calls()), numbers, strict=True):
            found |= zip(mine, results.read_several(response, mine), strict=True)
        return [found[number] for number in sorted(found)]

    def _enroll(
        self, gloss: str, clips: Iterable[OneClip] | str | os.PathLike, enrolled: Signs | None, about: About
    ) -> Steps[Enrolment]:
        yield from self._know()
        response = yield from _ask(encoding.enrolling(gloss, clips, Said(**about), self._table, enrolled))
        return results.read(response, Enrolment)

    def _describe(self) -> Steps[Description]:
        response = yield from _ask(RawRequest(b'{"describe":true}', JSON))
        self._description = results.read(response, Description)
        return self._description

    def _know(self, limits: bool = False) -> Steps[None]:
        """Have the model's layout at hand, and its limits."""
        if self._description is None and (limits or self._table is None):
            yield from self._describe()
        self._table = self._table or self._description.table()


def _ask(call: RawRequest) -> Steps[Response]:
    (response,) = yield [call]
    return response
