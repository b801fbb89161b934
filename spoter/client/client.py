"""`Client` and `AsyncClient`. Both run the same coroutines; in `Client` these block the calling thread."""

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
    """State and requests of a client; `Client` documents the parameters."""

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
        if any(limit is not None and limit < 1 for limit in (max_clips, max_bytes)):
            raise ValueError(f"found max_clips {max_clips} and max_bytes {max_bytes}, expected at least 1")
        self.url = prediction_url(url, model)
        self._retry_options = retry.tenacity_options(token_is_renewed=isinstance(token, os.PathLike))
        self._max_clips, self._max_bytes = max_clips, max_bytes
        self._layout: Layout | None = None if layout is None else load_layout(str(layout))
        self._description: Description | None = None
        self._open(httpx_options(token, headers, timeout))

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> None:
        """Create the HTTP client of httpx."""

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

    async def _predict(self, clip: ClipLike, options: ClipOptions) -> Prediction:
        checked = CheckedOptions(**options)
        if isinstance(clip, Mapping):  # is sent as it is, so it needs no layout
            document = checked.merge_into(clip)
        else:
            document = encoding.to_document(clip, checked, await self._get_layout(checked))
        return parse_result(await self._send(encoding.encode_one(document, checked)), Prediction)

    async def _predict_many(
        self, clips: ClipsLike, options: ClipOptions, concurrency: int = 1
    ) -> list[Prediction | InputError]:
        checked = CheckedOptions(**options)
        limits = (await self._get_description()).limits
        layout = await self._get_layout(checked)
        max_clips, max_bytes = self._max_clips or limits.max_clips, self._max_bytes or limits.max_bytes
        results: dict[int, Prediction | InputError] = {}
        batches = encoding.encode_batches(clips, checked, layout, max_clips, max_bytes, results)

        async def send_batches() -> None:
            for numbers, request in batches:
                results.update(zip(numbers, parse_results(await self._send(request), numbers), strict=True))

        if concurrency <= 1:
            await send_batches()
        else:  # each task encodes a batch only when it can send it: at most `concurrency` batches are in memory
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(concurrency):
                        group.create_task(send_batches())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [results[number] for number in sorted(results)]

    async def _enroll(self, gloss: str, clips: ClipsLike, options: ClipOptions) -> Enrolment:
        checked = CheckedOptions(**options)
        request = encoding.encode_enrolment(gloss, clips, checked, await self._get_layout(checked))
        return parse_result(await self._send(request), Enrolment)

    async def _describe(self) -> Description:
        self._description = parse_result(await self._send(RawRequest(b'{"describe":true}', JSON)), Description)
        return self._description

    async def _get_description(self) -> Description:
        return self._description or await self._describe()

    async def _get_layout(self, options: CheckedOptions) -> Layout:
        """Return the layout for sending clips: the one in the options, or the model's."""
        if options.layout is not None:
            return load_layout(str(options.layout))
        if self._layout is None:
            self._layout = (await self._get_description()).layout.to_layout()
        return self._layout


class Client(_BaseClient):
    """A client of one server. Use it in a ``with`` statement or call `close`; threads may share it.

    Parameters
    ----------
    url : str
        Root of TorchServe, such as ``http://127.0.0.1:8080``; or, with a path, the full address for predictions, such
        as API Gateway's ``https://….amazonaws.com/invocations``.
    model : str
        Name of the model in TorchServe; ignored if `url` has a path.
    token : str or path, optional
        Token for the header ``Authorization: Bearer``. A `pathlib.Path` names a file with the token, such as the file
        that ``spoter token`` renews. The client reads the file for each request, and retries a request that was refused
        because of its token.
    headers : mapping, optional
        Headers for each request, such as a gateway's API key.
    timeout : float
        Seconds to wait for an answer.
    retry : Retry
        How often to retry after a 503 or a broken connection, and once after a timeout.
    layout : str or int, optional
        The model's layout; by default the client asks the server once.
    max_clips, max_bytes : int, optional
        Limit of clips or bytes in one request; by default the model's limit. A gateway may accept less: API Gateway
        10 MB, a Lambda function 6 MB.

    Raises
    ------
    SpoterError
        If `url` is invalid.
    ModelFolderError
        If `layout` is unknown.

    Notes
    -----
    All methods raise `NoAnswerError` if no answer arrives, `UnavailableError` for a 503 after all attempts,
    `ServerError` if the server fails, and `UnexpectedAnswerError` if another kind of server answers.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8080") as client:
    ...     prediction = client.predict("samples/hallo.json")
    >>> prediction.gloss, prediction.known
    ('HALLO', True)
    """

    def predict(self, clip: ClipLike, **options: Unpack[ClipOptions]) -> Prediction:
        """Recognize the sign in a clip.

        Parameters
        ----------
        clip : array_like or Clip or mapping or path
            Points (T, K, 2) in the order of a layout or an estimator, y down, NaN = missing, in image units or, with
            `width` and `height`, in pixels; a `Clip`; a JSON document of docs/formats.md, which is sent unchanged; or
            the path of a file with one clip, as ``spoter predict`` reads it.
        **options : ClipOptions
            Options of the clip and the request.

        Returns
        -------
        Prediction
            `gloss`, `score` and `known`, and all ranked `glosses`.

        Raises
        ------
        InputError
            If the clip is unusable; a `RequestError` if the server refuses it.
        SpoterError
            If a file is unreadable.
        """
        return _run(self._predict(clip, options))

    def predict_many(self, clips: ClipsLike, **options: Unpack[ClipOptions]) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, in as few requests as the server's limits allow.

        Parameters
        ----------
        clips : iterable of clips or path
            Clips as for `predict`, or the path of a file with several clips, such as a .jsonl file.
        **options : ClipOptions
            Options of all clips.

        Returns
        -------
        list of Prediction or InputError
            One item per clip, in order. The error of an unusable clip names the clip by its number, from 0.

        Raises
        ------
        InputError
            If `enrolled` or another option is invalid.
        SpoterError
            If a file is unreadable, or `clips` is one clip instead of several.
        """
        return _run(self._predict_many(clips, options))

    def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips. The server stores nothing: pass the result to `predict`.

        Parameters
        ----------
        gloss : str
            Name of the sign; not one of the model's trained glosses.
        clips : iterable of clips or path
            Clips as for `predict_many`; each shows the whole sign. Five clips by several people are better than one.
            All are sent in one request.
        **options : ClipOptions
            Options of all clips; `top_k` has no effect.

        Returns
        -------
        Enrolment
            The learned gloss and the glosses of the option `enrolled`.

        Raises
        ------
        InputError
            If a clip or the gloss is unusable, or the model cannot learn glosses.
        """
        return _run(self._enroll(gloss, clips, options))

    def describe(self) -> Description:
        """Return the description of the server's model: its glosses, layout, limits and content types."""
        return _run(self._describe())

    def send(self, request: RawRequest) -> Response:
        """Send a request unchanged and return the answer's status and bytes; a refused request is an answer, too."""
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
    """Run a coroutine of `Client`, which never suspends; this thread may already run an event loop."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise RuntimeError("a coroutine of Client was suspended")


class AsyncClient(_BaseClient):
    """A `Client` for asyncio. Use it in ``async with`` or call `aclose`.

    Parameters, results and errors are those of `Client`. Reading files and encoding clips block the event loop.
    """

    async def predict(self, clip: ClipLike, **options: Unpack[ClipOptions]) -> Prediction:
        """Recognize the sign in a clip, like `Client.predict`."""
        return await self._predict(clip, options)

    async def predict_many(
        self, clips: ClipsLike, *, concurrency: int = 4, **options: Unpack[ClipOptions]
    ) -> list[Prediction | InputError]:
        """Recognize the signs in many clips, like `Client.predict_many`, with up to `concurrency` parallel requests."""
        return await self._predict_many(clips, options, concurrency)

    async def enroll(self, gloss: str, clips: ClipsLike, **options: Unpack[ClipOptions]) -> Enrolment:
        """Learn a sign from a few clips, like `Client.enroll`."""
        return await self._enroll(gloss, clips, options)

    async def describe(self) -> Description:
        """Return the description of the server's model, like `Client.describe`."""
        return await self._describe()

    async def send(self, request: RawRequest) -> Response:
        """Send a request unchanged and return the answer's status and bytes."""
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
