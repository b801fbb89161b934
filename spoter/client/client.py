"""`Client` and `AsyncClient`: the same steps, sent in two ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import TypeVar, Unpack

import httpx
import tenacity

from spoter.client import transport
from spoter.client.encoding import Signs
from spoter.client.protocol import About, Asking, OneClip, Steps
from spoter.client.results import Description, Enrolment, Prediction
from spoter.errors import InputError
from spoter.messages import RawRequest, Response

_T = TypeVar("_T")


class Client(Asking):
    """A server, to be asked what clips show. Threads may share a client; use it in a ``with``, or `close` it.

    Parameters
    ----------
    url : str
        TorchServe's root, such as ``http://127.0.0.1:8080``; or, with a path, the whole address that predictions are
        asked for at, such as API Gateway's ``https://….amazonaws.com/invocations``.
    model : str
        The model's name in TorchServe. Not used where `url` has a path.
    token : str or path, optional
        Sent as ``Authorization: Bearer``. A `pathlib.Path` is a file that holds it and is read for each request: a
        token that ``spoter token`` renews. One that is refused meanwhile is asked for again, as `retry` has it.
    headers : mapping, optional
        Sent with each request, such as an API key of a gateway.
    timeout : float
        Seconds to wait for an answer.
    retry : Retry
        How often to ask again after a 503 or a broken connection; and once where none came in time.
    layout : str or int, optional
        The model's layout, where it is known: otherwise the client asks for it once.
    max_clips, max_bytes : int, optional
        The most clips and bytes of one request; the model's limits unless said. What lies between may take less: API
        Gateway 10 MB, a Lambda function 6 MB.

    Attributes
    ----------
    url : str
        Where requests go.

    Raises
    ------
    SpoterError
        For a `url` that is none.
    ModelFolderError
        For an unknown `layout`.

    Notes
    -----
    All methods raise `NoAnswerError` where nobody answers, `UnavailableError` where all attempts met a 503,
    `ServerError` where the server failed, and `UnexpectedAnswerError` where the address is another server's.
    """

    def predict(self, clip: OneClip, *, enrolled: Signs | None = None, **about: Unpack[About]) -> Prediction:
        """Name the sign in a clip.

        Parameters
        ----------
        clip : array_like, Clip, mapping, str or path
            Points (T, K, 2) in image units or, with `width` and `height`, pixels, y down, NaN = missing, in the order
            of a layout or an estimator; a `spoter.landmarks.clip.Clip`; a document of docs/formats.md, sent as it is; or the
            path of a file that ``spoter predict`` reads, with one clip.
        enrolled : Enrolment or spoter.fewshot.enrolled.EnrolledGlosses, optional
            What `enroll` returned: glosses to choose from beside the model's own.
        **about
            See `About`.

        Raises
        ------
        InputError
            For a clip that cannot be used; a `RequestError` where it was the server to find out.
        SpoterError
            For a file that cannot be read.
        """
        return self._run(self._predict(clip, enrolled, about))

    def predict_many(
        self, clips: Iterable[OneClip] | str | os.PathLike, *, enrolled: Signs | None = None, **about: Unpack[About]
    ) -> list[Prediction | InputError]:
        """Name the signs in many clips, as many in a request as the server takes.

        Parameters
        ----------
        clips : iterable of what `predict` takes; or a path
            A path is that of a file with several clips, such as .jsonl.
        enrolled, **about
            As for `predict`, for all clips.

        Returns
        -------
        list of Prediction or InputError
            One for each clip, in order. The error of a clip that cannot be used stands in its place and names it by its
            number, from 0.

        Raises
        ------
        InputError
            For `enrolled` and what is said about the clips.
        SpoterError
            For a file that cannot be read, and for one clip in place of several.
        """
        return self._run(self._predict_many(clips, enrolled, about))

    def enroll(
        self,
        gloss: str,
        clips: Iterable[OneClip] | str | os.PathLike,
        *,
        enrolled: Signs | None = None,
        **about: Unpack[About],
    ) -> Enrolment:
        """Learn a sign from a few clips. The server keeps nothing: hand the result to `predict`.

        Parameters
        ----------
        gloss : str
            A name for the sign, none of those the model was trained on.
        clips : iterable of what `predict` takes; or a path
            Each of one whole sign; five, by several people, are better than one. All go in one request.
        enrolled : Enrolment or spoter.fewshot.enrolled.EnrolledGlosses, optional
            Glosses that were learned before: the result holds them too.
        **about
            See `About`; `top_k` means nothing here.

        Raises
        ------
        InputError
            For a clip that cannot be used, for the name, and for a model that learns no signs.
        """
        return self._run(self._enroll(gloss, clips, enrolled, about))

    def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return self._run(self._describe())

    def send(self, call: RawRequest) -> Response:
        """Send a body of one's own and return the very bytes of the answer, an error of the request's among them."""
        return tenacity.Retrying(**self._policy)(self._send_once, call)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _open(self, settings: dict) -> None:
        self._http = httpx.Client(**settings)

    def _send_once(self, call: RawRequest) -> Response:
        try:
            answer = self._http.post(self.url, content=call.body, headers=transport.headers_of(call))
        except httpx.RequestError as error:
            raise transport.no_answer(error, self.url) from error
        return transport.take(answer)

    def _run(self, steps: Steps[_T]) -> _T:
        responses = None
        while True:
            try:
                calls = steps.send(responses)
            except StopIteration as end:
                return end.value
            responses = [self.send(call) for call in calls]


class AsyncClient(Asking):
    """`Client`, to be awaited with asyncio: ``async with``, or `aclose`.

    The parameters, and what the methods take, return and raise, are those of `Client`. Files are read, and clips
    written, between the awaits.
    """

    async def predict(self, clip: OneClip, *, enrolled: Signs | None = None, **about: Unpack[About]) -> Prediction:
        """Name the sign in a clip."""
        return await self._run(self._predict(clip, enrolled, about))

    async def predict_many(
        self,
        clips: Iterable[OneClip] | str | os.PathLike,
        *,
        enrolled: Signs | None = None,
        concurrency: int = 4,
        **about: Unpack[About],
    ) -> list[Prediction | InputError]:
        """Name the signs in many clips, with at most `concurrency` requests at a time."""
        return await self._run(self._predict_many(clips, enrolled, about), concurrency)

    async def enroll(
        self,
        gloss: str,
        clips: Iterable[OneClip] | str | os.PathLike,
        *,
        enrolled: Signs | None = None,
        **about: Unpack[About],
    ) -> Enrolment:
        """Learn a sign from a few clips."""
        return await self._run(self._enroll(gloss, clips, enrolled, about))

    async def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return await self._run(self._describe())

    async def send(self, call: RawRequest) -> Response:
        """Send a body of one's own and return the very bytes of the answer."""
        return await tenacity.AsyncRetrying(**self._policy)(self._send_once, call)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_) -> None:
        await self.aclose()

    def _open(self, settings: dict) -> None:
        self._http = httpx.AsyncClient(**settings)

    async def _send_once(self, call: RawRequest) -> Response:
        try:
            answer = await self._http.post(self.url, content=call.body, headers=transport.headers_of(call))
        except httpx.RequestError as error:
            raise transport.no_answer(error, self.url) from error
        return transport.take(answer)

    async def _run(self, steps: Steps[_T], concurrency: int = 1) -> _T:
        responses = None
        while True:
            try:
                calls = steps.send(responses)
            except StopIteration as end:
                return end.value
            responses = await self._send_all(calls, concurrency)

    async def _send_all(self, calls: Iterable[RawRequest], concurrency: int) -> list[Response]:
        """Send requests as places get free, so that no more than `concurrency` of them are in memory."""
        waiting = enumerate(calls)
        found: dict[int, Response] = {}

        async def sender() -> None:
            for i, call in waiting:
                found[i] = await self.send(call)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, concurrency)):
                    group.create_task(sender())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [found[i] for i in sorted(found)]
