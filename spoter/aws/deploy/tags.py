"""What carries our tag outside SageMaker: objects, the bucket and the log group."""

from __future__ import annotations

import time
from collections.abc import Iterable

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.preflight import bucket_name
from spoter.aws.deploy.settings import Settings

# Where SageMaker itself writes, and puts no tags.
WRITTEN = ("answers", "failures", "captured")


def is_ours(settings: Settings, tags: list[dict[str, str]]) -> bool:
    """Tell whether tags, as SageMaker and S3 answer them, hold ours with the endpoint's name."""
    return {"Key": requests.TAG, "Value": settings.name} in tags


def folders(settings: Settings, account: Account, models: Iterable[str]) -> list[tuple[str, str]]:
    """Return the deployment's folders, each as bucket and beginning of keys: the settings', and those of its models.

    Whoever deletes by name alone need not know the bucket and the prefix that were deployed into.
    """
    found = {(bucket_name(settings, account), f"{settings.prefix}/{settings.name}/")}
    for name in models:
        model = account.read("sagemaker", "describe_model", ModelName=name) or {}
        place = limits.split(model.get("PrimaryContainer", {}).get("ModelDataUrl", ""))
        head, marker, _ = place[1].rpartition(f"/{settings.name}/") if place else ("", "", "")
        if marker:
            found.add((place[0], head + marker))
    return sorted(found)


def keys(account: Account, bucket: str, folder: str) -> list[str]:
    """Return the keys of all objects of a folder; none where there is no such bucket."""
    try:
        return [
            item["Key"] for item in account.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=folder)
        ]
    except CallError as error:
        if error.code == "NoSuchBucket":
            return []
        raise


def objects(settings: Settings, account: Account, bucket: str, folder: str) -> list[str]:
    """Return the keys of the folder's objects that carry our tag."""
    found = []
    for key in keys(account, bucket, folder):
        if key.removeprefix(folder).partition("/")[0] in WRITTEN:
            continue
        tags = account.read("s3", "get_object_tagging", Bucket=bucket, Key=key) or {}
        if is_ours(settings, tags.get("TagSet", [])):
            found.append(key)
    return found


def bucket_is_ours(settings: Settings, account: Account, bucket: str) -> bool:
    """Tell whether this deployment has made a bucket."""
    tags = account.read("s3", "get_bucket_tagging", Bucket=bucket) or {}
    return is_ours(settings, tags.get("TagSet", []))


def holds_only(account: Account, bucket: str, ours: Iterable[str]) -> bool:
    """Tell whether a bucket would be empty without the objects of these keys."""
    ours = set(ours)
    there = account.read("s3", "list_objects_v2", Bucket=bucket, MaxKeys=min(len(ours) + 1, 1000)) or {}
    return {item["Key"] for item in there.get("Contents", [])} <= ours and not there.get("IsTruncated")


def log_group_is_ours(settings: Settings, account: Account) -> bool:
    """Tell whether the endpoint's log group carries our tag."""
    group = _log_group(settings, account)
    return group is not None and _log_tags(account, group[0]).get(requests.TAG) == settings.name


def tag_logs(settings: Settings, account: Account, since: float) -> bool:
    """Put our tags on the endpoint's log group, which SageMaker makes without any, so that it is found again.

    Parameters
    ----------
    settings : Settings
    account : Account
    since : float
        When the endpoint was made, seconds since 1970. A group that is older holds what someone else's endpoint of
        this name has said, unless it carries our tag already.

    Returns
    -------
    bool
        False where there is a group and it is not ours.
    """
    group = _log_group(settings, account)
    if group is None:
        return True
    arn, made = group
    there = _log_tags(account, arn)
    if there.get(requests.TAG) != settings.name and made < since:
        return False
    missing = requests.missing_tags(settings, there)
    if missing:
        account.call("logs", "tag_resource", resourceArn=arn, tags=missing)
    return True


def _log_group(settings: Settings, account: Account) -> tuple[str, float] | None:
    """Return the endpoint's log group: its ARN, and when it was made, in seconds since 1970."""
    name = requests.log_group(settings.name)
    for group in account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name):
        if group["logGroupName"] == name:
            return group["arn"].removesuffix(":*"), group["creationTime"] / 1000
    if account.dry_run:  # the first container to speak will have made it
        return f"arn:{account.partition}:logs:{account.region}:{account.number}:log-group:{name}", time.time()
    return None


def _log_tags(account: Account, arn: str) -> dict[str, str]:
    return (account.read("logs", "list_tags_for_resource", resourceArn=arn) or {}).get("tags", {})
