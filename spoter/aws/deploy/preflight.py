"""Checks before a deployment starts; they report all problems at once, each with its fix."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spoter.aws.choices import Mode
from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError, bucket_name
from spoter.aws.deploy.ownership import check_ours
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.errors import SpoterError
from spoter.model.config import read_config
from spoter.model.folder import read_layout

# The service that assumes the role, in every AWS partition (developer guide, "SageMaker AI execution roles").
_SERVICE = "sagemaker.amazonaws.com"
_ECR = re.compile(r"(?P<number>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<name>[^:@]+)(?P<version>[:@].+)?")


@dataclass
class Preflight:
    """The checks of a deployment, and their results.

    A dry run shows the calls without reading the account; placeholders replace the results. `warnings` do not prevent
    a deployment. If `bucket_exists` is False, the bucket has to be created.
    """

    settings: Settings
    account: Account
    model_dir: Path
    role_arn: str = ""
    bucket: str = ""
    bucket_exists: bool = True
    warnings: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run all checks.

        Raises
        ------
        DeployError
            With all problems, one per line.
        """
        problems = limits.check_mode(self.settings, self.account.client("sagemaker"))
        problems += [*self._problems(self._check_model), *self._problems(self._check_requests)]
        unreachable = self._problems(self._check_credentials)
        problems += unreachable
        if not unreachable:
            unread = "not checked, because the permission is missing:"
            role = f"role {self.settings.role} {unread} iam:GetRole"
            image = f"image {self.settings.image_uri} {unread} ecr:DescribeImages"
            quotas = f"quotas {unread} servicequotas:ListServiceQuotas"
            problems += [*self._problems(self._check_role, role), *self._problems(self._check_bucket)]
            problems += [*self._problems(self._check_image, image), *self._problems(self._check_name)]
            problems += [*self._problems(self._check_alarms), *self._problems(self._check_quota, quotas)]
            problems += self._problems(self._check_batch_input)
        if problems:
            raise DeployError("\n".join(["cannot deploy yet:", *(f"  - {problem}" for problem in problems)]))

    def _problems(self, check: Callable[[], Iterable[str]], if_denied: str | None = None) -> list[str]:
        """Return the problems or the error of a check; if a permission is missing, warn with `if_denied` instead."""
        problems: list[str] = []
        try:
            problems.extend(check())
        except SpoterError as error:
            if if_denied is not None and isinstance(error, CallError) and error.denied:
                self.warnings.append(if_denied)
            else:
                problems.append(str(error))
        return problems

    def _check_model(self) -> list[str]:
        config = read_config(self.model_dir)
        self.warnings += limits.check_payload(self.settings, config, len(read_layout(self.model_dir, config)))
        problems, warnings = limits.check_memory(self.settings, self.model_dir)
        self.warnings += warnings
        return problems

    def _check_requests(self) -> tuple[()]:
        requests.tags(self.settings)
        requests.check_image(self.settings)
        return ()

    def _check_credentials(self) -> tuple[()]:
        self.account.account_id  # noqa: B018  the first call to AWS: it fails without credentials
        return ()

    def _check_role(self) -> Iterator[str]:
        account, role = self.account, self.settings.role
        name = role.rpartition("/")[2]
        is_arn = role.startswith("arn:")
        self.role_arn = role if is_arn else f"arn:{account.partition}:iam::{account.account_id}:role/{name}"
        if is_arn and role.split(":")[4:5] != [account.account_id] and not account.dry_run:
            yield f"role {role} belongs to another account: expected a role of account {account.account_id}"
            return
        response = account.read("iam", "get_role", RoleName=name)
        if account.dry_run:
            return
        if response is None:
            yield f"found no role {name} in account {account.account_id}: create it (docs/deploy.md) or set --role"
            return
        self.role_arn = response["Role"]["Arn"]
        if not _trusts_sagemaker(response["Role"]["AssumeRolePolicyDocument"]):
            yield (
                f"role {name} cannot be assumed by {_SERVICE}: allow it sts:AssumeRole in the trust policy, as in "
                "spoter/aws/iam/endpoint-trust.json"
            )

    def _check_bucket(self) -> Iterator[str]:
        account = self.account
        self.bucket = bucket = bucket_name(self.settings, account)
        try:
            response = account.read("s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=account.account_id)
        except CallError as error:
            if not error.denied:
                raise
            yield (
                f"bucket {bucket} belongs to another account, or the permission s3:ListBucket is missing: expected a "
                f"bucket of account {account.account_id}; choose another with --bucket"
            )
            return
        if account.dry_run:
            self.bucket_exists = self.settings.bucket is not None
            return
        self.bucket_exists = response is not None
        if response is None:
            if self.settings.bucket:
                command = f"aws s3 mb s3://{bucket} --region {account.region}"
                yield f"found no bucket {bucket}: create it with `{command}`, or omit bucket for the default"
            return
        region = response.get("BucketRegion", account.region)
        if region != account.region:
            yield f"bucket {bucket} is in {region}, expected {account.region}, the endpoint's region"

    def _check_image(self) -> Iterator[str]:
        uri, account = self.settings.image_uri, self.account
        if uri is None:
            return
        match = _ECR.fullmatch(uri)
        if match is None:
            yield f"image-uri {uri}: expected an image in ECR, ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"
            return
        if match["region"] != account.region:
            yield f"image {uri} is in {match['region']}, expected {account.region}: push it there with docker/push.sh"
            return
        version = match["version"] or ":latest"
        image = {"imageDigest" if version[0] == "@" else "imageTag": version[1:]}
        query = {"registryId": match["number"], "repositoryName": match["name"], "imageIds": [image]}
        if account.read("ecr", "describe_images", **query) is None and not account.dry_run:
            yield f"found no image {uri} in ECR: push it with docker/push.sh"

    def _check_name(self) -> tuple[()]:
        if self.settings.mode != Mode.batch:
            description = self.account.read("sagemaker", "describe_endpoint", EndpointName=self.settings.name)
            if description is not None:
                check_ours(self.settings, self.account, "Endpoint", description)
        return ()

    def _check_alarms(self) -> Iterator[str]:
        """Check that the alarms exist; SageMaker checks it only during an update."""
        names = list(self.settings.rollback_alarms)
        if not names:
            return
        kinds = ["MetricAlarm", "CompositeAlarm"]
        response = self.account.read("cloudwatch", "describe_alarms", AlarmNames=names, AlarmTypes=kinds) or {}
        existing = {alarm["AlarmName"] for kind in kinds for alarm in response.get(f"{kind}s", [])}
        for name in [] if self.account.dry_run else sorted(set(names) - existing):
            yield f"found no CloudWatch alarm {name} in {self.account.region}: create it or change rollback-alarms"

    def _check_quota(self) -> Iterator[str]:
        settings = self.settings
        if settings.mode == Mode.serverless:
            name = "Maximum total concurrency that can be allocated across all serverless endpoints"
            required = settings.max_concurrency
        else:
            bounds = settings.scaling()
            use = "transform job" if settings.mode == Mode.batch else "endpoint"
            name = f"{settings.instance_type} for {use} usage"
            required = bounds.maximum if bounds else settings.instance_count
        quotas = self.account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker")
        if self.account.dry_run:
            return
        value = next((quota["Value"] for quota in quotas if quota.get("QuotaName") == name), None)
        if value is None:
            self.warnings.append(f"quota {name!r} not checked: Service Quotas does not list it")
        elif value < required:
            yield (
                f"the account's quota {name!r} is {value:.0f}, expected at least {required}: request an increase in "
                "the console under Service Quotas, Amazon SageMaker; it takes hours to days"
            )
        elif settings.mode == Mode.realtime and value < 2 * required:
            self.warnings.append(
                f"the account's quota {name!r} is {value:.0f}: an update runs old and new instances together and "
                f"needs up to {2 * required}"
            )

    def _check_batch_input(self) -> Iterator[str]:
        location = limits.split_s3_url(self.settings.input or "")
        if self.settings.mode != Mode.batch or location is None:
            return
        response = self.account.read("s3", "list_objects_v2", Bucket=location[0], Prefix=location[1], MaxKeys=2)
        contents = (response or {}).get("Contents", [])
        if self.account.dry_run:
            return
        if not contents:
            yield f"found no objects under {self.settings.input}: expected JSON Lines with one clip per line"
        elif len(contents) > 1:
            self.warnings.append(f"several keys begin with {self.settings.input}: the job processes all of them")


def _trusts_sagemaker(policy: dict[str, Any]) -> bool:
    """Return whether a trust policy allows SageMaker to assume the role."""
    for statement in _as_list(policy.get("Statement")):
        principal = statement.get("Principal", {})
        services = _as_list(principal.get("Service")) if isinstance(principal, dict) else [principal]
        allowed = {"sts:AssumeRole", "sts:*", "*"} & set(_as_list(statement.get("Action")))
        if statement.get("Effect") == "Allow" and allowed and {_SERVICE, "*"} & set(services):
            return True
    return False


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
