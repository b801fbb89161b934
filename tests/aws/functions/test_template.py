"""spoter/aws/template.yaml: checked by cfn-lint, translated by SAM's translator, and created by moto's server.

moto's CloudFormation lacks HTTP APIs and bucket policies, and ignores most properties of a bucket. The tests resolve
the references in these parts of the template and send them to moto's services with boto3, which checks them against
AWS's models.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cfnlint.api import lint
from moto.server import ThreadedMotoServer

from spoter.aws.functions.build_proxy import build
from spoter.ops.ports import LOOPBACK
from tests import ROOT

# moto's warning for each resource that it ignores (see the docstring).
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

TEMPLATE = ROOT / "spoter" / "aws" / "template.yaml"
REGION, NUMBER = "eu-central-1", "123456789012"
PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": NUMBER, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}
NO_VALUE = object()
ISSUER = "https://issuer.example/pool"


@pytest.fixture(scope="module")
def cloud() -> Iterator[None]:
    """moto's server, and environment variables that make boto3 and SAM's translator use it."""
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    values = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "NO_PROXY": LOOPBACK,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        yield
    server.stop()


@pytest.fixture(scope="module")
def translated(cloud: None) -> dict:
    """The template after the macro AWS::Serverless."""
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

    return transform(yaml_parse(TEMPLATE.read_text()), {}, None)


class Stack:
    """A stack in moto, and its template with resolved references."""

    def __init__(self, template: dict, name: str, **parameters: str):
        self.name = name
        self.parameters = {"AWS::StackName": name} | PSEUDO
        for key, declared in template["Parameters"].items():
            value = parameters.get(key, declared.get("Default"))
            self.parameters[key] = value.split(",") if declared["Type"] == "CommaDelimitedList" else value
        self.conditions = {key: self.resolve(value) for key, value in template["Conditions"].items()}
        arguments = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        body = json.dumps(template)
        formation = boto3.client("cloudformation")
        formation.create_stack(StackName=name, TemplateBody=body, Parameters=arguments, Capabilities=["CAPABILITY_IAM"])
        [description] = formation.describe_stacks(StackName=name)["Stacks"]
        self.status = description["StackStatus"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}
        listed = formation.list_stack_resources(StackName=name)["StackResourceSummaries"]
        self.physical = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in listed if len(entry) > 3}
        self.template = template

    def properties(self, resource: str) -> dict[str, Any]:
        return self.resolve(self.template["Resources"][resource]["Properties"])

    def resolve(self, value: Any) -> Any:
        """Evaluate those of CloudFormation's functions that the template uses."""
        if isinstance(value, list):
            return [resolved for item in value if (resolved := self.resolve(item)) is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(key, argument)] = value.items()
            if key == "Ref":
                return NO_VALUE if argument == "AWS::NoValue" else self._reference(argument)
            if key == "Fn::GetAtt":
                return self._reference(".".join(argument))
            if key == "Fn::Sub":
                return self._substitute(argument)
            if key == "Fn::If":
                return self.resolve(argument[1] if self.conditions[argument[0]] else argument[2])
            if key == "Fn::Equals":
                return self.resolve(argument[0]) == self.resolve(argument[1])
            if key == "Fn::Not":
                return not self.resolve(argument[0])
            if key == "Fn::Join":
                return argument[0].join(self.resolve(argument[1]))
            assert not key.startswith("Fn::"), key
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def _reference(self, name: str) -> Any:
        if name in self.parameters:
            return self.parameters[name]
        logical, _, attribute = name.partition(".")
        return f"{self.physical.get(logical, logical)}{f'.{attribute}' if attribute else ''}"

    def _substitute(self, text: str) -> str:
        head, *rest = text.split("${")
        pieces = [piece.partition("}") for piece in rest]
        return head + "".join(f"{self._reference(name)}{tail}" for name, _, tail in pieces)


@pytest.fixture(scope="module")
def code(cloud: None, dgs11: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parameters for the function's code in S3."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.upload_file(str(build(dgs11, tmp_path_factory.mktemp("zip"))), "code", "spoter/lambda.zip")
    return {"CodeBucket": "code", "CodeKey": "spoter/lambda.zip"}


@pytest.fixture(scope="module")
def endpoint_stack(translated: dict, code: dict[str, str]) -> Stack:
    pages = "https://page.example,https://other.example"
    token = {"Authorizer": "JWT", "JwtIssuer": ISSUER, "JwtAudience": "one,two"}
    return Stack(translated, "endpoint", **code, **token, EndpointName="my-signs", AllowedOrigins=pages)


@pytest.fixture(scope="module")
def function_stack(translated: dict, code: dict[str, str]) -> Stack:
    return Stack(translated, "function", **code, Backend="FUNCTION", Architecture="arm64")


def test_cfn_lint_has_no_findings():
    assert [str(match) for match in lint(TEMPLATE.read_text(), regions=[REGION])] == []


def test_stacks_are_created(endpoint_stack, function_stack):
    assert (endpoint_stack.status, function_stack.status) == ("CREATE_COMPLETE",) * 2
    functions = {
        function["FunctionName"]: function for function in boto3.client("lambda").list_functions()["Functions"]
    }
    function = functions[endpoint_stack.outputs["FunctionName"]]
    assert (function["Handler"], function["Runtime"], function["Timeout"]) == (
        "spoter.aws.functions.endpoint_proxy.handler",
        "python3.12",
        29,
    )
    assert function["Environment"]["Variables"]["SPOTER_ENDPOINT"] == "my-signs"
    assert function["Environment"]["Variables"]["SPOTER_ORIGINS"] == "https://page.example,https://other.example"
    function = functions[function_stack.outputs["FunctionName"]]
    assert (function["Handler"], function["MemorySize"]) == ("spoter.aws.functions.standalone.handler", 1769)
    assert function_stack.properties("Function")["Architectures"] == ["arm64"]  # moto does not store it
    assert set(function["Environment"]["Variables"]) == {"SPOTER_ORIGINS"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["endpoint", "function"])
def test_function_has_exactly_the_required_permissions(request, name):
    stack = request.getfixturevalue(f"{name}_stack")
    iam = boto3.client("iam")
    role = stack.physical["FunctionRole"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    allowed = {}
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        # moto returns a document from CloudFormation as the repr of a dict
        for statement in (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            allowed |= {action: (statement["Effect"], statement["Resource"]) for action in actions}
    invoke = allowed.pop("sagemaker:InvokeEndpoint", None)
    endpoint = f"arn:aws:sagemaker:{REGION}:{NUMBER}:endpoint/my-signs"
    assert invoke == (("Allow", endpoint) if name == "endpoint" else None)
    group = f"arn:aws:logs:{REGION}:{NUMBER}:log-group:/aws/lambda/{name}"
    assert {effect for effect, _ in allowed.values()} == {"Allow"}
    assert {resource.removesuffix(":*") for _, resource in allowed.values()} == {group}
    assert set(allowed) == {"logs:CreateLogStream", "logs:PutLogEvents"}
    trusted = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trusted] == [{"Service": "lambda.amazonaws.com"}]


def test_logs_expire(endpoint_stack):
    groups = boto3.client("logs").describe_log_groups()["logGroups"]
    days = {group["logGroupName"]: group.get("retentionInDays") for group in groups}
    assert days["/aws/lambda/endpoint"] == days["/aws/vendedlogs/endpoint-api"] == 30
    assert endpoint_stack.properties("Function")["LoggingConfig"] == {"LogGroup": "/aws/lambda/endpoint"}
    assert (
        "identity" not in endpoint_stack.properties("Stage")["AccessLogSettings"]["Format"]
    )  # no addresses of clients
    json.loads(endpoint_stack.properties("Stage")["AccessLogSettings"]["Format"])


def test_bucket_is_private(endpoint_stack):
    s3, bucket = boto3.client("s3"), endpoint_stack.outputs["BucketName"]
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    properties = endpoint_stack.properties("Bucket")
    s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
    )
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4 and all(blocked.values())
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=properties["OwnershipControls"])
    [rule] = properties["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 30)
    policy = endpoint_stack.properties("BucketPolicy")
    assert policy["Bucket"] == bucket
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy["PolicyDocument"]))
    [statement] = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


@pytest.mark.parametrize("authorizer", ["NONE", "AWS_IAM", "JWT"])
def test_api_has_authorizer_and_throttling(translated, code, authorizer):
    pages = {"AllowedOrigins": "https://page.example"} if authorizer == "NONE" else {}
    token = {"JwtIssuer": ISSUER, "JwtAudience": "one,two"} if authorizer == "JWT" else {}
    limits = {"RequestsPerSecond": "7", "RequestsAtOnce": "9"}
    stack = Stack(translated, f"api-{authorizer[:3]}", **code, **token, **pages, **limits, Authorizer=authorizer)
    assert stack.status == "CREATE_COMPLETE"
    gateway = boto3.client("apigatewayv2")
    api = gateway.create_api(**stack.properties("Api"))
    assert api.get("CorsConfiguration", {}).get("AllowOrigins") == (["https://page.example"] if pages else None)
    stack.physical["Api"] = api["ApiId"]
    created = gateway.create_integration(**stack.properties("Integration"))
    assert (created["IntegrationType"], created["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    stack.physical["Integration"] = created["IntegrationId"]
    if authorizer == "JWT":
        created = gateway.create_authorizer(**stack.properties("TokenAuthorizer"))
        assert created["JwtConfiguration"] == {"Audience": ["one", "two"], "Issuer": ISSUER}
        stack.physical["TokenAuthorizer"] = created["AuthorizerId"]
    for route in ("Invocations", "Ping"):
        created = gateway.create_route(**stack.properties(route))
        assert created["AuthorizationType"] == authorizer
        assert ("AuthorizerId" in created) == (authorizer == "JWT")
    stage = stack.properties("Stage")
    stage["DefaultRouteSettings"] = {key: int(value) for key, value in stage["DefaultRouteSettings"].items()}
    created = gateway.create_stage(**stage)
    assert (created["StageName"], created["AutoDeploy"]) == ("$default", True)
    assert created["DefaultRouteSettings"] == {"ThrottlingRateLimit": 7, "ThrottlingBurstLimit": 9}
    routes = {route["RouteKey"] for route in gateway.get_routes(ApiId=api["ApiId"])["Items"]}
    assert routes == {"POST /invocations", "GET /ping"}
    source = stack.properties("ApiPermission")["SourceArn"]
    assert source == f"arn:aws:execute-api:{REGION}:{NUMBER}:{api['ApiId']}/*"


def test_signatures_are_required_by_default(translated):
    declared = translated["Parameters"]
    assert (declared["Authorizer"]["Default"], declared["AllowedOrigins"]["Default"]) == ("AWS_IAM", "")


def test_template_sets_the_variables_that_the_code_reads(endpoint_stack):
    sources = [(TEMPLATE.parent / "functions" / name).read_text() for name in ("endpoint_proxy.py", "events.py")]
    words = {word for source in sources for word in source.replace('"', " ").split() if word.startswith("SPOTER_")}
    assert {word.strip(",.:") for word in words} == set(
        endpoint_stack.properties("Function")["Environment"]["Variables"]
    )
