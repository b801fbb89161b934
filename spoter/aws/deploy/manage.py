"""List and delete the resources of a deployment, and show its status and the logs of its containers."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from spoter.aws.choices import Mode
from spoter.aws.deploy import autoscale, batch, ownership, requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import POLL, format_event, is_of_job, tail_log, wait_until_idle


class Kind(StrEnum):
    """Kinds of resources in the order of deletion: a resource is deleted after all that use it."""

    scaling = "automatic scaling"
    alarm = "alarm"
    job = "running transform job"
    endpoint = "endpoint"
    config = "endpoint configuration"
    model = "model"
    object = "object"
    bucket = "bucket"
    log_group = "log group"


# The listing call, the key of its items, the prefix of their fields, and the deleting call.
_SAGEMAKER = {
    Kind.endpoint: ("list_endpoints", "Endpoints", "Endpoint", "delete_endpoint"),
    Kind.config: ("list_endpoint_configs", "EndpointConfigs", "EndpointConfig", "delete_endpoint_config"),
    Kind.model: ("list_models", "Models", "Model", "delete_model"),
    Kind.job: ("list_transform_jobs", "TransformJobSummaries", "TransformJob", "stop_transform_job"),
}
_FINISHED = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Resource:
    """A resource in the account with our tag and the endpoint's name; the name of an object is its s3:// address."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def status_lines(settings: Settings, account: Account) -> list[str]:
    """Return the state of the endpoint, one line per property.

    Raises
    ------
    DeployError
        If the endpoint does not exist.
    """
    endpoint = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if endpoint is None:
        raise DeployError(f"found no endpoint {settings.name} in {account.region}: create it with `spoter deploy`")
    config_name = endpoint["EndpointConfigName"]
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=config_name) or {}
    configured = (config.get("ProductionVariants") or [{}])[0]
    running = (endpoint.get("ProductionVariants") or [{}])[0]
    properties = {
        "endpoint": f"{settings.name} in {account.region}",
        "status": f"{endpoint['EndpointStatus']} since {endpoint['LastModifiedTime']:%Y-%m-%d %H:%M %Z}",
        "mode": requests.mode_of(config) if config else "unknown",
        "configuration": config_name,
        "variant": f"{running.get('VariantName', requests.VARIANT)}: {_describe_instances(running, configured)}",
    }
    if "ModelName" in configured:
        model = account.read("sagemaker", "describe_model", ModelName=configured["ModelName"]) or {}
        container = model.get("PrimaryContainer", {})
        properties |= {"model": configured["ModelName"], "image": container.get("Image", "unknown")}
        properties["archive"] = container.get("ModelDataUrl", "unknown")
    target = autoscale.find_target(settings, account)
    properties["scaling"] = f"{target['MinCapacity']} to {target['MaxCapacity']} instances" if target else "off"
    capture = config.get("DataCaptureConfig") or {}
    share = f"{capture.get('InitialSamplingPercentage')} % to {capture.get('DestinationS3Uri')}"
    properties["capture"] = share if capture.get("EnableCapture") else "off"
    properties["failure"] = endpoint.get("FailureReason") or "none"
    return [f"{name:14} {value}" for name, value in properties.items()]


def _describe_instances(running: dict[str, Any], configured: dict[str, Any]) -> str:
    serverless = running.get("CurrentServerlessConfig") or configured.get("ServerlessConfig")
    if serverless:
        return f"serverless, {serverless['MemorySizeInMB']} MB, max concurrency {serverless['MaxConcurrency']}"
    current, desired = running.get("CurrentInstanceCount", 0), running.get("DesiredInstanceCount", 0)
    return f"{current} instances of {configured.get('InstanceType', 'unknown type')}, {desired} desired"


def list_resources(settings: Settings, account: Account) -> list[Resource]:
    """Return all resources with our tag and the endpoint's name, in the order of deletion.

    The tags of SageMaker's resources are read one by one. AWS's index of tags (Resource Groups Tagging API) lags
    behind, and a resource that it misses would continue to cost money.
    """
    resources = [
        Resource(kind, item[f"{field}Name"])
        for kind, (_, _, field, _) in _SAGEMAKER.items()
        for item in _list_tagged(settings, account, kind)
        if kind != Kind.job or item["TransformJobStatus"] not in _FINISHED
    ]
    if autoscale.find_target(settings, account) is not None:
        resources.append(Resource(Kind.scaling, f"of endpoint {settings.name}"))
    if (alarm := autoscale.find_alarm(settings, account)) is not None:
        resources.append(Resource(Kind.alarm, alarm))
    for bucket, folder in _list_folders(settings, account, resources):
        keys = ownership.list_our_keys(settings, account, bucket, folder)
        resources += [Resource(Kind.object, f"s3://{bucket}/{key}") for key in keys]
        if ownership.is_our_bucket(settings, account, bucket) and ownership.holds_only(account, bucket, keys):
            resources.append(Resource(Kind.bucket, bucket))
    if ownership.is_our_log_group(settings, account):
        resources.append(Resource(Kind.log_group, requests.log_group(settings.name)))
    return sorted(resources, key=lambda resource: list(Kind).index(resource.kind))


def explain_remaining(settings: Settings, account: Account, resources: list[Resource]) -> list[str]:
    """Return one line, with the reason, for each thing that belongs to the deployment but is not in `resources`."""
    lines = []
    finished = [job for job in _list_tagged(settings, account, Kind.job) if job["TransformJobStatus"] in _FINISHED]
    if finished:
        lines.append(
            f"the records of {len(finished)} transform jobs stay: SageMaker cannot delete them, and they cost nothing"
        )
    for bucket, folder in _list_folders(settings, account, resources):
        keys = ownership.list_keys(account, bucket, folder)
        counts = Counter(key.removeprefix(folder).partition("/")[0] for key in keys)
        for name in ownership.UNTAGGED_FOLDERS:
            if counts[name]:
                address = f"s3://{bucket}/{folder}{name}/"
                lines.append(
                    f"{address} stays with {counts[name]} objects, which SageMaker wrote without our tag and which "
                    f"may hold people's landmarks: remove them with `aws s3 rm --recursive {address}`"
                )
        if Resource(Kind.bucket, bucket) not in resources and ownership.is_our_bucket(settings, account, bucket):
            lines.append(f"bucket {bucket} stays: it holds other objects than the archives of this deployment")
    return lines


def _list_tagged(settings: Settings, account: Account, kind: Kind) -> list[dict[str, Any]]:
    """Return SageMaker's resources of a kind that have our tag; their names contain the endpoint's name."""
    listing, key, field, _ = _SAGEMAKER[kind]
    tagged = []
    for item in account.pages("sagemaker", listing, key, NameContains=settings.name):
        tags = account.pages("sagemaker", "list_tags", "Tags", ResourceArn=item[f"{field}Arn"])
        if ownership.has_our_tag(settings, tags):
            tagged.append(item)
    return tagged


def _list_folders(settings: Settings, account: Account, resources: list[Resource]) -> list[tuple[str, str]]:
    models = [resource.name for resource in resources if resource.kind == Kind.model]
    return ownership.list_folders(settings, account, models)


def delete_resources(
    settings: Settings, account: Account, resources: list[Resource], show: Callable[[str], None], poll: float = POLL
) -> None:
    """Delete resources in the order of `list_resources`; ignore those that no longer exist.

    Raises
    ------
    DeployError
        If some could not be deleted, after all others were deleted; the text names each.
    """
    failures = []
    for resource in resources:
        try:
            _delete(settings, account, resource, show, poll)
        except CallError as error:
            if error.absent:
                show(f"{resource} does not exist any more")
                continue
            failures.append(f"{resource} could not be deleted: {error}")
        else:
            show(f"{'stopped' if resource.kind == Kind.job else 'removed'} {resource}")
    if failures:
        raise DeployError("\n".join(failures))


def _delete(settings: Settings, account: Account, resource: Resource, show: Callable[[str], None], poll: float) -> None:
    kind, name = resource.kind, resource.name

    def show_status(status: str) -> None:
        show(f"endpoint {name} is {status}: waiting for SageMaker")

    def wait() -> None:
        wait_until_idle(account, "describe_endpoint", name, show_status, poll)

    if kind == Kind.scaling:
        autoscale.remove_scaling(settings, account)
    elif kind == Kind.alarm:
        if autoscale.find_alarm(settings, account) is not None:  # deleting the scaling may have deleted it
            account.call("cloudwatch", "delete_alarms", AlarmNames=[name])
    elif kind == Kind.object:
        bucket, _, key = name.removeprefix("s3://").partition("/")
        account.call("s3", "delete_object", Bucket=bucket, Key=key)
    elif kind == Kind.bucket:
        account.call("s3", "delete_bucket", Bucket=name)
    elif kind == Kind.log_group:
        account.call("logs", "delete_log_group", logGroupName=name)
    else:
        if kind == Kind.endpoint:
            wait()  # SageMaker refuses to delete an endpoint during a change
        _, _, field, delete = _SAGEMAKER[kind]
        account.call("sagemaker", delete, **{f"{field}Name": name})
        if kind == Kind.endpoint:
            wait()  # its configuration is in use until then


def show_logs(
    settings: Settings, account: Account, follow: bool, show: Callable[[str], None], lines: int = 100, poll: float = 5.0
) -> None:
    """Show the last lines of the containers' logs; with `follow`, also new lines until interrupted.

    Raises
    ------
    DeployError
        If there are no lines, because the log group does not exist or is empty.
    """
    job = settings.name if settings.mode == Mode.batch else None
    group = batch.LOG_GROUP if job else requests.log_group(settings.name)
    since = round(time.time() * 1000)
    last = tail_log(account, group, job=job, lines=lines)
    if not last and not follow:
        raise DeployError(f"{group} is empty: no container of {settings.name} has started in {account.region}")
    for line in last:
        show(line)
    shown: set[str] = set()
    prefix = {"logStreamNamePrefix": f"{job}-"} if job else {}
    while follow:
        try:
            events = account.pages("logs", "filter_log_events", "events", logGroupName=group, startTime=since, **prefix)
        except CallError as error:
            if not error.absent:  # not yet: the first container creates the group
                raise
            events = []
        events = [event for event in events if job is None or is_of_job(event["logStreamName"], job)]
        for event in events:
            if event["eventId"] not in shown:
                show(format_event(event))
        shown = {event["eventId"] for event in events}
        # CloudWatch receives lines late and out of order: those of the last minute are read again.
        since = max(since, max((event["timestamp"] for event in events), default=since) - 60_000)
        time.sleep(poll)
