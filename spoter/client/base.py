"""What both clients do, step by step; each sends the requests of a step in its own way."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from spoter.client import encoding
from spoter.client.encoding import CheckedOptions, ClipLike, ClipOptions, ClipsLike
from spoter.client.results import Description, Enrolment, parse_result, parse_results
from spoter.client.retry import Retry
from spoter.client.transport import httpx_options, prediction_url
from spoter.errors import InputError
from spoter.formats.request import JSON
from spoter.formats.response import Prediction
from spoter.landmarks.layouts import Layout, load_layout
from spoter.messages import RawRequest, Response

_T = TypeVar("_T")
Steps = Generator[Iterable[RawRequest], Sequence[Response], _T]
"""Yields requests that do not depend on one another, receives their responses in order, and returns the result."""


class BaseClient(ABC):
    """The state of a client and the steps of its methods; `Client` documents the parameters."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        model: str = "spoter",
        *,
        token: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        retry: Retry = Retry(),  # noqa: B008  frozen
        layout: str | int | None = None,
        max_clips: int | None = None,
        max_bytes: int | None = None,
    ):
        if any(most is not None and most < 1 for most in (max_clips, max_bytes)):
            raise ValueError(f"found max_clips {max_clips} and max_bytes {max_bytes}, expected at least 1")
        self.url = prediction_url(url, model)
        self._retry_options = retry.tenacity_options(token_is_renewed=isinstance(token, os.PathLike))
        self._max_clips, self._max_bytes = max_clips, max_bytes
        self._layout: Layout | None = None if layout is None else load_layout(str(layout))
        self._description: Description | None = None
        self._open(httpx_options(token, headers, timeout))

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> None:
        """Make httpx's client."""

    def _predict(self, clip: ClipLike, about: ClipOptions) -> Steps[Prediction]:
        options = CheckedOptions(**about)
        if isinstance(clip, Mapping):  # needs no layout
            document = options.merge_into(clip)
        else:
            document = encoding.to_document(clip, options, (yield from self._get_layout(options)))
        response = yield from _send(encoding.encode_one(document, options))
        return parse_result(response, Prediction)

    def _predict_many(self, clips: ClipsLike, about: ClipOptions) -> Steps[list[Prediction | InputError]]:
        options = CheckedOptions(**about)
        limits = (yield from self._get_description()).limits
        layout = yield from self._get_layout(options)
        max_clips, max_bytes = self._max_clips or limits.max_clips, self._max_bytes or limits.max_bytes
        results: dict[int, Prediction | InputError] = {}
        errors: dict[int, InputError] = {}
        numbers: list[tuple[int, ...]] = []

        def requests() -> Iterator[RawRequest]:
            for batch in encoding.encode_batches(clips, options, layout, max_clips, max_bytes, errors):
                numbers.append(batch.numbers)
                yield batch.request

        for response, batch_numbers in zip((yield requests()), numbers, strict=True):
            results |= zip(batch_numbers, parse_results(response, batch_numbers), strict=True)
        results |= errors
        return [results[number] for number in sorted(results)]

    def _enroll(self, gloss: str, clips: ClipsLike, about: ClipOptions) -> Steps[Enrolment]:
        options = CheckedOptions(**about)
        layout = yield from self._get_layout(options)
        response = yield from _send(encoding.encode_enrolment(gloss, clips, options, layout))
        return parse_result(response, Enrolment)

    def _describe(self) -> Steps[Description]:
        response = yield from _send(RawRequest(b'{"describe":true}', JSON))
        self._description = parse_result(response, Description)
        return self._description

    def _get_description(self) -> Steps[Description]:
        return self._description or (yield from self._describe())

    def _get_layout(self, options: CheckedOptions) -> Steps[Layout]:
        """Return the layout that clips are sent in: that of the call, or the model's."""
        if options.layout is not None:
            return load_layout(str(options.layout))
        if self._layout is None:
            self._layout = (yield from self._get_description()).layout.to_layout()
        return self._layout


def _send(request: RawRequest) -> Steps[Response]:
    (response,) = yield [request]
    return response
