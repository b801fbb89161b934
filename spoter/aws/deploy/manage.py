"""What a deployment consists of in the account: told, listed, removed; and what its containers say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from spoter.aws.deploy import autoscale, batch, requests, tags
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import BUSY, POLL, is_of_job, shown, tail, watch

# Kinds in the order in which they are removed: nothing is removed before what uses it.
SCALING, ALARM, JOB, ENDPOINT = "automatic scaling", "alarm", "running transform job", "endpoint"
CONFIG, MODEL, OBJECT, BUCKET, LOG = "endpoint configuration", "model", "object", "bucket", "log group"
ORDER = (SCALING, ALARM, JOB, ENDPOINT, CONFIG, MODEL, OBJECT, BUCKET, LOG)

# SageMaker's: kind, listing, key of the listing, name and ARN in it, deleting verb.
_LISTED = (
    (ENDPOINT, "list_endpoints", "Endpoints", "Endpoint", "delete_endpoint"),
    (CONFIG, "list_endpoint_configs", "EndpointConfigs", "EndpointConfig", "delete_endpoint_config"),
    (MODEL, "list_models", "Models", "Model", "delete_model"),
    (JOB, "list_transform_jobs", "TransformJobSummaries", "TransformJob", "stop_transform_job"),
)
_DONE = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Owned:
    """Something in the account that carries our tag with the endpoint's name.

    Attributes
    ----------
    kind : str
        One of `ORDER`.
    name : str
        For objects the s3:// address.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def status(settings: Settings, account: Account) -> list[str]:
    """Return what there is to say about the endpoint, a line each.

    Raises
    ------
    DeployError
        Where there is no such endpoint.
    """
    found = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if found is None:
        if account.dry_run:
            return []
        raise DeployError(f"found no endpoint {settings.name} in {account.region}: `python deploy.py` makes it")
    config_name = found["EndpointConfigName"]
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=config_name) or {}
    variants = config.get("ProductionVariants") or [{}]
    told = {
        "endpoint": f"{settings.name} in {account.region}",
        "status": f"{found['EndpointStatus']} since {found['LastModifiedTime']:%Y-%m-%d %H:%M %Z}",
        "mode": requests.mode_of(config) if config else "unknown",
        "configuration": config_name,
    }
    running = (found.get("ProductionVariants") or [{}])[0]
    told["variant"] = f"{running.get('VariantName', requests.VARIANT)}: {_instances(running, variants[0])}"
    if "ModelName" in variants[0]:
        model = account.read("sagemaker", "describe_model", ModelName=variants[0]["ModelName"]) or {}
        container = model.get("PrimaryContainer", {})
        told |= {"model": variants[0]["ModelName"], "image": container.get("Image", "unknown")}
        told["archive"] = container.get("ModelDataUrl", "unknown")
    told["scaling"] = _scaling(settings, account)
    capture = config.get("DataCaptureConfig") or {}
    enabled = capture.get("EnableCapture")
    percent, place = capture.get("InitialSamplingPercentage"), capture.get("DestinationS3Uri")
    told["capture"] = f"{percent} % to {place}" if enabled else "off"
    told["failure"] = found.get("FailureReason") or "none"
    return [f"{name:14} {value}" for name, value in told.items()]


def _instances(variant: dict, configured: dict) -> str:
    serverless = variant.get("CurrentServerlessConfig") or configured.get("ServerlessConfig")
    if serverless:
        return f"serverless, {serverless['MemorySizeInMB']} MB, at most {serverless['MaxConcurrency']} requests at once"
    now, wanted = variant.get("CurrentInstanceCount", 0), variant.get("DesiredInstanceCount", 0)
    return f"{now} instances of {configured.get('InstanceType', 'unknown type')}, {wanted} wanted"


def _scaling(settings: Settings, account: Account) -> str:
    target = autoscale.find_target(settings, account)
    return f"{target['MinCapacity']} to {target['MaxCapacity']} instances" if target else "off"


def owned(settings: Settings, account: Account) -> list[Owned]:
    """Return all that carries our tag with the endpoint's name, in the order in which it can be removed.

    SageMaker's things are asked for their tags one by one. AWS has an index of tags (Resource Groups Tagging API), but
    that lags behind, and what it does not yet show would be paid for.
    """
    found = [
        Owned(kind, item[f"{prefix}Name"])
        for kind, _, _, prefix, _ in _LISTED
        for item in _listed(settings, account, kind)
        if kind != JOB or item["TransformJobStatus"] not in _DONE
    ]
    if autoscale.find_target(settings, account) is not None:
        found.append(Owned(SCALING, f"of endpoint {settings.name}"))
    if (alarm := autoscale.find_alarm(settings, account)) is not None:
        found.append(Owned(ALARM, alarm["AlarmName"]))
    for bucket, folder in _folders(settings, account, found):
        keys = tags.objects(settings, account, bucket, folder)
        found += [Owned(OBJECT, f"s3://{bucket}/{key}") for key in keys]
        if tags.bucket_is_ours(settings, account, bucket) and tags.holds_only(account, bucket, keys):
            found.append(Owned(BUCKET, bucket))
    if tags.log_group_is_ours(settings, account):
        found.append(Owned(LOG, requests.log_group(settings.name)))
    return sorted(found, key=lambda thing: ORDER.index(thing.kind))


def stays(settings: Settings, account: Account, things: list[Owned]) -> list[str]:
    """Return what belongs to the deployment besides `owned` and is left where it is, a line each, with the reason."""
    told = []
    done = [item for item in _listed(settings, account, JOB) if item["TransformJobStatus"] in _DONE]
    if done:
        told.append(f"the record of {len(done)} transform jobs stays: SageMaker deletes none, and they cost nothing")
    for bucket, folder in _folders(settings, account, things):
        counted = Counter(key.removeprefix(folder).partition("/")[0] for key in tags.keys(account, bucket, folder))
        for name in tags.WRITTEN:
            if counted[name]:
                place = f"s3://{bucket}/{folder}{name}/"
                told.append(
                    f"{place} stays with {counted[name]} objects: SageMaker wrote them without our tag, and they may "
                    f"be of persons: `aws s3 rm --recursive {place}` removes them"
                )
        if Owned(BUCKET, bucket) not in things and tags.bucket_is_ours(settings, account, bucket):
            told.append(f"bucket {bucket} stays: it holds more than the archives of this deployment")
    return told


def _listed(settings: Settings, account: Account, kind: str) -> list[dict]:
    """Return what SageMaker lists of a kind and carries our tag; our names all hold the endpoint's."""
    _, listing, key, prefix, _ = next(row for row in _LISTED if row[0] == kind)
    found = []
    for item in account.pages("sagemaker", listing, key, NameContains=settings.name):
        if tags.is_ours(settings, account.pages("sagemaker", "list_tags", "Tags", ResourceArn=item[f"{prefix}Arn"])):
            found.append(item)
    return found


def _folders(settings: Settings, account: Account, things: list[Owned]) -> list[tuple[str, str]]:
    return tags.folders(settings, account, [thing.name for thing in things if thing.kind == MODEL])


def delete(
    settings: Settings, account: Account, things: list[Owned], show: Callable[[str], None], poll: float = POLL
) -> None:
    """Remove what `owned` has listed; what is gone already is no error.

    Raises
    ------
    DeployError
        Where something could not be removed, after all others were; the text names each.
    """
    failed = []
    for thing in sorted(things, key=lambda thing: ORDER.index(thing.kind)):
        try:
            _delete(settings, account, thing, show, poll)
        except CallError as error:
            if error.absent:
                show(f"{thing} is gone already")
                continue
            failed.append(f"{thing} is left: {error}")
        else:
            show(f"removed {thing}" if thing.kind != JOB else f"stopped {thing}")
    if failed:
        raise DeployError("\n".join(failed))


def _delete(settings: Settings, account: Account, thing: Owned, show: Callable[[str], None], poll: float) -> None:
    if thing.kind == SCALING:
        autoscale.remove(settings, account)
    elif thing.kind == ALARM:
        if autoscale.find_alarm(settings, account) is not None:  # it may have gone with the scaling
            account.call("cloudwatch", "delete_alarms", AlarmNames=[thing.name])
    elif thing.kind == OBJECT:
        bucket, _, key = thing.name.removeprefix("s3://").partition("/")
        account.call("s3", "delete_object", Bucket=bucket, Key=key)
    elif thing.kind == BUCKET:
        account.call("s3", "delete_bucket", Bucket=thing.name)
    elif thing.kind == LOG:
        account.call("logs", "delete_log_group", logGroupName=thing.name)
    else:
        _, _, _, prefix, verb = next(row for row in _LISTED if row[0] == thing.kind)
        if thing.kind == ENDPOINT:
            _settle(account, thing.name, show, poll)  # SageMaker deletes none that is being made or updated
        account.call("sagemaker", verb, **{f"{prefix}Name": thing.name})
        if thing.kind == ENDPOINT:
            _settle(account, thing.name, show, poll)  # its configuration is in use until it is gone


def _settle(account: Account, name: str, show: Callable[[str], None], poll: float) -> None:
    seen = ""

    def tell(status: str) -> None:
        nonlocal seen
        if status != seen:
            show(f"endpoint {name} is {status}: waiting for SageMaker")
        seen = status

    watch(account, "describe_endpoint", name, BUSY, tell, poll)


def logs(
    settings: Settings, account: Account, follow: bool, show: Callable[[str], None], lines: int = 100, poll: float = 5.0
) -> None:
    """Show what the containers said last, and with `follow` what they say from now on, until interrupted.

    Raises
    ------
    DeployError
        Where they have said nothing: there is no log group yet, or it is empty.
    """
    jobs = settings.mode == "batch"
    group = batch.LOG_GROUP if jobs else requests.log_group(settings.name)
    job = settings.name if jobs else None
    since = round(time.time() * 1000)
    last = tail(account, group, job=job, lines=lines)
    if not last and not follow and not account.dry_run:
        raise DeployError(f"{group} holds nothing: no container of {settings.name} has started in {account.region}")
    for line in last:
        show(line)
    seen: set[str] = set()
    told = {"logStreamNamePrefix": f"{job}-"} if job else {}
    while follow and not account.dry_run:
        try:
            events = account.pages("logs", "filter_log_events", "events", logGroupName=group, startTime=since, **told)
        except CallError as error:
            if error.code != "ResourceNotFoundException":  # the first container makes the group
                raise
            events = []
        events = [event for event in events if job is None or is_of_job(event["logStreamName"], job)]
        for event in events:
            if event["eventId"] not in seen:
                show(shown(event))
        seen = {event["eventId"] for event in events}
        # CloudWatch takes in lines late and out of order: those of the last minute are asked for again.
        since = max(since, max((event["timestamp"] for event in events), default=since) - 60_000)
        time.sleep(poll)
