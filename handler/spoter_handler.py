"""TorchServe's handler: passes batches of HTTP requests to `spoter.serving.service`, and returns the responses.

`spoter pack` puts this file at the root of the archive, next to the model's files and a copy of the package `spoter`.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import traceback
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the copy of spoter in the archive is on the path only after `initialize`
    from spoter.formats.video_format import Fetch
    from spoter.messages import RawRequest, Response
    from spoter.serving.recognizer import Recognizer, Timings

logger = logging.getLogger(__name__)

# Seconds of a batch's responseTimeout that are reserved for everything except its videos.
RESERVED_SECONDS = 10
# Seconds after which a client may retry after a 503: one core needs 4 s to read a video of a sign of 2 s.
RETRY_AFTER = "5"
# Counters in handler/metrics.yaml, and their fields in Timings.
COUNTERS = {"Frames": "frames", "Videos": "videos", "BadInputs": "bad_inputs"}
INTERNAL_ERROR = b'{"error":{"code":"internal","message":"the server failed; see its log","where":null}}'


class SpoterHandler:
    """Handler class of TorchServe, which calls `initialize` once in each worker, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load the model of the archive: on the CPU, or with torch on the GPU that TorchServe assigned to this worker.

        The system property ``model_dir`` of the context is the unpacked archive; ``gpu_id`` is a GPU or None. After a
        `ModelFolderError`, or a `ValueError` for the settings, TorchServe logs it and the worker does not start.
        """
        properties, config = context.system_properties, context.model_yaml_config or {}
        self.recognizer = load(properties["model_dir"], properties.get("gpu_id"), compute_threads(config))
        self.video_seconds = video_seconds(config)
        self.in_transform_job = in_transform_job()
        self.fetch = stored_videos()
        logging.getLogger().addFilter(is_logged)
        if context.metrics is not None:  # None when docker/load_once.py loads an archive
            for name in COUNTERS:  # so that the metrics exist before the first count
                context.metrics.add_counter(name, 0, dimensions=[])
        gc.collect()
        gc.freeze()  # modules and model stay: later collections need not scan them

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: return one body per request, in order, and set its status and content type.

        `data` holds the parameters of each request by name: ``body``, or ``data`` from a form or gRPC, as bytes, or as
        str, dict or list if TorchServe has parsed them (decode_input_request=true).
        """
        raw = [to_raw_request(item, context.get_all_request_header(index)) for index, item in enumerate(data)]
        deadline = time.monotonic() + self.video_seconds
        responses, timings = respond_each(self.recognizer, raw, self.fetch, deadline)
        if self.in_transform_job:
            responses = as_records(responses)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, HTTPStatus(response.status).phrase, index)
            context.set_response_content_type(index, response.content_type)
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                context.set_response_header(index, "Retry-After", RETRY_AFTER)
        report_metrics(timings, context.metrics)
        return [response.body for response in responses]


def load(model_dir: str, gpu: int | None, threads: int = 1) -> Recognizer:
    """Load the model of an unpacked archive, with the code of the archive, on a GPU or else the CPU.

    Only torch uses the GPU; the other runtimes compute on the CPU and log a warning. `threads` is the number of threads
    of torch and of NumPy's BLAS; ONNX Runtime's sessions have one.
    """
    # TorchServe puts the archive on the path after the user's PYTHONPATH, which may hold another version of spoter. An
    # archive must serve with the code that it was built with.
    sys.path.insert(0, model_dir)
    import spoter
    from spoter.model.config import read_config
    from spoter.runtime.device import limit_threads
    from spoter.serving.recognizer import Recognizer

    config, device = read_config(Path(model_dir)), "cpu"
    limit_threads(threads, config.runtime)
    if config.runtime == "torch":
        import torch  # only here: a worker without torch needs 200 MB less (worker_path/sitecustomize.py)

        from spoter.formats import csv_format  # noqa: F401  imports pandas before the first request

        if gpu is not None and torch.cuda.is_available():
            device = f"cuda:{gpu}"
    recognizer = Recognizer.load(model_dir, device, config.runtime)
    where = f"{config.runtime} on {device}"
    logger.info("model %s %s in %s, spoter from %s", config.name, config.version, where, spoter.__path__[0])
    if gpu is not None and config.runtime != "torch":
        message = "this worker has GPU %s, but runtime %s computes on the CPU; pack with --runtime torch for the GPU"
        logger.warning(message, gpu, config.runtime)
    return recognizer


def compute_threads(config: dict[str, Any]) -> int:
    """Return the number of threads that a worker computes with: ``threads`` of model-config.yaml's handler, or 1."""
    number = (config.get("handler") or {}).get("threads", 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"model-config.yaml: found threads {number}, expected an integer of at least 1")
    return number


def is_logged(record: logging.LogRecord) -> bool:
    """Return False for the line that TorchServe logs per batch: its front end must read every line of a worker."""
    return not str(record.msg).startswith("Backend received inference")


def stored_videos() -> Fetch | None:
    """Return a function that fetches stored videos if the environment names a bucket; log which videos are read."""
    from video_bucket import from_environment

    from spoter.formats.video_format import videos_supported

    bucket = from_environment()
    stored = "no bucket" if bucket is None else f"the bucket {bucket.bucket}"
    logger.info("videos are %s here; stored videos come from %s", "read" if videos_supported() else "not read", stored)
    return bucket.fetch if bucket is not None else None


def video_seconds(config: dict[str, Any]) -> float:
    """Return the seconds that all videos of a batch may take together.

    The number follows from ``responseTimeout`` and the handler's ``videoTimeout`` in model-config.yaml. Raises
    `ValueError` if TorchServe would restart a worker before its videos time out.
    """
    from spoter.limits import VIDEO_SECONDS

    response = config.get("responseTimeout", 120)  # TorchServe's default
    seconds = (config.get("handler") or {}).get("videoTimeout", min(VIDEO_SECONDS, response - RESERVED_SECONDS))
    if not isinstance(seconds, int | float) or not 0 < seconds <= response - RESERVED_SECONDS:
        raise ValueError(
            f"model-config.yaml: found videoTimeout {seconds}, expected more than 0 and at most "
            f"{response - RESERVED_SECONDS} seconds ({RESERVED_SECONDS} less than responseTimeout)"
        )
    return float(seconds)


def in_transform_job() -> bool:
    """Return whether this container runs a SageMaker batch transform job, in which SAGEMAKER_BATCH is true.

    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html
    """
    return os.environ.get("SAGEMAKER_BATCH") == "true"


def as_records(responses: list[Response]) -> list[Response]:
    """Return the answers as records of a batch transform job, so that one bad record does not end the job."""
    from spoter.serving.service import to_record

    return [to_record(response) for response in responses]


def to_raw_request(item: dict[str, Any], headers: dict[str, Any]) -> RawRequest:
    """Return the raw request for one HTTP request: `item` holds its parameters by name.

    `headers` have the client's spelling. For each parameter they contain ``{name: {"content-type": …}}``.
    """
    from spoter.messages import RawRequest

    if not item and headers.get("describe") == "True":  # sent by TorchServe itself for ?customized=true
        return RawRequest(b'{"describe":true}', content_type="application/json")
    name = "body" if "body" in item else "data"
    # A header and a parameter can have the same name, so a name can have either kind of value.
    texts = {key.lower(): value for key, value in headers.items() if isinstance(value, str)}
    content_type = texts.get("content-type")
    if name in item and (content_type or "").lower().startswith("multipart/"):  # each part has its own type
        part = headers.get(name)
        content_type = part.get("content-type") if isinstance(part, dict) else None
    # TorchServe parses forms, such as `curl -d` sends. If no part has an expected name, only the content type is left,
    # which the service refuses with 415; an empty body would get a misleading 400.
    body = item.get(name, b"form")
    if isinstance(body, str):
        body = body.encode(errors="surrogatepass")  # the format reports invalid Unicode
    elif not isinstance(body, bytes | bytearray | memoryview):
        body, content_type = encode_parsed(body), "application/json"
    return RawRequest(
        bytes(body),
        content_type=content_type,
        accept=texts.get("accept"),
        attributes=texts.get("x-amzn-sagemaker-custom-attributes"),
        content_encoding=texts.get("content-encoding"),
    )


def encode_parsed(document: object) -> bytes:
    """Encode a document that TorchServe has parsed as JSON again; the service still refuses NaN and Infinity."""
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return b"[" * 10_000  # refused like the document, because it is nested as deeply


def respond_each(
    recognizer: Recognizer, raw: list[RawRequest], fetch: Fetch | None = None, deadline: float | None = None
) -> tuple[list[Response], Timings]:
    """Answer a batch even if this project's code fails: then retry its requests one by one.

    A request that fails again gets status 500; the log has the cause. `fetch` and `deadline` are those of
    `spoter.serving.service.respond`.
    """
    from spoter.messages import Response
    from spoter.serving.recognizer import Timings
    from spoter.serving.service import respond

    try:
        return respond(recognizer, raw, fetch, deadline)
    except Exception as error:  # no error of one request may cost the others their answers
        if len(raw) == 1:
            # The message is not logged: it may quote a landmark.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s while answering a request; please report it\n%s", type(error).__name__, frames)
            return [Response(500, "application/json", INTERNAL_ERROR, "internal")], Timings()
    responses, total = [], Timings()
    for item in raw:
        [response], timings = respond_each(recognizer, [item], fetch, deadline)
        responses.append(response)
        for field in fields(Timings):
            setattr(total, field.name, getattr(total, field.name) + getattr(timings, field.name))
    return responses, total


def report_metrics(timings: Timings, metrics: Any) -> None:
    """Report the timings and counts of a batch to TorchServe; handler/metrics.yaml declares them."""
    from ts.metrics.metric_type_enum import MetricTypes

    times = {"DecodeTime": timings.decode_ms, "NormalizeTime": timings.normalize_ms, "ForwardTime": timings.forward_ms}
    if not timings.frames:  # nothing was normalized: a time of 0 would only lower the mean
        del times["NormalizeTime"], times["ForwardTime"]
    if timings.videos:
        times["VideoTime"] = timings.video_ms
    for name, value in times.items():
        # dimensions: TorchServe appends to this list, and all calls would share its default
        metrics.add_metric(name, round(value, 3), "ms", dimensions=[], metric_type=MetricTypes.HISTOGRAM)
    for name, field in COUNTERS.items():
        if count := getattr(timings, field):  # TorchServe's front end must read each line
            metrics.add_counter(name, count, dimensions=[])
