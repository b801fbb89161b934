"""aws/iam: policies that AWS would take, and that allow what deploy.py calls."""

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
# Operations whose permission is called otherwise: Service Authorization Reference, "Actions … for Amazon S3" and
# "… for Service Quotas"; SageMaker's runtime shares SageMaker's prefix.
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
# What calls need beside their own permission, and what is for looking at metrics.
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
    """Return a policy with what the README's example puts in the place of the words in capitals."""
    text = path.read_text()
    for word, value in PLACEHOLDERS.items():
        text = text.replace(word, value)
    return json.loads(text)


def findings(path: Path, policy: dict) -> list[str]:
    """Return what cfn-lint, which knows AWS's actions, finds in a policy."""
    trust = path.stem.endswith("trust")
    kind = "Role" if trust else "ManagedPolicy"
    properties = {"AssumeRolePolicyDocument" if trust else "PolicyDocument": policy}
    template = {"Resources": {"It": {"Type": f"AWS::IAM::{kind}", "Properties": properties}}}
    return [str(match) for match in lint(json.dumps(template), regions=["eu-central-1"])]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_whole_and_their_actions_exist(path):
    assert findings(path, filled(path)) == []


def test_an_action_that_does_not_exist_would_be_found():
    policy = filled(IAM / "endpoint-caller.json")
    policy["Statement"][0]["Action"] = "sagemaker:InvokeEndpont"
    assert any("InvokeEndpont".lower() in finding.lower() for finding in findings(IAM / "endpoint-caller.json", policy))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_nothing_is_allowed_on_everything_that_can_be_narrowed(path):
    assert f"`{path.name}`" in README
    # Service Authorization Reference: these actions know no resource, or a list of them all.
    broad = re.compile(
        r"sts:GetCallerIdentity|servicequotas:(Get|List)\w+|sagemaker:List\w+|ecr:GetAuthorizationToken"
        r"|cloudwatch:(PutMetricData|DescribeAlarms|GetMetric\w+)|application-autoscaling:\w+|tag:GetResources"
    )
    for statement in filled(path)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        if statement.get("Resource") == "*":
            assert [action for action in actions if not broad.fullmatch(action)] == []


def test_every_word_in_capitals_is_explained_and_used():
    words = {word for path in POLICIES for word in re.findall(r"\b[A-Z]{3,}\b", path.read_text())} - {"AWS"}
    assert words == set(PLACEHOLDERS)
    assert all(f"`{word}`" in README for word in words)


def test_the_role_goes_to_sagemaker_only():
    statements = {statement["Sid"]: statement for statement in filled(IAM / "deploying-user.json")["Statement"]}
    handed = statements["HandRoleToSageMaker"]
    assert (handed["Action"], handed["Resource"]) == ("iam:PassRole", "arn:aws:iam::123456789012:role/spoter-endpoint")
    assert handed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def called() -> tuple[set[str], dict[str, set[str]]]:
    """Return the permissions of deploy.py's calls.

    Returns
    -------
    set of str
        Of those whose service and operation both stand where `Account` is called.
    dict of str to set of str
        For each operation whose name stands anywhere else, such as in a table, those it may be called by: which service
        is meant is decided when it runs. Names that are put together are those of ``create_{verb}`` and its like.
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
    loose = {
        word: {permission(service, names[word]) for service, names in methods.items() if word in names}
        for word in words
    }
    return exact, {word: permissions for word, permissions in loose.items() if permissions}


def permission(service: str, operation: str) -> str:
    name = f"{PREFIXES.get(service, service)}:{operation}"
    return ACTIONS.get(name, name)


def test_the_deploying_user_may_do_what_deploy_py_does_and_little_else():
    allowed = set()
    for statement in filled(IAM / "deploying-user.json")["Statement"]:
        allowed |= set(statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    exact, loose = called()
    assert {"sagemaker:CreateEndpoint", "logs:DescribeLogStreams", "s3:GetObject"} <= exact
    assert exact - allowed == set()
    assert {word: permissions for word, permissions in loose.items() if not permissions & allowed} == {}
    assert allowed - exact - set().union(*loose.values()) == IMPLIED
