"""AWS over HTTP for tests: moto's server on loopback, and a layer that adds the operations that moto lacks.

`Cloud` records every call, injects the errors that a test requests, and answers the operations that moto lacks. The
container behind an endpoint is a function that the test chooses (`containers`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import create_environ, run_wsgi_app

from spoter.ops.ports import LOOPBACK
from tests.aws.deploy.aws_http import Answer, Request
from tests.aws.deploy.containers import Container
from tests.aws.deploy.sagemaker_double import SageMakerDouble

ACCOUNT = "123456789012"  # moto's account number
REGION = "eu-central-1"


@dataclass(frozen=True)
class Call:
    """A call to AWS.

    Attributes
    ----------
    service : str
        Name in the signature: ``sagemaker``, ``s3``, ``servicequotas``.
    operation : str
        ``CreateEndpoint``; for S3 the HTTP method.
    parameters : dict
        For S3: Bucket, Key and those of the query. For data-plane calls: EndpointName and the headers.
    """

    service: str
    operation: str
    parameters: dict[str, Any]


@dataclass
class Refusal:
    """An error that `Cloud.refuse` injects, and the number of calls that still get it."""

    code: str
    message: str
    remaining: int


class Quiet(MotoRequestHandler):
    """moto's request handler without a log line per request."""

    def log_request(self, *_: Any) -> None: ...


class Cloud:
    """AWS's API on loopback, in a thread of this process.

    Attributes
    ----------
    url : str
        URL for AWS_ENDPOINT_URL.
    calls : list of Call
        All calls since the last `reset`.
    container : Container or None
        Function that answers for every endpoint and transform job.
    quotas : dict or None
        SageMaker's service quotas by name, which moto lacks; None denies the permission to read them.
    foreign_buckets : set of str
        Buckets of other accounts; moto has one account only and ignores ExpectedBucketOwner.
    break_uploads : bool
        Close the connection of each upload to S3 before the answer; S3 then stores nothing.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(LOOPBACK, 0, self._serve, threaded=True, request_handler=Quiet)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": LOOPBACK,
        }
        self._clients: dict[tuple[str, str], Any] = {}
        self._clear()
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _clear(self) -> None:
        self.calls: list[Call] = []
        self.container: Container | None = None
        self.quotas: dict[str, float] | None = None
        self.foreign_buckets: set[str] = set()
        self.break_uploads = False
        self._refusals: dict[str, Refusal] = {}
        self._scaling_tags: dict[str, dict[str, str]] = defaultdict(dict)
        self.sagemaker = SageMakerDouble(self, ACCOUNT, REGION)

    def reset(self) -> None:
        """Empty the account, and clear the settings and records of the last test."""
        run_wsgi_app(self._moto, create_environ("/moto-api/reset", method="POST"))
        self._clear()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def client(self, service: str, region: str = REGION) -> Any:
        """Return a boto3 client of this cloud for use by a test; its calls are recorded too."""
        if (service, region) not in self._clients:  # cached because boto3 creates clients slowly
            keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
            client = boto3.client(service, endpoint_url=self.url, region_name=region, **keys)
            self._clients[service, region] = client
        return self._clients[service, region]

    def refuse(self, operation: str, code: str, message: str = "injected by the test", times: int = 1_000_000) -> None:
        """Answer the next calls of an operation (``CreateEndpoint``; for S3 an HTTP method) with an error."""
        self._refusals[operation] = Refusal(code, message, times)

    def log(self, group: str, stream: str, lines: Iterable[str]) -> None:
        """Write log lines to moto's CloudWatch Logs, as from a container."""
        logs = self.client("logs")
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            logs.create_log_group(logGroupName=group)
        if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = round(1000 * time.time())
        events = [{"timestamp": now + number, "message": line} for number, line in enumerate(lines)]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    def operations(self, service: str | None = None) -> list[str]:
        """Return the operations of all calls, in order."""
        return [call.operation for call in self.calls if service in (None, call.service)]

    def called(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of an operation."""
        return [call.parameters for call in self.calls if call.operation == operation]

    def _serve(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        request = Request(environ)
        if request.service is None:
            return self._moto(environ, start_response)
        self.calls.append(Call(request.service, request.operation, request.parameters))
        answer = self._answer(request)
        if answer is None:
            return self._moto(environ, start_response)
        start_response(f"{answer.status} _", list(answer.headers.items()))
        return [answer.body]

    def _answer(self, request: Request) -> Answer | None:
        """Return an answer that moto cannot give, or None to forward the request to moto."""
        refusal = self._refusals.get(request.operation)
        if refusal is not None and refusal.remaining > 0:
            refusal.remaining -= 1
            return request.refusal(refusal.code, refusal.message)
        service_handler = getattr(self, f"_{request.service.replace('-', '_')}", None)
        return service_handler(request) if service_handler is not None else None

    def forward(self, request: Request) -> Answer:
        """Forward a request to moto and return its answer."""
        body, status, headers = run_wsgi_app(self._moto, request.environ)
        return Answer(int(status.split()[0]), b"".join(body), dict(headers))

    def _sagemaker(self, request: Request) -> Answer | None:
        return self.sagemaker.answer(request)

    def _s3(self, request: Request) -> Answer | None:
        """Emulate owners of buckets and broken connections, and write asynchronous answers."""
        bucket, key = request.parameters["Bucket"], request.parameters["Key"]
        if bucket in self.foreign_buckets:
            return request.refusal("AccessDenied", "Access Denied")
        if self.break_uploads and request.operation == "PUT" and key:
            request.environ["wsgi.input"].read(int(request.environ.get("CONTENT_LENGTH") or 0))
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if request.operation in ("GET", "HEAD") and (bucket, key) in self.sagemaker.unwritten:
            answer = self.forward(request)  # the object is missing now and exists at the next request
            self.sagemaker.write(bucket, key)
            return answer
        return None

    def _application_autoscaling(self, request: Request) -> Answer | None:
        """Emulate tags of scalable targets, which moto does not store."""
        parameters = request.parameters
        if request.operation == "RegisterScalableTarget":
            answer = self.forward(request)
            if answer.status == 200:
                tags = self._scaling_tags[json.loads(answer.body)["ScalableTargetARN"]]
                tags.update(parameters.get("Tags") or {} if not tags else {})  # as in AWS: only for a new target
            return answer
        arn = parameters.get("ResourceARN")
        if request.operation == "TagResource":
            self._scaling_tags[arn].update(parameters["Tags"])
            return Answer.of({})
        if request.operation == "ListTagsForResource":
            return Answer.of({"Tags": self._scaling_tags[arn]})
        return None

    def _servicequotas(self, request: Request) -> Answer | None:
        """Emulate the quotas of SageMaker, with two per page to test paging; moto has only those of VPC."""
        if self.quotas is None or request.operation != "ListServiceQuotas":
            return request.refusal("AccessDeniedException", f"not authorized to perform {request.operation}")
        start = int(request.parameters.get("NextToken") or 0)
        page = [{"QuotaName": name, "Value": value} for name, value in self.quotas.items()][start : start + 2]
        token = {"NextToken": str(start + 2)} if start + 2 < len(self.quotas) else {}
        return Answer.of({"Quotas": page} | token)
