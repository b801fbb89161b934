"""Features that moto's SageMaker lacks: waiting, failures, updates, name conflicts, and containers that answer."""

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
    """The failure of the next creation or update."""

    reason: str
    log: tuple[str, ...]


class SageMakerDouble:
    """Emulates the operations and states of SageMaker that moto lacks; moto does everything else.

    Attributes
    ----------
    patience : int
        Number of queries for which a new endpoint or job is busy.
    unwritten : dict
        Asynchronous answers, by bucket and key, that have not been written to S3.
    """

    def __init__(self, cloud: Cloud, number: str, region: str):
        self._cloud, self._number, self._region = cloud, number, region
        self.patience = 1
        self.unwritten: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._failures: dict[str, list[Failure]] = defaultdict(list)
        # By endpoint or job: the changes of moto's object at each of the next queries.
        self._planned: dict[str, list[dict[str, Any]]] = {}

    @property
    def _backend(self) -> Any:
        return get_backend("sagemaker")[self._number][self._region]

    @property
    def _s3(self) -> Any:
        return get_backend("s3")[self._number]["aws"]

    def fail(self, operation: str, reason: str, log: tuple[str, ...] = ()) -> None:
        """Let the next CreateEndpoint, UpdateEndpoint or CreateTransformJob be accepted and then fail.

        Parameters
        ----------
        operation : str
            Name of the operation.
        reason : str
            FailureReason.
        log : tuple of str
            Lines of the container in CloudWatch.
        """
        self._failures[operation].append(Failure(reason, log))

    def shift_log_group(self, group: str, seconds: float) -> None:
        """Shift the creation time of a log group, which moto takes from its own clock."""
        get_backend("logs")[self._number][self._region].groups[group].creation_time += timedelta(seconds=seconds)

    def answer(self, request: Request) -> Answer | None:
        """Return an answer that moto cannot give, or None to forward the request to moto."""
        operation = getattr(self, f"_{request.operation}", None)
        conflict = self._name_conflict(request)
        return conflict or (operation(request, request.parameters) if operation is not None else None)

    def _name_conflict(self, request: Request) -> Answer | None:
        """Refuse a name that exists; moto replaces the old resource instead."""
        if request.operation not in _NAMES:
            return None
        backend, name = self._backend, request.parameters[_NAMES[request.operation]]
        resources, kind = {
            "CreateModel": (backend._models, "model"),
            "CreateEndpointConfig": (backend.endpoint_configs, "endpoint configuration"),
            "CreateEndpoint": (backend.endpoints, "endpoint"),
            "CreateTransformJob": (backend.transform_jobs, "transform job"),
        }[request.operation]
        if name not in resources:
            return None
        return request.refusal("ValidationException", f'Cannot create already existing {kind} "{name}".')

    def _CreateEndpoint(self, request: Request, parameters: dict) -> Answer:
        """Emulate an endpoint that starts slowly or fails; moto's is InService at once."""
        answer = self._cloud.forward(request)
        if answer.status == 200:
            name, failure = parameters["EndpointName"], self._next_failure("CreateEndpoint")
            end = {"endpoint_status": "InService"}
            if failure:
                end = {"endpoint_status": "Failed", "failure_reason": failure.reason}
            self._plan(self._backend.endpoints[name], name, {"endpoint_status": "Creating"}, end)
            self._log(ENDPOINT_LOGS.format(name), "AllTraffic/i-0123456789abcdef0", failure)
        return answer

    def _DescribeEndpoint(self, request: Request, parameters: dict) -> None:
        self._advance(self._backend.endpoints, parameters["EndpointName"])

    def _UpdateEndpoint(self, request: Request, parameters: dict) -> Answer:
        """Emulate updates, which moto lacks: Updating, then the new configuration or a rollback."""
        name, config_name = parameters["EndpointName"], parameters["EndpointConfigName"]
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
            if parameters.get("RetainAllVariantProperties"):
                fields = ("CurrentInstanceCount", "DesiredInstanceCount")
                for new, old in zip(variants, endpoint.production_variants, strict=True):
                    new.update({field: old[field] for field in fields if field in old and field in new})
            new = {"production_variants": variants, "data_capture_config": config.data_capture_config}
            new |= {"endpoint_config_name": config_name, "endpoint_status": "InService", "failure_reason": None}
            self._plan(endpoint, name, {"endpoint_status": "Updating"}, new)
        return Answer.of({"EndpointArn": endpoint.arn})

    def _CreateTransformJob(self, request: Request, parameters: dict) -> Answer:
        """Emulate a job that reads, predicts and writes; moto's does nothing and is Completed."""
        answer = self._cloud.forward(request)
        if answer.status == 200:
            name, failure = parameters["TransformJobName"], self._next_failure("CreateTransformJob")
            failure = failure or self._transform(parameters)
            end = {"transform_job_status": "Completed"}
            if failure:
                end = {"transform_job_status": "Failed", "failure_reason": failure.reason}
            self._plan(self._backend.transform_jobs[name], name, {"transform_job_status": "InProgress"}, end)
            self._log(JOB_LOGS, f"{name}/i-0123456789abcdef2", failure)
        return answer

    def _DescribeTransformJob(self, request: Request, parameters: dict) -> None:
        self._advance(self._backend.transform_jobs, parameters["TransformJobName"])

    def _StopTransformJob(self, request: Request, parameters: dict) -> Answer:
        """Emulate stopping a job, which moto lacks."""
        name = parameters["TransformJobName"]
        job = self._backend.transform_jobs.get(name)
        if job is None:
            return request.refusal("ValidationException", f"Could not find transform job '{name}'.")
        if job.transform_job_status != "InProgress":
            return request.refusal("ValidationException", f"The job is in status {job.transform_job_status}.")
        self._plan(job, name, {"transform_job_status": "Stopping"}, {"transform_job_status": "Stopped"})
        return Answer.of({})

    def _transform(self, parameters: dict) -> Failure | None:
        """Run a job with SplitType Line or None, BatchStrategy SingleRecord, and AssembleWith Line or None."""
        source, target = parameters["TransformInput"], parameters["TransformOutput"]
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
                if status >= 300:  # the whole job fails, as in SageMaker, with a general reason
                    log = f"{bucket}/{key}: ClientError: {status}: {answer.decode(errors='replace')}"
                    return Failure("ClientError: See job logs for more information", (log,))
                parts.append(answer + (b"\n" if target.get("AssembleWith") == "Line" else b""))
            name = key[len(prefix.rpartition("/")[0]) :].lstrip("/")
            out_key = "/".join(filter(None, [out.rstrip("/"), f"{name}.out"]))
            self._s3.put_object(out_bucket, out_key, b"".join(parts))
        return None

    def _InvokeEndpoint(self, request: Request, parameters: dict) -> Answer:
        """Emulate the data plane with the container's answers; moto's are fixed."""
        missing = self._not_serving(request, parameters)
        if missing:
            return missing
        status, content_type, body = self._cloud.container(request.body, parameters)
        if status < 300:
            return Answer(200, body, {"Content-Type": content_type, "x-Amzn-Invoked-Production-Variant": "AllTraffic"})
        error = {"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "OriginalStatusCode": status}
        error |= {"OriginalMessage": body.decode(errors="replace"), "Message": _model_error(status, body)}
        error["LogStreamArn"] = f"arn:aws:logs:{self._region}:{self._number}:log-group:x"
        return Answer.of(error, 424, **{"x-amzn-errortype": "ModelError"})

    def _InvokeEndpointAsync(self, request: Request, parameters: dict) -> Answer:
        """Emulate asynchronous answers: the output or failure object exists from the second query on."""
        missing = self._not_serving(request, parameters)
        if missing:
            return missing
        config = self._backend.endpoint_configs[
            self._backend.endpoints[parameters["EndpointName"]].endpoint_config_name
        ]
        output = config.async_inference_config["OutputConfig"]
        bucket, _, key = parameters["x-amzn-sagemaker-inputlocation"].removeprefix("s3://").partition("/")
        headers = {
            "content-type": parameters.get("x-amzn-sagemaker-content-type"),
            "accept": parameters.get("x-amzn-sagemaker-accept"),
        }
        headers["x-amzn-sagemaker-custom-attributes"] = parameters.get("x-amzn-sagemaker-custom-attributes")
        status, content_type, body = self._cloud.container(self._s3.get_object(bucket, key).value, headers)
        identity = str(uuid.uuid4())
        locations = {"OutputLocation": f"{output['S3OutputPath'].rstrip('/')}/{identity}.out"}
        if output.get("S3FailurePath"):
            locations["FailureLocation"] = f"{output['S3FailurePath'].rstrip('/')}/{identity}-error.out"
        if status >= 300:
            body, content_type = _model_error(status, body).encode(), "text/plain"
        location = locations.get("OutputLocation" if status < 300 else "FailureLocation")
        if location:
            out_bucket, _, key = location.removeprefix("s3://").partition("/")
            self.unwritten[out_bucket, key] = (body, content_type)
        answer = Answer.of({"InferenceId": identity})
        answer.status = 202
        answer.headers |= {f"X-Amzn-SageMaker-{name}": value for name, value in locations.items()}
        return answer

    def write(self, bucket: str, key: str) -> None:
        """Write an asynchronous answer to S3."""
        body, _ = self.unwritten.pop((bucket, key))
        self._s3.put_object(bucket, key, body)

    def _not_serving(self, request: Request, parameters: dict) -> Answer | None:
        endpoint = self._backend.endpoints.get(parameters["EndpointName"])
        if endpoint is not None and endpoint.endpoint_status in ("InService", "Updating", "RollingBack"):
            return None
        message = f"Endpoint {parameters['EndpointName']} of account {self._number} not found."
        return request.refusal("ValidationError", message)

    def _next_failure(self, operation: str) -> Failure | None:
        return self._failures[operation].pop(0) if self._failures[operation] else None

    def _plan(self, resource: Any, name: str, now: dict[str, str], *later: dict[str, Any]) -> None:
        """Set the state of an endpoint or job now, at the next queries, and at the end."""
        vars(resource).update(now)
        self._planned[name] = [now] * self.patience + list(later)

    def _advance(self, resources: dict[str, Any], name: str) -> None:
        if self._planned.get(name) and name in resources:
            vars(resources[name]).update(self._planned[name].pop(0))

    def _log(self, group: str, stream: str, failure: Failure | None) -> None:
        if failure and failure.log:
            self._cloud.log(group, stream, failure.log)


def _model_error(status: int, body: bytes) -> str:
    side = "client" if status < 500 else "server"
    return f'Received {side} error ({status}) from primary with message "{body.decode(errors="replace")}".'
