"""Parsed requests to AWS, and answers in AWS's forms, for `cloud`."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from xml.sax.saxutils import escape


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: dict, status: int = 200, **headers: str) -> Answer:
        """Return a JSON answer in the form of SageMaker and similar services."""
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/x-amz-json-1.1"} | headers)


class Request:
    """A signed request to AWS, parsed by its protocol; `service` is None for an unsigned request."""

    def __init__(self, environ: dict[str, Any]):
        self.environ = environ
        self.service: str | None = None
        self.body = b""
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        if len(scope) != 5:
            return
        self.service = scope[3]
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if self.service != "s3":  # uploads are not read here
            self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            self.rewind()
        if self.service == "s3":
            self.operation = environ["REQUEST_METHOD"]
            bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
            self.parameters = {"Bucket": bucket, "Key": key} | dict(parse_qsl(environ["QUERY_STRING"], True))
        elif target:
            self.operation = target.rpartition(".")[2]
            self.parameters = json.loads(self.body or b"{}")
        elif environ["PATH_INFO"].startswith("/endpoints/"):
            _, _, name, verb = environ["PATH_INFO"].split("/")
            self.operation = {"invocations": "InvokeEndpoint", "async-invocations": "InvokeEndpointAsync"}[verb]
            self.parameters = {"EndpointName": name} | {
                name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"
            }
            self.parameters["content-type"] = environ.get("CONTENT_TYPE")
        else:
            form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
            self.operation, self.parameters = form.pop("Action", environ["REQUEST_METHOD"]), form

    def rewind(self) -> None:
        """Make the body readable again."""
        self.environ["wsgi.input"] = io.BytesIO(self.body)

    def refusal(self, code: str, message: str, status: int | None = None) -> Answer:
        """Return an error in the protocol of this request."""
        status = status or (403 if code.startswith("AccessDenied") else 400)
        if self.service in ("s3", "iam", "sts"):
            error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
            body = error if self.service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
            return Answer(status, body.encode(), {"Content-Type": "application/xml"})
        content = {"__type": code, "message": message, "Message": message}
        return Answer.of(content, status, **{"x-amzn-errortype": code})
