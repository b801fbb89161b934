"""What AWS and the way there do now and then, and what is no failure: nothing that stands well is taken away for it."""

from __future__ import annotations

from typing import Any

import pytest

from spoter.aws.deploy import autoscale, invoke, manage, requests
from spoter.aws.deploy import deploy as steps
from spoter.aws.deploy.account import Account, CallError, Unreachable
from spoter.aws.deploy.settings import DeployError
from tests import ROOT
from tests.aws.deploy.deploying import Run, deploy, endpoint, names, run, told_settings

ROLE_IS_NEW = (
    "Could not assume role arn:aws:iam::123456789012:role/spoter-endpoint. Please ensure that the role exists and "
    "allows principal 'sagemaker.amazonaws.com' to assume the role."
)
FAILED = Unreachable("sagemaker describe_endpoint: could not connect")
EXPIRED = CallError("sagemaker describe_endpoint", "ExpiredTokenException", "The security token is expired")


class Broken(Account):
    """AWS, where looks at one kind of thing fail from a certain one on, for a while."""

    def __init__(self, settings: Any, operation: str, error: DeployError, first: int, times: int):
        super().__init__(settings)
        self._broken, self._error, self._looks = operation, error, range(first, first + times)
        self.count = 0

    def call(self, service: str, operation: str, **parameters: Any) -> dict | None:
        if operation == self._broken:
            self.count += 1
            if self.count in self._looks:
                raise self._error
        return super().call(service, operation, **parameters)


def broken(cloud: Any, operation: str, error: DeployError, first: int, times: int, **fields: object) -> Run:
    settings = told_settings(**fields)
    account = Broken(settings, operation, error, first, times)
    done = deploy(cloud, settings, account)
    assert account.count >= first, "nothing was broken"
    return done


def test_a_connection_that_breaks_while_waiting_is_no_failure_of_the_endpoint(ready):
    """The first looks at the endpoint are the preflight's and the steps'; from the fourth on it is being made."""
    done = broken(ready, "describe_endpoint", FAILED, 4, 3)
    assert done.error is None and endpoint(ready)["EndpointStatus"] == "InService"
    assert "endpoint spoter: out of reach" in done.told


def test_credentials_that_run_out_while_waiting_take_nothing_away(ready):
    done = broken(ready, "describe_endpoint", EXPIRED, 4, 1000)
    assert done.error.exit_code == 1
    assert "The security token is expired. AWS continues with endpoint spoter" in str(done.error)
    assert names(ready)["endpoints"] == ["spoter"] and "DeleteEndpoint" not in done.changes
    assert run(ready).error is None and len(ready.called("CreateEndpoint")) == 0


def test_a_job_goes_on_when_nobody_can_look_at_it(ready, samples):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=(samples / "ich-welt.jsonl").read_bytes())
    told = {"mode": "batch", "input": "s3://clips/a.jsonl", "output": "s3://clips/out"}
    assert broken(ready, "describe_transform_job", FAILED, 1, 3, **told).error is None
    done = broken(ready, "describe_transform_job", EXPIRED, 1, 1000, **told)
    assert "AWS continues with transform job spoter-" in str(done.error) and "stop-transform-job" in done.told
    assert len(names(ready)["models"]) == 1


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(steps, "ROLE_POLL", 0.0)
    monkeypatch.setattr(invoke, "READY_POLL", 0.0)


def test_a_role_that_is_just_made_is_waited_for(ready, at_once):
    ready.refuse("CreateModel", "ValidationException", ROLE_IS_NEW, times=3)
    done = run(ready)
    assert done.error is None and done.changes.count("CreateModel") == 4
    assert done.told.count("it may be new") == 1


def test_a_role_that_stays_useless_is_told(ready, at_once):
    ready.refuse("CreateModel", "ValidationException", ROLE_IS_NEW)
    done = run(ready)
    assert "Could not assume role" in done.told and done.error.exit_code == 1
    assert done.changes.count("CreateModel") == steps.ROLE_ATTEMPTS and names(ready)["buckets"] == []


def test_another_refusal_is_not_tried_again(ready, at_once):
    ready.refuse("CreateModel", "ValidationException", "1 validation error detected")
    assert run(ready).changes.count("CreateModel") == 1


def test_a_serverless_endpoint_that_is_still_starting_is_asked_again(ready, at_once):
    ready.refuse("InvokeEndpoint", "ModelNotReadyException", "resources are being provisioned", times=4)
    assert run(ready, mode="serverless").error is None
    ready.refuse("InvokeEndpoint", "ModelNotReadyException", "resources are being provisioned")
    settings = told_settings(mode="serverless")
    with pytest.raises(CallError, match="ModelNotReadyException"):
        invoke.smoke_test(settings, Account(settings), ROOT / "models" / "dgs11", steps.SAMPLES)


def test_what_someone_else_removed_meanwhile_is_not_said_to_be_left(ready):
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    gone = 'Could not find endpoint "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/spoter".'
    ready.refuse("DeleteEndpoint", "ValidationException", gone)
    done = run(ready)
    assert "endpoint spoter is gone already" in done.told
    assert "left: nothing of this run" in str(done.error)


def test_an_update_that_is_taken_back_scales_as_before(ready, changed):
    """The settings have other bounds and another instance type, which takes scaling away for the update."""
    run(ready, autoscale="1:4", autoscale_target=77.0)
    client = ready.client("application-autoscaling")
    before = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    for fields in ({"autoscale": "2:8"}, {}):
        ready.sagemaker.fail("UpdateEndpoint", "no capacity")
        done = run(ready, model=changed, instance_type="ml.c5.xlarge", **fields)
        assert done.error.exit_code == 1 and "set up again automatic scaling" in done.told
        (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
        (after,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        field = "TargetTrackingScalingPolicyConfiguration"
        assert after[field] == before[0][field]


def test_going_back_takes_the_old_number_of_instances(ready, changed):
    run(ready)
    ready.container = lambda body, headers: (200, "application/json", b'{"instances": []}')
    run(ready, model=changed, instance_count=3)
    back = ready.called("UpdateEndpoint")[-1]
    assert not back["RetainAllVariantProperties"]
    assert endpoint(ready)["ProductionVariants"][0]["CurrentInstanceCount"] == 1


# --- the log group, which SageMaker makes and puts no tag on


def log_tags(cloud: Any) -> dict[str, str]:
    logs = cloud.client("logs")
    (group,) = logs.describe_log_groups(logGroupNamePrefix=requests.log_group("spoter"))["logGroups"]
    return logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"]


def test_the_log_group_of_a_run_that_was_interrupted_is_tagged_by_the_next(ready):
    run(ready)
    ready.log(requests.log_group("spoter"), "AllTraffic/i-1", ["loading"])
    assert log_tags(ready) == {}
    assert run(ready).changes == ["TagResource"] and log_tags(ready) == {requests.TAG: "spoter"}
    assert run(ready).changes == []


def test_the_log_group_of_someone_elses_endpoint_of_that_name_is_left_alone(ready):
    group = requests.log_group("spoter")
    ready.log(group, "AllTraffic/i-1", ["of another endpoint, long ago"])
    ready.sagemaker.logs_begin(group, -3600)
    done = run(ready)
    assert done.error is None and log_tags(ready) == {}
    assert f"{group} is older than the endpoint" in done.told
    settings = told_settings()
    assert not any(thing.kind == manage.Kind.log_group for thing in manage.list_resources(settings, Account(settings)))


# --- what is printed instead of done


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
def test_a_dry_run_prints_each_call_that_changes_something_as_it_is_made(ready, samples, fields, monkeypatch):
    monkeypatch.setattr(invoke, "ASYNC_POLL", 0.0)
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=(samples / "ich-welt.jsonl").read_bytes())
    settings, dry, made = told_settings(**fields), [], []
    done = deploy(ready, settings, Account(settings, dry_run=True, show=dry.append))
    assert done.error is None and ready.calls == []
    if settings.mode != "batch":
        ready.log(requests.log_group("spoter"), "AllTraffic/i-1", ["loading"])
        ready.sagemaker.logs_begin(requests.log_group("spoter"), 3600)
    assert deploy(ready, settings, Account(settings, show=made.append)).error is None
    assert changing(dry) == changing(made)
    looks = {word for word in verbs(made) if word not in ("list_tags", "list_tags_for_resource")}
    assert looks - set(verbs(dry)) <= {"get_caller_identity"}


def verbs(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines]


def changing(lines: list[str]) -> list[str]:
    return [word for word in verbs(lines) if not word.startswith(("describe", "list", "get", "head"))]


def test_jobs_of_a_deployment_with_a_name_like_ours_are_not_in_its_logs(ready):
    for stream in (
        "spoter-20260101-000000-000000/a",
        "spoter-20260102-000000-000000/b",
        "spoter-2-20260103-000000-000000/c",
    ):
        ready.log("/aws/sagemaker/TransformJobs", stream, [f"from {stream[-1]}"])
    for number in range(3):
        ready.log("/aws/sagemaker/TransformJobs", f"spoter-20250101-00000{number}-000000/x", ["from long ago"])
    settings, shown = told_settings(mode="batch", input="s3://a/b"), []
    manage.show_logs(settings, Account(settings), False, shown.append)
    said = [line.split(" ", 1)[1] for line in shown]
    assert "from a" in said and "from b" in said and "from c" not in said, "the newest three streams of this deployment"
    assert said.count("from long ago") == 1


def test_absent_is_said_in_words_by_sagemaker_alone():
    assert CallError("o", "ValidationException", 'Could not find model "arn".').absent
    assert CallError("o", "NoSuchKey", "").absent
    unknown_key = "The AWS Access Key Id you provided does not exist in our records."
    assert not CallError("o", "InvalidAccessKeyId", unknown_key).absent


def test_scaling_as_found_is_what_was_set_up(ready):
    run(ready, mode="async", autoscale="0:2", autoscale_target=3.0)
    settings = told_settings(mode="async")
    found = autoscale.with_current_scaling(settings, Account(settings))
    assert (found.autoscale, found.autoscale_target) == ("0:2", 3.0)
