"""Transient errors of AWS and of the network, undone updates, tags of log groups, and dry runs."""

from __future__ import annotations

from typing import Any

import pytest

from spoter.aws.deploy import autoscale, invoke, manage, requests
from spoter.aws.deploy import deploy as steps
from spoter.aws.deploy.account import Account, CallError, Unreachable
from spoter.aws.deploy.settings import DeployError
from tests import ROOT
from tests.aws.deploy.deploying import Run, deploy, endpoint, make_settings, resource_names, run

ROLE_IS_NEW = (
    "Could not assume role arn:aws:iam::123456789012:role/spoter-endpoint. Please ensure that the role exists and "
    "allows principal 'sagemaker.amazonaws.com' to assume the role."
)
FAILED = Unreachable("sagemaker describe_endpoint: could not connect")
EXPIRED = CallError("sagemaker describe_endpoint", "ExpiredTokenException", "The security token is expired")


class FailingAccount(Account):
    """AWS, where calls of one operation fail, from call number `first` on, for `times` calls."""

    def __init__(self, settings: Any, operation: str, error: DeployError, first: int, times: int):
        super().__init__(settings)
        self._operation, self._error, self._failing = operation, error, range(first, first + times)
        self.count = 0

    def call(self, service: str, operation: str, **parameters: Any) -> dict | None:
        if operation == self._operation:
            self.count += 1
            if self.count in self._failing:
                raise self._error
        return super().call(service, operation, **parameters)


def deploy_with_errors(cloud: Any, operation: str, error: DeployError, first: int, times: int, **fields: object) -> Run:
    settings = make_settings(**fields)
    account = FailingAccount(settings, operation, error, first, times)
    done = deploy(cloud, settings, account)
    assert account.count >= first, "no call failed"
    return done


def test_broken_connection_while_waiting_does_not_fail_the_deployment(ready):
    """The first three queries are made by the preflight and the steps, the others during the creation."""
    done = deploy_with_errors(ready, "describe_endpoint", FAILED, 4, 3)
    assert done.error is None and endpoint(ready)["EndpointStatus"] == "InService"
    assert "endpoint spoter: AWS is unreachable" in done.output


def test_credentials_that_expire_while_waiting_remove_nothing(ready):
    done = deploy_with_errors(ready, "describe_endpoint", EXPIRED, 4, 1000)
    assert done.error.exit_code == 1
    assert "ExpiredTokenException" in str(done.error) and "endpoint spoter" in str(done.error)
    assert resource_names(ready)["endpoints"] == ["spoter"] and "DeleteEndpoint" not in done.changes
    assert run(ready).error is None and len(ready.called("CreateEndpoint")) == 0


def test_job_continues_when_its_status_cannot_be_read(ready, samples):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=(samples / "ich-welt.jsonl").read_bytes())
    fields = {"mode": "batch", "input": "s3://clips/a.jsonl", "output": "s3://clips/out"}
    assert deploy_with_errors(ready, "describe_transform_job", FAILED, 1, 3, **fields).error is None
    done = deploy_with_errors(ready, "describe_transform_job", EXPIRED, 1, 1000, **fields)
    assert "transform job spoter-" in str(done.error) and "stop-transform-job" in done.output
    assert len(resource_names(ready)["models"]) == 1


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(steps, "ROLE_POLL", 0.0)
    monkeypatch.setattr(invoke, "READY_POLL", 0.0)


def test_new_role_is_retried(ready, no_pauses):
    ready.refuse("CreateModel", "ValidationException", ROLE_IS_NEW, times=3)
    done = run(ready)
    assert done.error is None and done.changes.count("CreateModel") == 4
    assert done.output.count("Could not assume role") == 1


def test_role_that_stays_unusable_fails_the_deployment(ready, no_pauses):
    ready.refuse("CreateModel", "ValidationException", ROLE_IS_NEW)
    done = run(ready)
    assert "Could not assume role" in done.output and done.error.exit_code == 1
    assert done.changes.count("CreateModel") == steps.ROLE_ATTEMPTS and resource_names(ready)["buckets"] == []


def test_other_refusals_are_not_retried(ready, no_pauses):
    ready.refuse("CreateModel", "ValidationException", "1 validation error detected")
    assert run(ready).changes.count("CreateModel") == 1


def test_starting_serverless_endpoint_is_retried(ready, no_pauses):
    ready.refuse("InvokeEndpoint", "ModelNotReadyException", "resources are being provisioned", times=4)
    assert run(ready, mode="serverless").error is None
    ready.refuse("InvokeEndpoint", "ModelNotReadyException", "resources are being provisioned")
    settings = make_settings(mode="serverless")
    with pytest.raises(CallError, match="ModelNotReadyException"):
        invoke.smoke_test(settings, Account(settings), ROOT / "models" / "dgs11", steps.SAMPLES)


def test_resource_removed_by_someone_else_is_not_reported_as_left(ready):
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    message = 'Could not find endpoint "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/spoter".'
    ready.refuse("DeleteEndpoint", "ValidationException", message)
    done = run(ready)
    assert "endpoint spoter does not exist" in done.output
    assert "endpoint spoter" not in str(done.error)


def test_undone_update_restores_the_scaling(ready, changed_model):
    """The settings have other bounds, and another instance type, for which scaling is removed during the update."""
    run(ready, autoscale="1:4", autoscale_target=77.0)
    client = ready.client("application-autoscaling")
    before = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    for fields in ({"autoscale": "2:8"}, {}):
        ready.sagemaker.fail("UpdateEndpoint", "no capacity")
        done = run(ready, model=changed_model, instance_type="ml.c5.xlarge", **fields)
        assert done.error.exit_code == 1 and "restored automatic scaling" in done.output
        (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
        (after,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        field = "TargetTrackingScalingPolicyConfiguration"
        assert after[field] == before[0][field]


def test_rollback_uses_the_old_number_of_instances(ready, changed_model):
    run(ready)
    ready.container = lambda body, headers: (200, "application/json", b'{"instances": []}')
    run(ready, model=changed_model, instance_count=3)
    rollback = ready.called("UpdateEndpoint")[-1]
    assert not rollback["RetainAllVariantProperties"]
    assert endpoint(ready)["ProductionVariants"][0]["CurrentInstanceCount"] == 1


# --- the log group, which SageMaker creates without tags


def log_tags(cloud: Any) -> dict[str, str]:
    logs = cloud.client("logs")
    (group,) = logs.describe_log_groups(logGroupNamePrefix=requests.log_group("spoter"))["logGroups"]
    return logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"]


def test_log_group_of_an_interrupted_run_is_tagged_by_the_next_run(ready):
    run(ready)
    ready.log(requests.log_group("spoter"), "AllTraffic/i-1", ["loading"])
    assert log_tags(ready) == {}
    assert run(ready).changes == ["TagResource"] and log_tags(ready) == {requests.TAG: "spoter"}
    assert run(ready).changes == []


def test_older_log_group_is_not_tagged(ready):
    group = requests.log_group("spoter")
    ready.log(group, "AllTraffic/i-1", ["line of an older endpoint"])
    ready.sagemaker.shift_log_group(group, -3600)
    done = run(ready)
    assert done.error is None and log_tags(ready) == {}
    assert group in done.output
    settings = make_settings()
    assert not any(
        resource.kind == manage.Kind.log_group for resource in manage.list_resources(settings, Account(settings))
    )


# --- dry runs


@pytest.mark.parametrize(
    "fields",
    [
        {"autoscale": "1:4", "capture_percent": 5},
        {"mode": "serverless"},
        {"mode": "async", "autoscale": "0:2"},
        {"mode": "batch", "input": "s3://clips/a.jsonl"},
    ],
    ids=lambda fields: fields.get("mode", "realtime"),
)
def test_dry_run_prints_the_changing_calls_of_a_real_run(ready, samples, fields, monkeypatch):
    monkeypatch.setattr(invoke, "ASYNC_POLL", 0.0)
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=(samples / "ich-welt.jsonl").read_bytes())
    settings, dry_run, real_run = make_settings(**fields), [], []
    done = deploy(ready, settings, Account(settings, dry_run=True, show=dry_run.append))
    assert done.error is None and ready.calls == []
    if settings.mode != "batch":
        ready.log(requests.log_group("spoter"), "AllTraffic/i-1", ["loading"])
        ready.sagemaker.shift_log_group(requests.log_group("spoter"), 3600)
    assert deploy(ready, settings, Account(settings, show=real_run.append)).error is None
    assert changing(dry_run) == changing(real_run)
    reading = {verb for verb in verbs(real_run) if verb not in ("list_tags", "list_tags_for_resource")}
    assert reading - set(verbs(dry_run)) <= {"get_caller_identity"}


def verbs(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines]


def changing(lines: list[str]) -> list[str]:
    return [verb for verb in verbs(lines) if not verb.startswith(("describe", "list", "get", "head"))]


def test_logs_exclude_jobs_of_deployments_with_a_similar_name(ready):
    for stream in (
        "spoter-20260101-000000-000000/a",
        "spoter-20260102-000000-000000/b",
        "spoter-2-20260103-000000-000000/c",
    ):
        ready.log("/aws/sagemaker/TransformJobs", stream, [f"from {stream[-1]}"])
    for number in range(3):
        ready.log("/aws/sagemaker/TransformJobs", f"spoter-20250101-00000{number}-000000/x", ["from an old job"])
    settings, shown = make_settings(mode="batch", input="s3://a/b"), []
    manage.show_logs(settings, Account(settings), False, shown.append)
    messages = [line.split(" ", 1)[1] for line in shown]  # of the newest three streams of this deployment
    assert "from a" in messages and "from b" in messages and "from c" not in messages
    assert messages.count("from an old job") == 1


def test_absence_is_read_from_the_message_for_sagemaker_only():
    assert CallError("o", "ValidationException", 'Could not find model "arn".').absent
    assert CallError("o", "NoSuchKey", "").absent
    unknown_key = "The AWS Access Key Id you provided does not exist in our records."
    assert not CallError("o", "InvalidAccessKeyId", unknown_key).absent


def test_current_scaling_is_read_back(ready):
    run(ready, mode="async", autoscale="0:2", autoscale_target=3.0)
    settings = make_settings(mode="async")
    current = autoscale.with_current_scaling(settings, Account(settings))
    assert (current.autoscale, current.autoscale_target) == ("0:2", 3.0)
