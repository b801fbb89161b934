"""Deployments with names that exist: endpoints in each state, and resources of other owners."""

from __future__ import annotations

import io
from typing import Any

from moto.backends import get_backend
from rich.console import Console

from spoter.aws.deploy import deploy, requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.progress import Reporter
from tests.aws.deploy.deploying import changes, endpoint, make_settings, resource_names, run


def test_mode_of_an_endpoint_cannot_change(ready):
    run(ready)
    before = resource_names(ready)
    second = run(ready, mode="async")
    assert second.changes == []
    assert "realtime" in str(second.error) and "async" in str(second.error) and second.error.exit_code == 2
    assert resource_names(ready) == before


def test_endpoint_of_another_owner_is_not_changed(ready):
    sagemaker = ready.client("sagemaker")
    run(ready, name="other")
    (config,) = resource_names(ready)["configs"]
    sagemaker.create_endpoint(EndpointName="spoter", EndpointConfigName=config, Tags=[{"Key": "team", "Value": "x"}])
    before = resource_names(ready)
    done = run(ready)
    assert done.changes == [] and done.error.exit_code == 2
    assert "spoter" in str(done.error) and "--name" in str(done.error)
    assert resource_names(ready) == before


def test_model_of_another_owner_is_not_changed(ready):
    run(ready)
    sagemaker = ready.client("sagemaker")
    (model,) = resource_names(ready)["models"]
    arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": requests.TAG, "Value": "theirs"}])
    done = run(ready)
    assert done.changes == [] and done.error.exit_code == 2
    assert f"{requests.TAG}=theirs" in str(done.error)


def test_failed_endpoint_is_created_again(ready):
    request = {"EndpointName": "spoter", "Tags": [{"Key": requests.TAG, "Value": "spoter"}]}
    run(ready, name="other")  # so that a configuration exists
    ready.sagemaker.fail("CreateEndpoint", "ran out of memory", ("java.lang.OutOfMemoryError",))
    ready.client("sagemaker").create_endpoint(EndpointConfigName=resource_names(ready)["configs"][0], **request)
    while endpoint(ready)["EndpointStatus"] != "Failed":
        pass
    done = run(ready)
    assert done.error is None
    assert done.changes.index("DeleteEndpoint") < done.changes.index("CreateEndpoint")
    assert "ran out of memory" in done.output and "java.lang.OutOfMemoryError" in done.output
    assert endpoint(ready)["EndpointStatus"] == "InService"


def test_endpoint_in_creation_is_awaited_and_tried(ready):
    run(ready)
    ready.client("sagemaker").delete_endpoint(EndpointName="spoter")
    ready.sagemaker.patience = 5
    request = {"EndpointName": "spoter", "EndpointConfigName": resource_names(ready)["configs"][0]}
    ready.client("sagemaker").create_endpoint(Tags=[{"Key": requests.TAG, "Value": "spoter"}], **request)
    done = run(ready)
    assert (done.error, done.changes) == (None, [])
    assert "endpoint spoter: Creating" in done.output
    assert ready.called("InvokeEndpoint")


def test_endpoint_in_deletion_is_awaited_and_created_again(ready):
    run(ready)
    endpoints = get_backend("sagemaker")["123456789012"]["eu-central-1"].endpoints
    endpoints["spoter"].endpoint_status = "Deleting"

    class DeletingAccount(Account):
        """AWS, where the deletion of the endpoint ends at the fifth query."""

        queries = 0

        def read(self, service: str, operation: str, **parameters: Any) -> dict | None:
            self.queries += operation == "describe_endpoint"
            if self.queries == 5:
                endpoints.pop("spoter", None)
            return super().read(service, operation, **parameters)

    ready.calls.clear()
    output = io.StringIO()
    assert deploy.deploy(make_settings(), DeletingAccount(make_settings()), Reporter(Console(file=output)), poll=0)
    assert "endpoint spoter: Deleting" in output.getvalue()
    assert changes(ready) == ["CreateEndpoint"]
