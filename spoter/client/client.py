"""`Client` and `AsyncClient`. Both run the same coroutines; those of `Client` wait in the calling thread."""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, Self, TypeVar, Unpack

import httpx
import tenacity

from spoter.client import encoding
from spoter.client.encoding import CheckedOptions, ClipLike, ClipOptions, ClipsLike
from spoter.client.results import Description, Enrolment, parse_result, parse_results
from spoter.client.retry import Retry
from spoter.client.transport import connection_error, httpx_options, parse_answer, prediction_url, request_headers
from spoter.errors import InputError
from spoter.formats.request import JSON
from spoter.formats.response import Prediction
from spoter.landmarks.layouts import Layout, load_layout
from spoter.messages import RawRequest, Response

_T = TypeVar("_T")


class _BaseClient(ABC):
    """The state of a client and its requests; `Client` documents the parameters."""

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

    @abstractmethod
    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx.Response: ...

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    async def _send(self, request: RawRequest) -> Response:
        return await tenacity.AsyncRetrying(**self._retry_options, sleep=self._sleep)(self._send_once, request)

    async def _send_once(self, request: RawRequest) -> Response:
        try:
            return parse_answer(await self._post(request.body, request_headers(request)))
        except httpx.RequestError as error:
            raise connection_error(error, self.url) from error

    async def _predict(self, clip: ClipLike, about: ClipOptions) -> Prediction:
        options = CheckedOptions(**about)
        if isinstance(clip, Mapping):  # needs no layout
            document = options.merge_into(clip)
        else:
            document = encoding.to_document(clip, options, await self._get_layout(options))
        return parse_result(await self._send(encoding.encode_one(document, options)), Prediction)

    async def _predict_many(
        self, clips: ClipsLike, about: ClipOptions, concurrency: int = 1
    ) -> list[Prediction | InputError]:
        options = CheckedOptions(**about)
        limits = (await self._get_description()).limits
        layout = await self._get_layout(options)
        max_clips, max_bytes = self._max_clips or limits.max_clips, self._max_bytes or limits.max_bytes
        results: dict[int, Prediction | InputError] = {}
        batches = encoding.encode_batches(clips, options, layout, max_clips, max_bytes, results)

        async def send_batches() -> None:
            for numbers, request in batches:
                results.update(zip(numbers, parse_results(await self._send(request), numbers), strict=True))

        if concurrency <= 1:
            await send_batches()
        else:  # each task encodes a batch when it can send it, so that at most `concurrency` are in memory
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(concurrency):
                        group.create_task(send_batches())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [results[number] for number in sorted(results)]

    async def _enroll(self, gloss: str, clips: ClipsLike, about: ClipOptions) -> Enrolment:
        options = CheckedOptions(**about)
        request = encoding.encode_enrolment(gloss, clips, options, await self._get_layout(options))
        return parse_result(await self._send(request), Enrolment)

    async def _describe(self) -> Description:
        self._description = parse_result(await self._send(RawRequest(b'{"describe":true}', JSON)), Description)
        return self._description

    async def _get_description(self) -> Description:
        return self._description or await self._describe()

    async def _get_layout(self, options: CheckedOptions) -> Layout:
        """Return the layout that clips are sent in: that of the call, or the model's."""
        if options.layout is not None:
            return load_layout(str(options.layout))
        if self._layout is None:
            self._layout = (await self._get_description()).layout.to_layout()
        return self._layout


class Client(_BaseClient):
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
        """Recognize the sign in a clip; `ClipOptions` documents the options.

        A clip is points (T, K, 2) in image units or, with `width` and `height`, pixels, y down, NaN = missing, in the
        order of a layout or an estimator; a `Clip`; a document of docs/formats.md, sent unchanged; or the path of a
        file with one clip, as ``spoter predict`` reads it.

        Raises
        ------
        InputError
            For an unusable clip; a `RequestError` if the server refused it.
        SpoterError
            For an unreadable file.
        """
        return _run(self._predict(clip, options))

    def predict_many(self, clips: ClipsLike, **options: Unpack[ClipOptions]) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, as many per request as the server takes, all with the same options.

        `clips` are what `predict` takes; or the path of a file with several clips, such as .jsonl. The result has one
        item for each clip, in order. The error of an unusable clip names it by its number, from 0.

        Raises
        ------
        InputError
            For wrong `enrolled` or `options`.
        SpoterError
            For an unreadable file, and for one clip in place of several.
        """
        return _run(self._predict_many(clips, options))

    def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips. The server keeps nothing: pass the result to `predict`.

        `gloss` is a name for the sign that is not one of the model's trained glosses. Each of the `clips`, as for
        `predict_many`, is of one whole sign; five, by several people, are better than one. All go in one request. The
        option `top_k` has no effect, and the result holds the glosses of `enrolled`, too.

        Raises
        ------
        InputError
            For an unusable clip, a wrong gloss, and a model without enrolment.
        """
        return _run(self._enroll(gloss, clips, options))

    def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return _run(self._describe())

    def send(self, request: RawRequest) -> Response:
        """Send a request as it is, and return the bytes of the answer; errors of the request are answers, too."""
        return _run(self._send(request))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self._http.post(self.url, content=body, headers=headers)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _run(steps: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine of `Client`, which never suspends; an event loop may be running in this thread."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise RuntimeError("a coroutine of Client was suspended")


class AsyncClient(_BaseClient):
    """`Client` for asyncio: use it in ``async with``, or `aclose` it.

    Parameters, results and errors are those of `Client`. It reads files and encodes clips between the awaits.
    """

    async def predict(self, clip: ClipLike, **options: Unpack[ClipOptions]) -> Prediction:
        """Recognize the sign in a clip."""
        return await self._predict(clip, options)

    async def predict_many(
        self, clips: ClipsLike, *, concurrency: int = 4, **options: Unpack[ClipOptions]
    ) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, with at most `concurrency` requests at a time."""
        return await self._predict_many(clips, options, concurrency)

    async def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips."""
        return await self._enroll(gloss, clips, options)

    async def describe(self) -> Description:
        """Return what the server's model knows and reads."""
        return await self._describe()

    async def send(self, request: RawRequest) -> Response:
        """Send a request as it is, and return the bytes of the answer."""
        return await self._send(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self._http.post(self.url, content=body, headers=headers)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
