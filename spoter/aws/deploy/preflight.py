"""What has to be there before a deployment begins: all that is missing is told at once, each with what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.ownership import check_ours
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.errors import SpoterError
from spoter.files import read_text
from spoter.model.config import parse_config
from spoter.model.folder import CONFIG, read_layout

# The service that takes on the role, in every partition (developer guide, "SageMaker AI execution roles").
_SERVICE = "sagemaker.amazonaws.com"
_ECR = re.compile(r"(?P<number>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<name>[^:@]+)(?P<version>[:@].+)?")


@dataclass
class Ground:
    """What a deployment stands on.

    Attributes
    ----------
    role_arn : str
        The role that the container runs as.
    bucket : str
    bucket_exists : bool
        Where not, it has to be made.
    warnings : list of str
        What does not stand in the way, and should be known.
    """

    role_arn: str = ""
    bucket: str = ""
    bucket_exists: bool = True
    warnings: list[str] = field(default_factory=list)


def check(settings: Settings, account: Account, model_dir: Path) -> Ground:
    """Look at everything that a deployment needs.

    In a dry run the calls are shown and nothing is known of the account: names stand in for what they would answer.

    Raises
    ------
    DeployError
        With all problems found, one a line.
    """
    ground = Ground()
    problems = limits.of_mode(settings, account.client("sagemaker"))
    for look in (_model, _tags_and_image):
        problems += _told(look, settings, model_dir, ground)
    reached = _told(_credentials, account)
    problems += reached
    if not reached:
        for look in (_role, _bucket, _image, _name, _alarms, _quota, _batch_input):
            problems += _told(look, settings, account, ground)
    if problems:
        raise DeployError("\n".join(["this cannot be deployed yet:", *(f"  - {problem}" for problem in problems)]))
    return ground


def bucket_name(settings: Settings, account: Account) -> str:
    """Return the bucket of a deployment: that of the settings, or else the SDK's own of the account and region."""
    return settings.bucket or f"sagemaker-{account.region}-{account.number}"


def _told(look: Any, *arguments: Any) -> list[str]:
    """Run a check; return the problems it yields, or the error it ends with."""
    found = []
    try:
        found.extend(look(*arguments) or ())
    except SpoterError as error:
        found.append(str(error))
    return found


def _model(settings: Settings, model_dir: Path, ground: Ground) -> list[str]:
    config = parse_config(read_text(model_dir / CONFIG), str(model_dir / CONFIG))
    ground.warnings += limits.payload(settings, config, len(read_layout(model_dir, config)))
    problems, warnings = limits.memory(settings, model_dir)
    ground.warnings += warnings
    return problems


def _tags_and_image(settings: Settings, model_dir: Path, ground: Ground) -> None:
    requests.tags(settings)
    requests.check_image(settings)


def _credentials(account: Account) -> None:
    account.number  # noqa: B018  asked for here, where its failure has a name


def _role(settings: Settings, account: Account, ground: Ground) -> list[str]:
    name = settings.role.rpartition("/")[2]
    arn = settings.role if settings.role.startswith("arn:") else None
    ground.role_arn = arn or f"arn:{account.partition}:iam::{account.number}:role/{name}"
    if arn is not None and arn.split(":")[4:5] != [account.number] and not account.dry_run:
        return [f"found role {arn}, which is of another account: expected one of account {account.number}"]
    try:
        found = account.read("iam", "get_role", RoleName=name)
    except CallError as error:
        if not error.denied:
            raise
        ground.warnings.append(f"role {name} could not be looked at, for lack of iam:GetRole: it is taken as it is")
        return []
    if account.dry_run:
        return []
    if found is None:
        return [f"found no role {name} in account {account.number}: make it as docs/deploy.md says, or name another"]
    ground.role_arn = found["Role"]["Arn"]
    if not _trusts(found["Role"]["AssumeRolePolicyDocument"]):
        return [
            f"role {name} cannot be assumed by {_SERVICE}: its trust policy has to allow sts:AssumeRole to that "
            "service, as aws/iam/ has it"
        ]
    return []


def _trusts(policy: dict) -> bool:
    statements = policy.get("Statement", [])
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        services = _list(principal.get("Service")) if isinstance(principal, dict) else [principal]
        allowed = {"sts:AssumeRole", "sts:*", "*"} & set(_list(statement.get("Action")))
        if statement.get("Effect") == "Allow" and allowed and {_SERVICE, "*"} & set(services):
            return True
    return False


def _list(value: Any) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _bucket(settings: Settings, account: Account, ground: Ground) -> list[str]:
    ground.bucket = bucket = bucket_name(settings, account)
    try:
        found = account.read("s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=account.number)
    except CallError as error:
        if not error.denied:
            raise
        return [
            f"found bucket {bucket}, which is another account's or may not be read: expected one of account "
            f"{account.number} with s3:ListBucket; name another with --bucket"
        ]
    if account.dry_run:
        ground.bucket_exists = settings.bucket is not None
        return []
    ground.bucket_exists = found is not None
    if found is None:
        made = f"aws s3 mb s3://{bucket} --region {account.region}"
        return [f"found no bucket {bucket}: `{made}` makes it, or leave bucket out"] if settings.bucket else []
    region = found.get("BucketRegion", account.region)
    if region != account.region:
        return [f"bucket {bucket} lies in {region}, expected one in {account.region}, where the endpoint is to be"]
    return []


def _image(settings: Settings, account: Account, ground: Ground) -> list[str]:
    uri = settings.image_uri
    if uri is None:
        return []
    match = _ECR.fullmatch(uri)
    if match is None:
        return [f"found image-uri {uri}, expected one in ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"]
    if match["region"] != account.region:
        return [
            f"image {uri} lies in {match['region']}, expected one in {account.region}: docker/push.sh puts one there"
        ]
    version = match["version"] or ":latest"
    wanted = {"imageDigest" if version[0] == "@" else "imageTag": version[1:]}
    where = {"registryId": match["number"], "repositoryName": match["name"], "imageIds": [wanted]}
    try:
        found = account.read("ecr", "describe_images", **where)
    except CallError as error:
        if not error.denied:
            raise
        ground.warnings.append(
            f"image {uri} could not be looked at, for lack of ecr:DescribeImages: it is taken as it is"
        )
        return []
    missing = found is None and not account.dry_run
    return [f"found no image {uri} in ECR: docker/push.sh puts it there"] if missing else []


def _name(settings: Settings, account: Account, ground: Ground) -> list[str]:
    if settings.mode == "batch":
        return []
    found = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if found is not None:
        check_ours(settings, account, "Endpoint", found)
    return []


def _alarms(settings: Settings, account: Account, ground: Ground) -> list[str]:
    """Look for the alarms of updates, which SageMaker looks for only when there is one."""
    names = list(settings.rollback_alarms)
    if not names:
        return []
    kinds = ["MetricAlarm", "CompositeAlarm"]
    found = account.read("cloudwatch", "describe_alarms", AlarmNames=names, AlarmTypes=kinds) or {}
    there = {alarm["AlarmName"] for kind in kinds for alarm in found.get(f"{kind}s", [])}
    missing = [] if account.dry_run else sorted(set(names) - there)
    return [f"found no CloudWatch alarm {name} in {account.region}: rollback-alarms names it" for name in missing]


def _quota(settings: Settings, account: Account, ground: Ground) -> list[str]:
    if settings.mode == "serverless":
        name = "Maximum total concurrency that can be allocated across all serverless endpoints"
        wanted = settings.max_concurrency
    else:
        scaling = settings.scaling()
        name = f"{settings.instance_type} for {'transform job' if settings.mode == 'batch' else 'endpoint'} usage"
        wanted = scaling.most if scaling else settings.instance_count
    try:
        quotas = account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker")
    except CallError as error:
        if not error.denied:
            raise
        ground.warnings.append("quotas could not be read, for lack of servicequotas:ListServiceQuotas: not checked")
        return []
    if account.dry_run:
        return []
    values = [quota["Value"] for quota in quotas if quota.get("QuotaName") == name]
    if not values:
        ground.warnings.append(f"Service Quotas does not tell {name!r}: not checked")
        return []
    if values[0] < wanted:
        return [
            f"the account's quota {name!r} is {values[0]:.0f}, expected at least {wanted}: ask for more in the console "
            "under Service Quotas, Amazon SageMaker; it takes hours to days"
        ]
    if settings.mode == "realtime" and values[0] < 2 * wanted:
        ground.warnings.append(
            f"the account's quota {name!r} is {values[0]:.0f}: an update runs old and new instances side by side and "
            f"needs up to {2 * wanted}"
        )
    return []


def _batch_input(settings: Settings, account: Account, ground: Ground) -> list[str]:
    place = limits.split(settings.input) if settings.mode == "batch" and settings.input else None
    if place is None:
        return []
    found = account.read("s3", "list_objects_v2", Bucket=place[0], Prefix=place[1], MaxKeys=2)
    if account.dry_run:
        return []
    contents = (found or {}).get("Contents", [])
    if not contents:
        return [f"found nothing under {settings.input}: expected JSON Lines, a clip a line"]
    if len(contents) > 1:
        ground.warnings.append(f"{settings.input} begins the keys of several objects: all of them are answered")
    return []
