"""Client of a server for Python programs: `Client`, and `AsyncClient` with the same methods as coroutines.

    from spoter import Client

    with Client("http://127.0.0.1:8080") as client:
        print(client.predict("samples/hallo.json").gloss)

The client does not need torch; it needs pandas only to read CSV files. docs/client.md is the guide.
"""

from spoter.client.client import AsyncClient, Client
from spoter.client.encoding import ClipOptions
from spoter.client.errors import NoAnswerError, RequestError, ServerError, UnavailableError, UnexpectedAnswerError
from spoter.client.results import Description, Enrolment
from spoter.client.retry import Retry
from spoter.errors import InputError
from spoter.formats.response import ModelName, Prediction, Ranked

__all__ = [
    "AsyncClient",
    "Client",
    "ClipOptions",
    "Description",
    "Enrolment",
    "InputError",
    "ModelName",
    "NoAnswerError",
    "Prediction",
    "Ranked",
    "RequestError",
    "Retry",
    "ServerError",
    "UnavailableError",
    "UnexpectedAnswerError",
]
