"""What a deployment does with what it finds under its names: endpoints in each state, and things of someone else."""

from __future__ import annotations

import io
from typing import Any

from moto.backends import get_backend
from rich.console import Console

from spoter.aws.deploy import deploy, requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.progress import Reporter
from tests.aws.deploy.deploying import changes, endpoint, names, run, told_settings


def test_an_endpoint_keeps_its_mode(ready):
    run(ready)
    before = names(ready)
    again = run(ready, mode="async")
    assert again.changes == []
    assert "is of mode realtime, found mode async" in str(again.error) and again.error.exit_code == 2
    assert names(ready) == before


def test_a_name_of_someone_else_is_left_alone(ready):
    sagemaker = ready.client("sagemaker")
    run(ready, name="other")
    (config,) = names(ready)["configs"]
    sagemaker.create_endpoint(EndpointName="spoter", EndpointConfigName=config, Tags=[{"Key": "team", "Value": "x"}])
    before = names(ready)
    done = run(ready)
    assert done.changes == [] and done.error.exit_code == 2
    assert "spoter" in str(done.error) and "--name" in str(done.error)
    assert names(ready) == before


def test_a_model_of_someone_else_under_our_name_is_left_alone(ready):
    run(ready)
    sagemaker = ready.client("sagemaker")
    (model,) = names(ready)["models"]
    arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": requests.TAG, "Value": "theirs"}])
    done = run(ready)
    assert done.changes == [] and done.error.exit_code == 2
    assert f"{requests.TAG}=theirs" in str(done.error)


def test_an_endpoint_that_has_failed_earlier_is_made_anew(ready):
    make = {"EndpointName": "spoter", "Tags": [{"Key": requests.TAG, "Value": "spoter"}]}
    run(ready, name="other")  # for a configuration to stand on
    ready.sagemaker.fail("CreateEndpoint", "ran out of memory", ("java.lang.OutOfMemoryError",))
    ready.client("sagemaker").create_endpoint(EndpointConfigName=names(ready)["configs"][0], **make)
    while endpoint(ready)["EndpointStatus"] != "Failed":
        pass
    done = run(ready)
    assert done.error is None
    assert done.changes.index("DeleteEndpoint") < done.changes.index("CreateEndpoint")
    assert "ran out of memory" in done.told and "java.lang.OutOfMemoryError" in done.told
    assert endpoint(ready)["EndpointStatus"] == "InService"


def test_an_endpoint_that_is_being_made_is_waited_for_and_tried(ready):
    run(ready)
    ready.client("sagemaker").delete_endpoint(EndpointName="spoter")
    ready.sagemaker.patience = 5
    request = {"EndpointName": "spoter", "EndpointConfigName": names(ready)["configs"][0]}
    ready.client("sagemaker").create_endpoint(Tags=[{"Key": requests.TAG, "Value": "spoter"}], **request)
    done = run(ready)
    assert (done.error, done.changes) == (None, [])
    assert "endpoint spoter: Creating" in done.told
    assert ready.called("InvokeEndpoint")


def test_an_endpoint_that_is_being_deleted_is_waited_out_and_made_anew(ready):
    run(ready)
    endpoints = get_backend("sagemaker")["123456789012"]["eu-central-1"].endpoints
    endpoints["spoter"].endpoint_status = "Deleting"

    class Later(Account):
        """AWS, where the endpoint is gone at the fifth look at it."""

        looks = 0

        def read(self, service: str, operation: str, **parameters: Any) -> dict | None:
            self.looks += operation == "describe_endpoint"
            if self.looks == 5:
                endpoints.pop("spoter", None)
            return super().read(service, operation, **parameters)

    ready.calls.clear()
    told = io.StringIO()
    assert deploy.deploy(told_settings(), Later(told_settings()), Reporter(Console(file=told)), poll=0)
    assert "endpoint spoter: Deleting" in told.getvalue()
    assert changes(ready) == ["CreateEndpoint"]
