"""`Client` and `AsyncClient`: the same steps, sent in two ways."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, Unpack

import httpx
import tenacity

from spoter.client.base import BaseClient, Steps
from spoter.client.encoding import ClipLike, ClipOptions, ClipsLike
from spoter.client.results import Description, Enrolment
from spoter.client.transport import connection_error, parse_answer, request_headers
from spoter.errors import InputError
from spoter.formats.response import Prediction
from spoter.messages import RawRequest, Response

_T = TypeVar("_T")


class Client(BaseClient):
    """A client of one server. Threads may share it; use it in a ``with`` statement, or `close` it.

    Parameters
    ----------
    url : str
        TorchServe's root, such as ``http://127.0.0.1:8080``; or, with a path, the whole address of predictions, such as
        API Gateway's ``https://….amazonaws.com/invocations``.
    model : str
        The model's name in TorchServe; ignored if `url` has a path.
    token : str or path, optional
        Sent as ``Authorization: Bearer``. A `pathlib.Path` names a file with the token, read for each request, such as
        the file that ``spoter token`` renews; a request refused for its token is then retried.
    headers : mapping, optional
        Sent with each request, such as an API key of a gateway.
    timeout : float
        Seconds to wait for an answer.
    retry : Retry
        How often to retry after a 503 or a broken connection, and once after a timeout.
    layout : str or int, optional
        The model's layout; by default the client asks the server once.
    max_clips, max_bytes : int, optional
        Limits of one request, by default the model's. A gateway may take less: API Gateway 10 MB, a Lambda function
        6 MB.

    Attributes
    ----------
    url : str
        Address of the requests.

    Raises
    ------
    SpoterError
        For a wrong `url`.
    ModelFolderError
        For an unknown `layout`.

    Notes
    -----
    All methods raise `NoAnswerError` without an answer, `UnavailableError` for a 503 after all attempts, `ServerError`
    if the server failed, and `UnexpectedAnswerError` if the address is another server's.
    """

    def predict(self, clip: ClipLike, **options: Unpack[ClipOptions]) -> Prediction:
        """Recognize the sign in a clip.

        Parameters
        ----------
        clip : array_like, Clip, mapping, str or path
            Points (T, K, 2) in image units or, with `width` and `height`, pixels, y down, NaN = missing, in the order
            of a layout or an estimator; a `Clip`; a document of docs/formats.md, sent unchanged; or the path of a file
            with one clip, as ``spoter predict`` reads it.
        **options
            See `ClipOptions`.

        Raises
        ------
        InputError
            For an unusable clip; a `RequestError` if the server refused it.
        SpoterError
            For an unreadable file.
        """
        return self._run(self._predict(clip, options))

    def predict_many(self, clips: ClipsLike, **options: Unpack[ClipOptions]) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, as many per request as the server takes.

        Parameters
        ----------
        clips : iterable of what `predict` takes; or the path of a file with several clips, such as .jsonl
        **options
            As for `predict`, for all clips.

        Returns
        -------
        list of Prediction or InputError
            One for each clip, in order. The error of an unusable clip names it by its number, from 0.

        Raises
        ------
        InputError
            For wrong `enrolled` or `options`.
        SpoterError
            For an unreadable file, and for one clip in place of several.
        """
        return self._run(self._predict_many(clips, options))

    def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips. The server keeps nothing: pass the result to `predict`.

        Parameters
        ----------
        gloss : str
            A name for the sign that is not one of the model's trained glosses.
        clips : iterable of what `predict` takes; or the path of a file with several clips
            Each of one whole sign; five, by several people, are better than one. All go in one request.
        **options
            See `ClipOptions`; `top_k` has no effect, and the result holds the glosses of `enrolled`, too.

        Raises
        ------
        InputError
            For an unusable clip, a wrong gloss, and a model without enrolment.
        """
        return self._run(self._enroll(gloss, clips, options))

    def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return self._run(self._describe())

    def send(self, request: RawRequest) -> Response:
        """Send a request as it is, and return the bytes of the answer; errors of the request are answers, too."""
        return tenacity.Retrying(**self._retry_options)(self._send_once, request)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    def _send_once(self, request: RawRequest) -> Response:
        try:
            answer = self._http.post(self.url, content=request.body, headers=request_headers(request))
        except httpx.RequestError as error:
            raise connection_error(error, self.url) from error
        return parse_answer(answer)

    def _run(self, steps: Steps[_T]) -> _T:
        try:
            requests = next(steps)
            while True:
                requests = steps.send([self.send(request) for request in requests])
        except StopIteration as end:
            result: _T = end.value
            return result


class AsyncClient(BaseClient):
    """`Client` for asyncio: use it in ``async with``, or `aclose` it.

    Parameters, results and errors are those of `Client`. It reads files and encodes clips between the awaits.
    """

    async def predict(self, clip: ClipLike, **options: Unpack[ClipOptions]) -> Prediction:
        """Recognize the sign in a clip."""
        return await self._run(self._predict(clip, options))

    async def predict_many(
        self,
        clips: ClipsLike,
        *,
        concurrency: int = 4,
        **options: Unpack[ClipOptions],
    ) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, with at most `concurrency` requests at a time."""
        return await self._run(self._predict_many(clips, options), concurrency)

    async def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips."""
        return await self._run(self._enroll(gloss, clips, options))

    async def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return await self._run(self._describe())

    async def send(self, request: RawRequest) -> Response:
        """Send a request as it is, and return the bytes of the answer."""
        return await tenacity.AsyncRetrying(**self._retry_options)(self._send_once, request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def _send_once(self, request: RawRequest) -> Response:
        try:
            answer = await self._http.post(self.url, content=request.body, headers=request_headers(request))
        except httpx.RequestError as error:
            raise connection_error(error, self.url) from error
        return parse_answer(answer)

    async def _run(self, steps: Steps[_T], concurrency: int = 1) -> _T:
        try:
            requests = next(steps)
            while True:
                requests = steps.send(await self._send_all(requests, concurrency))
        except StopIteration as end:
            result: _T = end.value
            return result

    async def _send_all(self, requests: Iterable[RawRequest], concurrency: int) -> Sequence[Response]:
        """Send requests, encoding each when a sender is free, so that at most `concurrency` are in memory."""
        numbered = enumerate(requests)
        responses: dict[int, Response] = {}

        async def send_next() -> None:
            for i, request in numbered:
                responses[i] = await self.send(request)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, concurrency)):
                    group.create_task(send_next())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [responses[i] for i in sorted(responses)]
