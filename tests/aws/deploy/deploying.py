"""Helpers for tests of deployments: an account with a role, and a deployment in this process."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

from rich.console import Console

from spoter.aws.deploy import deploy as steps
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.progress import Reporter
from spoter.aws.deploy.settings import DeployError, Settings, read_settings
from tests.aws.deploy.cloud import ACCOUNT, REGION, Cloud

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
QUOTAS = {
    "ml.c5.large for endpoint usage": 10.0,
    "ml.c5.xlarge for endpoint usage": 10.0,
    "ml.c5.xlarge for transform job usage": 10.0,
    "Maximum total concurrency that can be allocated across all serverless endpoints": 10.0,
}
# Prefixes of read-only operations; for S3 they are HTTP methods.
READ_ONLY = ("Describe", "List", "Get", "HEAD", "GET", "Invoke")


@dataclass
class Run:
    """One run of `steps.deploy`: result lines, progress output, calls that changed something, and the error."""

    lines: list[str]
    output: str
    changes: list[str]
    error: DeployError | None


def make_role(cloud: Cloud, name: str = "spoter-endpoint") -> None:
    policy = {"Version": "2012-10-17", "Statement": [TRUST]}
    cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))


def make_alarm(cloud: Cloud, name: str) -> None:
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )


def run(cloud: Cloud, **fields: object) -> Run:
    """Deploy with these settings; a `DeployError` is part of the result."""
    settings = make_settings(**fields)
    return deploy(cloud, settings, Account(settings))


def deploy(cloud: Cloud, settings: Settings, account: Account) -> Run:
    console = Console(file=io.StringIO(), width=200)
    cloud.calls.clear()
    lines, error = [], None
    try:
        lines = steps.deploy(settings, account, Reporter(console), poll=0)
    except DeployError as raised:
        error = raised
    return Run(lines, console.file.getvalue(), changes(cloud), error)


def make_settings(**fields: object) -> Settings:
    return read_settings(None, fields)[0]


def changes(cloud: Cloud) -> list[str]:
    """Return the calls that changed something, in order; S3 calls with their kind of resource."""
    changing_calls = []
    for call in cloud.calls:
        if call.operation.startswith(READ_ONLY):
            continue
        suffix = ""
        if call.service == "s3":
            suffix = " object" if call.parameters["Key"] else " bucket"
            suffix += "".join(f" {name}" for name in ("publicAccessBlock", "tagging") if name in call.parameters)
        changing_calls.append(call.operation + suffix)
    return changing_calls


def resource_names(cloud: Cloud) -> dict[str, list[str]]:
    """Return the names of endpoints, configurations, models, buckets and objects in the account."""
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    return {
        "endpoints": [item["EndpointName"] for item in sagemaker.list_endpoints()["Endpoints"]],
        "configs": [item["EndpointConfigName"] for item in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "models": [item["ModelName"] for item in sagemaker.list_models()["Models"]],
        "buckets": buckets,
        "objects": [
            item["Key"] for bucket in buckets for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        ],
    }


def endpoint(cloud: Cloud, name: str = "spoter") -> dict:
    return cloud.client("sagemaker").describe_endpoint(EndpointName=name)
