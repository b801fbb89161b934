"""spoter/aws/iam: the policies are valid, and allow the calls of `spoter deploy`."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import boto3
import pytest
from cfnlint.api import lint

from tests import ROOT

IAM = ROOT / "spoter" / "aws" / "iam"
POLICIES = sorted(IAM.glob("*.json"))
README = (IAM / "README.md").read_text()
PLACEHOLDERS = dict(re.findall(r"-e s/([A-Z]+)/([\w-]+)/g", README))
# Services and operations whose permissions have other names: Service Authorization Reference, "Actions … for Amazon S3"
# and "… for Service Quotas"; SageMaker's runtime shares SageMaker's prefix.
SERVICES = ("application-autoscaling", "cloudwatch", "ecr", "iam", "logs", "s3", "sagemaker", "sagemaker-runtime")
SERVICES += ("service-quotas", "sts")
PREFIXES = {"service-quotas": "servicequotas", "sagemaker-runtime": "sagemaker"}
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:DeleteObjects": "s3:DeleteObject",
}
# Permissions that calls need indirectly, and permissions to read metrics.
IMPLIED = {
    "iam:PassRole",
    "iam:CreateServiceLinkedRole",
    "sagemaker:UpdateEndpointWeightsAndCapacities",
    "s3:AbortMultipartUpload",
    "s3:PutObjectTagging",
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
}


def filled(path: Path) -> dict:
    """Return a policy with the placeholders replaced as in the README's example."""
    text = path.read_text()
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return json.loads(text)


def findings(path: Path, policy: dict) -> list[str]:
    """Return the findings of cfn-lint, which knows AWS's actions, in a policy."""
    trust = path.stem.endswith("trust")
    kind = "Role" if trust else "ManagedPolicy"
    properties = {"AssumeRolePolicyDocument" if trust else "PolicyDocument": policy}
    template = {"Resources": {"It": {"Type": f"AWS::IAM::{kind}", "Properties": properties}}}
    return [str(match) for match in lint(json.dumps(template), regions=["eu-central-1"])]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_valid_and_their_actions_exist(path):
    assert findings(path, filled(path)) == []


def test_unknown_actions_are_detected():
    policy = filled(IAM / "endpoint-caller.json")
    policy["Statement"][0]["Action"] = "sagemaker:InvokeEndpont"
    assert any("InvokeEndpont".lower() in finding.lower() for finding in findings(IAM / "endpoint-caller.json", policy))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_permissions_are_limited_to_resources_where_possible(path):
    assert f"`{path.name}`" in README
    # Service Authorization Reference: these actions have no resource, or list all resources.
    broad = re.compile(
        r"sts:GetCallerIdentity|servicequotas:(Get|List)\w+|sagemaker:List\w+|ecr:GetAuthorizationToken"
        r"|cloudwatch:(PutMetricData|DescribeAlarms|GetMetric\w+)|application-autoscaling:\w+|tag:GetResources"
    )
    for statement in filled(path)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        if statement.get("Resource") == "*":
            assert [action for action in actions if not broad.fullmatch(action)] == []


def test_every_placeholder_is_documented_and_used():
    placeholders = {word for path in POLICIES for word in re.findall(r"\b[A-Z]{3,}\b", path.read_text())} - {"AWS"}
    assert placeholders == set(PLACEHOLDERS)
    assert all(f"`{placeholder}`" in README for placeholder in placeholders)


def test_role_can_be_passed_to_sagemaker_only():
    statements = {statement["Sid"]: statement for statement in filled(IAM / "deploying-user.json")["Statement"]}
    statement = statements["PassRoleToSageMaker"]
    assert (statement["Action"], statement["Resource"]) == (
        "iam:PassRole",
        "arn:aws:iam::123456789012:role/spoter-endpoint",
    )
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def required_permissions() -> tuple[set[str], dict[str, set[str]]]:
    """Return the permissions for the calls of `spoter deploy`.

    Returns
    -------
    set of str
        Permissions for calls of `Account` whose service and operation are literals.
    dict of str to set of str
        For each other string that is the name of an operation, for example in a table: its permissions in all services,
        because the code chooses the service at run time. Composed names such as ``create_{noun}`` are included.
    """
    session = boto3.Session("testing", "testing", region_name="eu-central-1")
    methods = {service: session.client(service).meta.method_to_api_mapping for service in SERVICES}
    exact, words = set(), set()
    for file in sorted((ROOT / "spoter" / "aws" / "deploy").glob("*.py")):
        tree = ast.parse(file.read_text())
        values = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= {node.value, f"{node.value}model", f"{node.value}endpoint_config"}
            if isinstance(node, ast.Call) and len(node.args) >= 2:
                service, operation = (
                    values.get(word.id) if isinstance(word, ast.Name) else getattr(word, "value", None)
                    for word in node.args[:2]
                )
                if isinstance(service, str) and isinstance(operation, str) and operation in methods.get(service, {}):
                    exact.add(permission(service, methods[service][operation]))
    possible = {
        word: {permission(service, names[word]) for service, names in methods.items() if word in names}
        for word in words
    }
    return exact, {word: permissions for word, permissions in possible.items() if permissions}


def permission(service: str, operation: str) -> str:
    name = f"{PREFIXES.get(service, service)}:{operation}"
    return ACTIONS.get(name, name)


def test_deploying_user_has_exactly_the_required_permissions():
    allowed = set()
    for statement in filled(IAM / "deploying-user.json")["Statement"]:
        allowed |= set(statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    exact, possible = required_permissions()
    assert {"sagemaker:CreateEndpoint", "logs:DescribeLogStreams", "s3:GetObject"} <= exact
    assert exact - allowed == set()
    assert {word: permissions for word, permissions in possible.items() if not permissions & allowed} == {}
    assert allowed - exact - set().union(*possible.values()) == IMPLIED
