"""Ownership by tag: resources with our tag are reused and deleted, all others are left alone."""

import time
from collections.abc import Iterable
from typing import Any

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError, bucket_name
from spoter.aws.deploy.settings import DeployError, Settings

# Folders to which SageMaker itself writes, without tags.
UNTAGGED_FOLDERS = ("answers", "failures", "captured")


class NameTaken(DeployError):
    """A resource of this name exists, but this deployment did not create it."""


def has_our_tag(settings: Settings, tags: list[dict[str, str]] | None) -> bool:
    """Return whether tags, in the form of SageMaker and S3, contain ours with the endpoint's name."""
    return {"Key": requests.TAG, "Value": settings.name} in (tags or [])


def check_ours(settings: Settings, account: Account, kind: str, description: dict[str, Any]) -> dict[str, str]:
    """Check that a ``Model``, ``EndpointConfig`` or ``Endpoint`` belongs to this deployment; return its tags.

    Raises
    ------
    NameTaken
        If it does not; the text lists its tags.
    """
    arn = description[f"{kind}Arn"]
    tags = {tag["Key"]: tag["Value"] for tag in account.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn)}
    if tags.get(requests.TAG) != settings.name:
        listed = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())) or "none"
        raise NameTaken(
            f"{arn} does not belong to this deployment: found tags {listed}, expected {requests.TAG}={settings.name}; "
            f"created on {description['CreationTime']:%Y-%m-%d}. Choose another name with --name"
        )
    return tags


def add_missing_tags(settings: Settings, account: Account, kind: str, description: dict[str, Any]) -> None:
    """Check the owner as `check_ours` does, and add the tags of the settings that the resource lacks."""
    missing = requests.missing_tags(settings, check_ours(settings, account, kind, description))
    if missing:
        tags = [{"Key": key, "Value": value} for key, value in missing.items()]
        account.call("sagemaker", "add_tags", ResourceArn=description[f"{kind}Arn"], Tags=tags)


def list_folders(settings: Settings, account: Account, models: Iterable[str]) -> list[tuple[str, str]]:
    """Return bucket and key prefix of the deployment's folders: from the settings and from its models' archives.

    So `spoter deploy delete --name NAME` works without the bucket and the prefix of the deployment.
    """
    folders = {(bucket_name(settings, account), f"{settings.prefix}/{settings.name}/")}
    for name in models:
        model = account.read("sagemaker", "describe_model", ModelName=name) or {}
        location = limits.split_s3_url(model.get("PrimaryContainer", {}).get("ModelDataUrl", ""))
        if location is not None:
            head, marker, _ = location[1].rpartition(f"/{settings.name}/")
            if marker:
                folders.add((location[0], head + marker))
    return sorted(folders)


def list_keys(account: Account, bucket: str, folder: str) -> list[str]:
    """Return the keys of all objects in a folder; an empty list if the bucket does not exist."""
    try:
        items = account.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=folder)
    except CallError as error:
        if error.code == "NoSuchBucket":
            return []
        raise
    return [item["Key"] for item in items]


def list_our_keys(settings: Settings, account: Account, bucket: str, folder: str) -> list[str]:
    """Return the keys of the objects in a folder that have our tag."""
    our_keys = []
    for key in list_keys(account, bucket, folder):
        if key.removeprefix(folder).partition("/")[0] in UNTAGGED_FOLDERS:
            continue
        tagging = account.read("s3", "get_object_tagging", Bucket=bucket, Key=key) or {}
        if has_our_tag(settings, tagging.get("TagSet")):
            our_keys.append(key)
    return our_keys


def is_our_bucket(settings: Settings, account: Account, bucket: str) -> bool:
    """Return whether this deployment created a bucket."""
    tagging = account.read("s3", "get_bucket_tagging", Bucket=bucket) or {}
    return has_our_tag(settings, tagging.get("TagSet"))


def holds_only(account: Account, bucket: str, keys: Iterable[str]) -> bool:
    """Return whether a bucket holds no objects except those with these keys."""
    keys = set(keys)
    listing = account.read("s3", "list_objects_v2", Bucket=bucket, MaxKeys=min(len(keys) + 1, 1000)) or {}
    return {item["Key"] for item in listing.get("Contents", [])} <= keys and not listing.get("IsTruncated")


def is_our_log_group(settings: Settings, account: Account) -> bool:
    """Return whether the endpoint's log group has our tag."""
    group = _find_log_group(settings, account)
    return group is not None and _log_tags(account, group[0]).get(requests.TAG) == settings.name


def tag_log_group(settings: Settings, account: Account, since: float) -> bool:
    """Put our tags on the endpoint's log group, which SageMaker creates without tags, so that `delete` finds it.

    `since` is the creation time of the endpoint in seconds since 1970. An older group without our tag is the log of
    someone else's endpoint of this name: it is not changed, and the result is False.
    """
    group = _find_log_group(settings, account)
    if group is None:
        return True
    arn, created = group
    tags = _log_tags(account, arn)
    if tags.get(requests.TAG) != settings.name and created < since:
        return False
    missing = requests.missing_tags(settings, tags)
    if missing:
        account.call("logs", "tag_resource", resourceArn=arn, tags=missing)
    return True


def _find_log_group(settings: Settings, account: Account) -> tuple[str, float] | None:
    """Return ARN and creation time, in seconds since 1970, of the endpoint's log group."""
    name = requests.log_group(settings.name)
    for group in account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name):
        if group["logGroupName"] == name:
            return group["arn"].removesuffix(":*"), group["creationTime"] / 1000
    if account.dry_run:  # a real run would find the group that the first container creates
        return f"arn:{account.partition}:logs:{account.region}:{account.account_id}:log-group:{name}", time.time()
    return None


def _log_tags(account: Account, arn: str) -> dict[str, str]:
    response = account.read("logs", "list_tags_for_resource", resourceArn=arn) or {}
    return dict(response.get("tags", {}))
