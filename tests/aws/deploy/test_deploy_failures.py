"""Failing deployments: the report, the resources that are removed, and those that stay."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import requests
from tests.aws.deploy.deploying import BUCKET, endpoint, resource_names, run

EMPTY = {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}
LOG = ("Loading model: spoter", "ModuleNotFoundError: No module named 'msgspec'")


def test_container_that_does_not_start_is_reported_with_its_log_and_everything_is_removed_newest_first(ready):
    ready.sagemaker.fail("CreateEndpoint", "The primary container did not pass the ping health check.", LOG)
    done = run(ready)
    assert done.error.exit_code == 1 and "left: " in str(done.error)
    assert "did not pass the ping health check" in done.output
    assert all(line in done.output for line in LOG)
    assert resource_names(ready) == EMPTY
    removed = [change for change in done.changes if change.startswith(("Delete", "DELETE"))]
    assert removed == ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel", "DELETE object", "DELETE bucket"]
    for resource in ("endpoint spoter", "endpoint config spoter-", "model spoter-", f"bucket {BUCKET}"):
        assert f"removed {resource}" in done.output


def test_older_resources_stay_after_a_failure(ready):
    """A bucket with another object, another deployment, and the archive and model of an earlier run."""
    run(ready, name="other")
    s3 = ready.client("s3")
    s3.put_object(Bucket=BUCKET, Key="someone/else", Body=b"x")
    run(ready)
    ready.client("sagemaker").delete_endpoint(EndpointName="spoter")
    before = resource_names(ready)
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    done = run(ready)
    assert done.error.exit_code == 1
    assert done.changes[-2:] == ["CreateEndpoint", "DeleteEndpoint"]
    assert resource_names(ready) == before


def test_failed_update_keeps_serving_the_old_model(ready, changed_model):
    run(ready)
    before, serving = resource_names(ready), endpoint(ready)["EndpointConfigName"]
    ready.sagemaker.fail("UpdateEndpoint", "alarm errors went off", LOG)
    done = run(ready, model=changed_model)
    assert done.error.exit_code == 1
    assert "alarm errors went off" in done.output and LOG[1] in done.output
    assert resource_names(ready) == before
    assert (endpoint(ready)["EndpointConfigName"], endpoint(ready)["EndpointStatus"]) == (serving, "InService")
    assert done.changes.count("UpdateEndpoint") == 1, "SageMaker rolls back itself"
    assert run(ready).changes == []


def test_log_of_serving_containers_is_not_reported_for_a_failed_update(ready, changed_model, monkeypatch):
    """Log streams older than the update belong to the old instances."""
    run(ready)
    ready.log(requests.log_group("spoter"), "AllTraffic/i-old", ["line of a serving container"])
    ready.sagemaker.fail("UpdateEndpoint", "no capacity")
    monkeypatch.setattr(
        "spoter.aws.deploy.endpoint.CLOCK_SKEW", -300
    )  # so that the stream, created just now, counts as older
    done = run(ready, model=changed_model)
    assert "no capacity" in done.output and "line of a serving container" not in done.output


def test_update_is_undone_if_the_new_model_answers_differently(ready, changed_model):
    run(ready)
    before, serving = resource_names(ready), endpoint(ready)["EndpointConfigName"]
    ready.container = lambda body, headers: (200, "application/json", b'{"instances": [{"gloss": "X", "score": 1}]}')
    done = run(ready, model=changed_model)
    assert done.error.exit_code == 1 and "expected HALLO" in done.output
    assert resource_names(ready) == before
    assert endpoint(ready)["EndpointConfigName"] == serving
    assert f"configuration {serving}" in done.output


def test_interrupted_upload_leaves_nothing(ready):
    ready.break_uploads = True
    done = run(ready)
    assert done.error.exit_code == 1
    assert resource_names(ready) == EMPTY
    assert "CreateModel" not in done.changes
    ready.break_uploads = False
    assert run(ready).error is None
    assert not ready.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_interrupted_upload_keeps_an_older_bucket(ready):
    ready.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    ready.break_uploads = True
    done = run(ready)
    assert done.error.exit_code == 1 and "put_object" in done.output
    assert resource_names(ready) == EMPTY | {"buckets": [BUCKET]}


def test_exhausted_quota_removes_the_resources_of_the_run(ready):
    ready.refuse("CreateEndpoint", "ResourceLimitExceeded", "The account-level service limit is 0 Instances")
    done = run(ready)
    assert "ResourceLimitExceeded" in done.output
    assert resource_names(ready) == EMPTY


def test_resource_that_cannot_be_removed_is_named_and_the_others_are_removed(ready):
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    ready.refuse("DeleteModel", "AccessDeniedException", "not authorised")
    done = run(ready)
    (model,) = resource_names(ready)["models"]
    assert f"left: model {model}" in str(done.error)
    assert resource_names(ready) == EMPTY | {"models": [model]}


def test_missing_role_is_reported_before_anything_is_created(cloud):
    cloud.quotas = {}
    done = run(cloud)
    assert done.error.exit_code == 2 and "spoter-endpoint" in str(done.error)
    assert done.changes == []


@pytest.mark.parametrize("operation", ["RegisterScalableTarget", "PutScalingPolicy"])
def test_refused_scaling_undoes_the_deployment(ready, operation):
    ready.refuse(operation, "AccessDeniedException", "not authorised")
    done = run(ready, autoscale="1:4")
    assert done.error.exit_code == 1 and "not authorised" in done.output
    assert resource_names(ready) == EMPTY
    scaling = ready.client("application-autoscaling")
    assert not scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
