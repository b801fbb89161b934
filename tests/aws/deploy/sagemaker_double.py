"""What moto's SageMaker lacks: time, failure, updates, names that are taken, and containers that answer."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from moto.backends import get_backend

from tests.aws.deploy.aws_http import Answer, Request

if TYPE_CHECKING:
    from tests.aws.deploy.cloud import Cloud

ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/{}"
JOB_LOGS = "/aws/sagemaker/TransformJobs"
_NAMES = {"CreateModel": "ModelName", "CreateEndpointConfig": "EndpointConfigName", "CreateEndpoint": "EndpointName"}
_NAMES["CreateTransformJob"] = "TransformJobName"


@dataclass
class Failure:
    """How the next creation or update ends."""

    reason: str
    log: tuple[str, ...]


class SageMakerDouble:
    """Stands in for SageMaker where moto has no such verb or state; everything else is moto's own.

    Attributes
    ----------
    patience : int
        How many times a new endpoint or job is seen at work before it is done.
    unwritten : dict
        Asynchronous answers by bucket and key that nobody has asked for yet.
    """

    def __init__(self, cloud: Cloud, number: str, region: str):
        self._cloud, self._number, self._region = cloud, number, region
        self.patience = 1
        self.unwritten: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._failures: dict[str, list[Failure]] = defaultdict(list)
        # By endpoint or job: what it is at each of the next looks, as changes of moto's object.
        self._ahead: dict[str, list[dict[str, Any]]] = {}

    @property
    def _backend(self) -> Any:
        return get_backend("sagemaker")[self._number][self._region]

    @property
    def _s3(self) -> Any:
        return get_backend("s3")[self._number]["aws"]

    def fail(self, operation: str, reason: str, log: tuple[str, ...] = ()) -> None:
        """Let the next CreateEndpoint, UpdateEndpoint or CreateTransformJob be accepted and end badly.

        Parameters
        ----------
        reason : str
            FailureReason.
        log : tuple of str
            What the container leaves in CloudWatch.
        """
        self._failures[operation].append(Failure(reason, log))

    def logs_begin(self, group: str, seconds: float) -> None:
        """Let a log group have been made this many seconds later than it was; moto takes its own clock."""
        get_backend("logs")[self._number][self._region].groups[group].creation_time += timedelta(seconds=seconds)

    def answer(self, request: Request) -> Answer | None:
        """Answer what moto cannot; None leaves it to moto."""
        own = getattr(self, f"_{request.operation}", None)
        taken = self._taken(request)
        return taken or (own(request, request.parameters) if own is not None else None)

    def _taken(self, request: Request) -> Answer | None:
        """Stand in for names that are taken: moto puts the new thing in the old one's place."""
        if request.operation not in _NAMES:
            return None
        backend, name = self._backend, request.parameters[_NAMES[request.operation]]
        there = {
            "CreateModel": (backend._models, "model"),
            "CreateEndpointConfig": (backend.endpoint_configs, "endpoint configuration"),
            "CreateEndpoint": (backend.endpoints, "endpoint"),
            "CreateTransformJob": (backend.transform_jobs, "transform job"),
        }[request.operation]
        if name not in there[0]:
            return None
        return request.refusal("ValidationException", f'Cannot create already existing {there[1]} "{name}".')

    def _CreateEndpoint(self, request: Request, told: dict) -> Answer:
        """Stand in for an endpoint that takes its time, or fails; moto's is InService at once."""
        answer = self._cloud.forward(request)
        if answer.status == 200:
            name, failure = told["EndpointName"], self._next_failure("CreateEndpoint")
            end = {"endpoint_status": "InService"}
            if failure:
                end = {"endpoint_status": "Failed", "failure_reason": failure.reason}
            self._plan(self._backend.endpoints[name], name, {"endpoint_status": "Creating"}, end)
            self._log(ENDPOINT_LOGS.format(name), "AllTraffic/i-0123456789abcdef0", failure)
        return answer

    def _DescribeEndpoint(self, request: Request, told: dict) -> None:
        self._go_on(self._backend.endpoints, told["EndpointName"])

    def _UpdateEndpoint(self, request: Request, told: dict) -> Answer:
        """Stand in for updates, which moto has no verb for: Updating, then the new configuration or the old again."""
        name, config_name = told["EndpointName"], told["EndpointConfigName"]
        backend = self._backend
        if name not in backend.endpoints or config_name not in backend.endpoint_configs:
            return request.refusal("ValidationException", "Could not find endpoint or endpoint configuration.")
        endpoint, config = backend.endpoints[name], backend.endpoint_configs[config_name]
        if endpoint.endpoint_status not in ("InService", "Failed"):
            return request.refusal("ValidationException", "Cannot update in-progress endpoint")
        failure = self._next_failure("UpdateEndpoint")
        self._log(ENDPOINT_LOGS.format(name), "AllTraffic/i-0123456789abcdef1", failure)
        if failure:
            end = {"endpoint_status": "InService", "failure_reason": failure.reason}
            self._plan(endpoint, name, {"endpoint_status": "Updating"}, {"endpoint_status": "RollingBack"}, end)
        else:
            variants = endpoint._process_production_variants(config.production_variants)
            if told.get("RetainAllVariantProperties"):
                kept = ("CurrentInstanceCount", "DesiredInstanceCount")
                for new, old in zip(variants, endpoint.production_variants, strict=True):
                    new.update({field: old[field] for field in kept if field in old and field in new})
            new = {"production_variants": variants, "data_capture_config": config.data_capture_config}
            new |= {"endpoint_config_name": config_name, "endpoint_status": "InService", "failure_reason": None}
            self._plan(endpoint, name, {"endpoint_status": "Updating"}, new)
        return Answer.of({"EndpointArn": endpoint.arn})

    def _CreateTransformJob(self, request: Request, told: dict) -> Answer:
        """Stand in for a job that reads, asks the model and writes; moto's has done nothing and is Completed."""
        answer = self._cloud.forward(request)
        if answer.status == 200:
            name, failure = told["TransformJobName"], self._next_failure("CreateTransformJob")
            failure = failure or self._transform(told)
            end = {"transform_job_status": "Completed"}
            if failure:
                end = {"transform_job_status": "Failed", "failure_reason": failure.reason}
            self._plan(self._backend.transform_jobs[name], name, {"transform_job_status": "InProgress"}, end)
            self._log(JOB_LOGS, f"{name}/i-0123456789abcdef2", failure)
        return answer

    def _DescribeTransformJob(self, request: Request, told: dict) -> None:
        self._go_on(self._backend.transform_jobs, told["TransformJobName"])

    def _StopTransformJob(self, request: Request, told: dict) -> Answer:
        """Stand in for stopping a job, which moto has no verb for."""
        name = told["TransformJobName"]
        job = self._backend.transform_jobs.get(name)
        if job is None:
            return request.refusal("ValidationException", f"Could not find transform job '{name}'.")
        if job.transform_job_status != "InProgress":
            return request.refusal("ValidationException", f"The job is in status {job.transform_job_status}.")
        self._plan(job, name, {"transform_job_status": "Stopping"}, {"transform_job_status": "Stopped"})
        return Answer.of({})

    def _transform(self, told: dict) -> Failure | None:
        """Do a job as SplitType Line or None, BatchStrategy SingleRecord and AssembleWith Line or None ask for."""
        source, target = told["TransformInput"], told["TransformOutput"]
        bucket, _, prefix = source["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://").partition("/")
        out_bucket, _, out = target["S3OutputPath"].removeprefix("s3://").partition("/")
        keys = sorted(key for key in self._s3.buckets[bucket].keys if key.startswith(prefix))
        if not keys:
            return Failure("ClientError: No S3 objects found under S3 URL", ())
        for key in keys:
            body = self._s3.get_object(bucket, key).value
            records = body.splitlines(keepends=True) if source.get("SplitType") == "Line" else [body]
            parts = []
            for record in records:
                headers = {"content-type": source.get("ContentType"), "accept": target.get("Accept")}
                status, _, answer = self._cloud.container(record, headers)
                if status >= 300:  # the whole job fails, and says little more than that
                    log = f"{bucket}/{key}: ClientError: {status}: {answer.decode(errors='replace')}"
                    return Failure("ClientError: See job logs for more information", (log,))
                parts.append(answer + (b"\n" if target.get("AssembleWith") == "Line" else b""))
            name = key[len(prefix.rpartition("/")[0]) :].lstrip("/")
            place = "/".join(filter(None, [out.rstrip("/"), f"{name}.out"]))
            self._s3.put_object(out_bucket, place, b"".join(parts))
        return None

    def _InvokeEndpoint(self, request: Request, told: dict) -> Answer:
        """Stand in for the data plane: ask the container; moto's answers are canned."""
        missing = self._not_serving(request, told)
        if missing:
            return missing
        status, content_type, body = self._cloud.container(request.body, told)
        if status < 300:
            return Answer(200, body, {"Content-Type": content_type, "x-Amzn-Invoked-Production-Variant": "AllTraffic"})
        refused = {"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "OriginalStatusCode": status}
        refused |= {"OriginalMessage": body.decode(errors="replace"), "Message": _model_error(status, body)}
        refused["LogStreamArn"] = f"arn:aws:logs:{self._region}:{self._number}:log-group:x"
        return Answer.of(refused, 424, **{"x-amzn-errortype": "ModelError"})

    def _InvokeEndpointAsync(self, request: Request, told: dict) -> Answer:
        """Stand in for asynchronous answers: the output or failure object is there from the second look on."""
        missing = self._not_serving(request, told)
        if missing:
            return missing
        config = self._backend.endpoint_configs[self._backend.endpoints[told["EndpointName"]].endpoint_config_name]
        output = config.async_inference_config["OutputConfig"]
        bucket, _, key = told["x-amzn-sagemaker-inputlocation"].removeprefix("s3://").partition("/")
        headers = {
            "content-type": told.get("x-amzn-sagemaker-content-type"),
            "accept": told.get("x-amzn-sagemaker-accept"),
        }
        headers["x-amzn-sagemaker-custom-attributes"] = told.get("x-amzn-sagemaker-custom-attributes")
        status, content_type, body = self._cloud.container(self._s3.get_object(bucket, key).value, headers)
        identity = str(uuid.uuid4())
        places = {"OutputLocation": f"{output['S3OutputPath'].rstrip('/')}/{identity}.out"}
        if output.get("S3FailurePath"):
            places["FailureLocation"] = f"{output['S3FailurePath'].rstrip('/')}/{identity}-error.out"
        if status >= 300:
            body, content_type = _model_error(status, body).encode(), "text/plain"
        place = places.get("OutputLocation" if status < 300 else "FailureLocation")
        if place:
            to, _, key = place.removeprefix("s3://").partition("/")
            self.unwritten[to, key] = (body, content_type)
        answer = Answer.of({"InferenceId": identity})
        answer.status = 202
        answer.headers |= {f"X-Amzn-SageMaker-{name}": value for name, value in places.items()}
        return answer

    def write(self, bucket: str, key: str) -> None:
        """Put an asynchronous answer where it belongs."""
        body, _ = self.unwritten.pop((bucket, key))
        self._s3.put_object(bucket, key, body)

    def _not_serving(self, request: Request, told: dict) -> Answer | None:
        endpoint = self._backend.endpoints.get(told["EndpointName"])
        if endpoint is not None and endpoint.endpoint_status in ("InService", "Updating", "RollingBack"):
            return None
        message = f"Endpoint {told['EndpointName']} of account {self._number} not found."
        return request.refusal("ValidationError", message)

    def _next_failure(self, operation: str) -> Failure | None:
        return self._failures[operation].pop(0) if self._failures[operation] else None

    def _plan(self, thing: Any, name: str, now: dict[str, str], *later: dict[str, Any]) -> None:
        """Set what an endpoint or job is now, is at the next looks, and is in the end."""
        vars(thing).update(now)
        self._ahead[name] = [now] * self.patience + list(later)

    def _go_on(self, things: dict[str, Any], name: str) -> None:
        if self._ahead.get(name) and name in things:
            vars(things[name]).update(self._ahead[name].pop(0))

    def _log(self, group: str, stream: str, failure: Failure | None) -> None:
        if failure and failure.log:
            self._cloud.log(group, stream, failure.log)


def _model_error(status: int, body: bytes) -> str:
    side = "client" if status < 500 else "server"
    return f'Received {side} error ({status}) from primary with message "{body.decode(errors="replace")}".'
