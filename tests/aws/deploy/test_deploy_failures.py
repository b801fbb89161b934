"""Deployments that fail: what is told, what is taken away again, and that nothing older is touched."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import requests
from tests.aws.deploy.deploying import BUCKET, endpoint, names, run

NOTHING = {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}
LOG = ("Loading model: spoter", "ModuleNotFoundError: No module named 'msgspec'")


def test_a_container_that_does_not_start_is_told_with_its_log_and_all_is_removed_newest_first(ready):
    ready.sagemaker.fail("CreateEndpoint", "The primary container did not pass the ping health check.", LOG)
    done = run(ready)
    assert done.error.exit_code == 1 and "left: nothing of this run" in str(done.error)
    assert "did not pass the ping health check" in done.told
    assert all(line in done.told for line in LOG)
    assert names(ready) == NOTHING
    removed = [change for change in done.changes if change.startswith(("Delete", "DELETE"))]
    assert removed == ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel", "DELETE object", "DELETE bucket"]
    for what in ("endpoint spoter", "endpoint config spoter-", "model spoter-", f"bucket {BUCKET}"):
        assert f"removed {what}" in done.told


def test_what_was_there_before_a_failure_stays(ready):
    """The bucket with someone's object, another deployment, and the archive and model that an earlier run had made."""
    run(ready, name="other")
    s3 = ready.client("s3")
    s3.put_object(Bucket=BUCKET, Key="someone/else", Body=b"x")
    run(ready)
    ready.client("sagemaker").delete_endpoint(EndpointName="spoter")
    before = names(ready)
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    done = run(ready)
    assert done.error.exit_code == 1
    assert done.changes[-2:] == ["CreateEndpoint", "DeleteEndpoint"]
    assert names(ready) == before


def test_an_update_that_fails_leaves_the_old_model_serving(ready, changed):
    run(ready)
    before, serving = names(ready), endpoint(ready)["EndpointConfigName"]
    ready.sagemaker.fail("UpdateEndpoint", "alarm errors went off", LOG)
    done = run(ready, model=changed)
    assert done.error.exit_code == 1
    assert "alarm errors went off" in done.told and LOG[1] in done.told
    assert names(ready) == before
    assert (endpoint(ready)["EndpointConfigName"], endpoint(ready)["EndpointStatus"]) == (serving, "InService")
    assert done.changes.count("UpdateEndpoint") == 1, "SageMaker goes back by itself"
    assert run(ready).changes == []


def test_the_log_of_containers_that_serve_on_is_not_shown_as_the_failures(ready, changed, monkeypatch):
    """Streams older than the update are of the old instances."""
    run(ready)
    ready.log(requests.log_group("spoter"), "AllTraffic/i-old", ["an old container, well and serving"])
    ready.sagemaker.fail("UpdateEndpoint", "no capacity")
    monkeypatch.setattr("spoter.aws.deploy.endpoint.CLOCK_SKEW", -300)  # the stream above is 0 s old
    done = run(ready, model=changed)
    assert "no container has started" in done.told and "well and serving" not in done.told


def test_a_new_model_that_answers_otherwise_is_taken_back(ready, changed):
    run(ready)
    before, serving = names(ready), endpoint(ready)["EndpointConfigName"]
    ready.container = lambda body, headers: (200, "application/json", b'{"instances": [{"gloss": "X", "score": 1}]}')
    done = run(ready, model=changed)
    assert done.error.exit_code == 1 and "expected HALLO" in done.told
    assert names(ready) == before
    assert endpoint(ready)["EndpointConfigName"] == serving
    assert f"went back to configuration {serving}" in done.told


def test_an_upload_that_breaks_off_leaves_nothing(ready):
    ready.break_uploads = True
    done = run(ready)
    assert done.error.exit_code == 1
    assert names(ready) == NOTHING
    assert "CreateModel" not in done.changes
    ready.break_uploads = False
    assert run(ready).error is None
    assert not ready.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_an_upload_that_breaks_off_leaves_an_older_bucket_alone(ready):
    ready.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    ready.break_uploads = True
    done = run(ready)
    assert done.error.exit_code == 1 and "put_object" in done.told
    assert names(ready) == NOTHING | {"buckets": [BUCKET]}


def test_a_quota_that_is_used_up_takes_back_what_was_made(ready):
    ready.refuse("CreateEndpoint", "ResourceLimitExceeded", "The account-level service limit is 0 Instances")
    done = run(ready)
    assert "ResourceLimitExceeded: The account-level service limit" in done.told
    assert names(ready) == NOTHING


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(ready):
    ready.sagemaker.fail("CreateEndpoint", "no capacity")
    ready.refuse("DeleteModel", "AccessDeniedException", "not authorised")
    done = run(ready)
    (model,) = names(ready)["models"]
    assert f"left: model {model}" in str(done.error)
    assert names(ready) == NOTHING | {"models": [model]}


def test_a_role_that_is_missing_is_told_before_anything_is_made(cloud):
    cloud.quotas = {}
    done = run(cloud)
    assert done.error.exit_code == 2 and "no role spoter-endpoint" in str(done.error)
    assert done.changes == []


@pytest.mark.parametrize("operation", ["RegisterScalableTarget", "PutScalingPolicy"])
def test_scaling_that_is_refused_takes_back_the_deployment(ready, operation):
    ready.refuse(operation, "AccessDeniedException", "not authorised")
    done = run(ready, autoscale="1:4")
    assert done.error.exit_code == 1 and "not authorised" in done.told
    assert names(ready) == NOTHING
    scaling = ready.client("application-autoscaling")
    assert not scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
