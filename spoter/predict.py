"""Who answers `spoter predict`: a model folder in this process, or a server; the answers are the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spoter.errors import SpoterError
from spoter.service import Incoming, Response

Ask = Callable[[Incoming], Response]


@contextmanager
def in_process(model: Path) -> Iterator[Ask]:
    """Answer with a model folder.

    Raises
    ------
    SpoterError
        For a folder that cannot be used, and for a server's address in its place.
    """
    if str(model).startswith(("http:", "https:")):  # a Path has made one slash of two
        raise SpoterError(f"found {model} for a model folder: a server's address goes after --server")

    import torch

    from spoter.recognizer import Recognizer
    from spoter.service import respond

    torch.set_num_threads(1)  # as in a server's worker
    recognizer = Recognizer.load(model)
    yield lambda incoming: respond(recognizer, [incoming])[0][0]


@contextmanager
def of_server(url: str, token: str | None) -> Iterator[Ask]:
    """Have a server answer.

    Raises
    ------
    SpoterError
        For what is no address; a `spoter.client.ServerError` where the server does not answer, or not as ours do.
    """
    from spoter.client import Client

    with Client(url, token=token) as client:
        yield client.send
