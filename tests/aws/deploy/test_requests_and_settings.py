"""Names and bodies of requests, their validation with AWS's API models, and settings files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import botocore.session
import botocore.validate
import pytest

from spoter.aws.deploy import requests
from spoter.aws.deploy.deploy import build_archive
from spoter.aws.deploy.settings import DeployError, Settings, read_settings
from spoter.ops.archive import scan
from tests import ROOT

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/spoter-endpoint"
BUCKET = "sagemaker-eu-central-1-123456789012"
DIGEST = "ab" * 32


def make_settings(**fields: object) -> Settings:
    return read_settings(None, fields)[0]


def build_requests(settings: Settings, digest: str = DIGEST, role: str = ROLE) -> tuple[dict, dict]:
    data = f"s3://{BUCKET}/{requests.archive_key(settings, digest)}"
    model = requests.model_request(settings, role, requests.container(settings, REGION, data))
    return model, requests.config_request(settings, model["ModelName"], BUCKET)


def check_request(operation: str, request: dict) -> None:
    """Validate a request with botocore's model of SageMaker's API, and check the lengths of names."""
    model = botocore.session.get_session().get_service_model("sagemaker").operation_model(operation)
    report = botocore.validate.ParamValidator().validate(request, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    for key in ("ModelName", "EndpointConfigName", "EndpointName"):
        if key in request:
            assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", request[key])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mode": "serverless", "memory_mb": 2048},
        {"mode": "async", "autoscale": "0:3"},
        {"capture_percent": 20, "autoscale": "2:4", "rollback_alarms": ("errors",), "name": "a" * 40},
    ],
)
def test_requests_match_sagemakers_api_model(fields):
    settings = make_settings(**fields)
    model, config = build_requests(settings)
    check_request("CreateModel", model)
    check_request("CreateEndpointConfig", config)
    check_request("CreateEndpoint", requests.endpoint_request(settings, config["EndpointConfigName"]))
    check_request("UpdateEndpoint", requests.update_request(settings, config["EndpointConfigName"], 2))


def test_same_settings_give_the_same_names():
    assert build_requests(make_settings()) == build_requests(make_settings())


@pytest.mark.parametrize(
    ("fields", "digest", "role", "model_changes", "config_changes"),
    [
        ({}, "cd" * 32, ROLE, True, True),
        ({}, DIGEST, ROLE + "2", True, True),
        ({"image_uri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/spoter:1"}, DIGEST, ROLE, True, True),
        ({"environment": {"A": "b"}}, DIGEST, ROLE, True, True),
        ({"instance_type": "ml.g4dn.xlarge"}, DIGEST, ROLE, True, True),  # another image as well
        ({"instance_type": "ml.c5.xlarge"}, DIGEST, ROLE, False, True),
        ({"instance_count": 2}, DIGEST, ROLE, False, True),
        ({"capture_percent": 5}, DIGEST, ROLE, False, True),
        ({"tags": {"team": "signs"}}, DIGEST, ROLE, False, False),
        ({"rollback_alarms": ("errors",)}, DIGEST, ROLE, False, False),
        ({"autoscale": "1:4"}, DIGEST, ROLE, False, False),
        ({"autoscale": "2:4"}, DIGEST, ROLE, False, True),  # starts with two instances
    ],
)
def test_names_change_with_the_content(fields, digest, role, model_changes, config_changes):
    model, config = build_requests(make_settings())
    other_model, other_config = build_requests(make_settings(**fields), digest, role)
    assert (model["ModelName"] != other_model["ModelName"]) == model_changes
    assert (config["EndpointConfigName"] != other_config["EndpointConfigName"]) == config_changes


def test_image_depends_on_the_instance_type():
    images = {
        kind: requests.container(make_settings(instance_type=kind), REGION, "s3://b/k/model.tar.gz")["Image"]
        for kind in ("ml.c5.large", "ml.g4dn.xlarge", "ml.g5.xlarge", "ml.p4de.24xlarge")
    }
    assert images["ml.c5.large"].endswith(".dkr.ecr.eu-central-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312")
    del images["ml.c5.large"]
    assert {image.rpartition(":")[2] for image in images.values()} == {"2.6.0-gpu-py312"}
    own = requests.container(
        make_settings(image_uri="x/spoter:1", instance_type="ml.c7g.large"), REGION, "s3://b/k/m.tar.gz"
    )
    assert own["Image"] == "x/spoter:1"
    serverless = requests.container(
        make_settings(mode="serverless", instance_type="ml.g5.xlarge"), REGION, "s3://b/k/m.tar.gz"
    )
    assert serverless["Image"].endswith("2.6.0-cpu-py312")


@pytest.mark.parametrize(
    ("fields", "runtime"),
    [
        ({"instance_type": "ml.g4dn.xlarge"}, "torch"),
        ({"instance_type": "ml.p4de.24xlarge", "mode": "async"}, "torch"),
        ({"instance_type": "ml.c5.large"}, None),
        ({"instance_type": "ml.g5.xlarge", "mode": "serverless"}, None),
        ({"instance_type": "ml.g5.xlarge", "image_uri": "x/spoter:1"}, None),
    ],
)
def test_archive_for_an_image_with_cuda_has_runtime_torch(dgs11, tmp_path, fields, runtime):
    settings = make_settings(**fields)
    assert requests.choose_runtime(settings) == runtime
    image = requests.container(settings, REGION, "s3://b/k/model.tar.gz")["Image"]
    assert ("-gpu-" in image) == (runtime == "torch")
    packed = set(scan(build_archive(dgs11, tmp_path, requests.choose_runtime(settings))))
    assert packed & {"model.pth", "model.onnx"} == {"model.pth" if runtime else "model.onnx"}


@pytest.mark.parametrize(
    "kind", ["ml.c7g.large", "ml.m6gd.large", "ml.c6gn.large", "ml.r8g.large", "ml.p6e-gb200.36xlarge"]
)
def test_arm_processors_are_refused(kind):
    with pytest.raises(DeployError, match=f"{kind} .*ARM"):
        requests.container(make_settings(instance_type=kind), REGION, "s3://b/k/model.tar.gz")


@pytest.mark.parametrize("kind", ["ml.inf2.xlarge", "ml.trn1.2xlarge"])
def test_accelerators_for_compiled_models_are_refused(kind):
    with pytest.raises(DeployError, match=kind):
        requests.check_image(make_settings(instance_type=kind))


def test_region_without_the_image_is_refused():
    with pytest.raises(DeployError, match="moon-1"):
        requests.container(make_settings(), "moon-1", "s3://b/k/model.tar.gz")


def test_container_variables_name_the_program_and_users_variables_override():
    definition = requests.container(
        make_settings(environment={"SAGEMAKER_REGION": "x", "TS_A": "1"}), REGION, "s3://b/k/m.gz"
    )
    assert definition["ModelDataUrl"] == "s3://b/k/m.gz"
    environment = definition["Environment"]
    assert (environment["SAGEMAKER_PROGRAM"], environment["SAGEMAKER_REGION"]) == ("inference.py", "x")
    assert environment["TS_A"] == "1" and all(environment.values())


def test_update_of_a_scaled_endpoint_keeps_the_number_of_instances():
    scaled = make_settings(autoscale="1:4", mode="async")
    assert requests.update_request(scaled, "c", 3)["RetainAllVariantProperties"]
    # With no instance the update would be accepted though the new model never ran.
    assert not requests.update_request(scaled, "c", 0)["RetainAllVariantProperties"]
    assert not requests.update_request(make_settings(instance_count=2), "c", 3)["RetainAllVariantProperties"]


def test_rollback_alarms_are_part_of_an_update():
    without_alarms = requests.update_request(make_settings(), "c", 1)["DeploymentConfig"]
    assert "AutoRollbackConfiguration" not in without_alarms
    with_alarms = requests.update_request(make_settings(rollback_alarms=("a", "b")), "c", 1)["DeploymentConfig"]
    assert with_alarms["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]}
    assert with_alarms["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == requests.BAKING


def test_asynchronous_answers_and_failures_are_in_the_deployments_folder():
    _, config = build_requests(make_settings(mode="async"))
    output = config["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == f"s3://{BUCKET}/spoter/spoter/answers"
    assert output["S3FailurePath"] == f"s3://{BUCKET}/spoter/spoter/failures"
    _, config = build_requests(make_settings(mode="async", output="s3://other/answers"))
    assert config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://other/answers"


def test_mode_of_returns_the_mode_of_a_configuration():
    for mode in ("realtime", "serverless", "async"):
        assert requests.mode_of(build_requests(make_settings(mode=mode))[1]) == mode


def test_too_many_tags_are_refused():
    requests.tags(make_settings(tags={f"t{number}": "x" for number in range(9)}))
    with pytest.raises(DeployError, match="found 10 tags, expected at most 9"):
        requests.tags(make_settings(tags={f"t{number}": "x" for number in range(10)}))


# --- settings


def test_deploy_toml_lists_every_key_with_its_default(tmp_path):
    """Uncommenting all lines changes only the settings without a default."""
    text = (ROOT / "deploy.toml").read_text()
    assert read_settings(ROOT / "deploy.toml", {})[0] == Settings()
    uncommented = re.sub(r"(?m)^# (?=[a-z-]+ = |\[)", "", text)
    uncommented = re.sub(r"(?m)^# (?=TS_[A-Z_]+ = )", "", uncommented)
    (tmp_path / "deploy.toml").write_text(uncommented)
    listed, _ = read_settings(tmp_path / "deploy.toml", {"model": Settings().model})
    without_default = {"region", "profile", "bucket", "image_uri", "autoscale", "autoscale_target", "input", "output"}
    without_default |= {"environment", "tags"}
    for field in Settings.__struct_fields__:
        key = field.replace("_", "-")
        assert re.search(rf"(?m)^(# )?({key} = |\[{key}\])", text), f"deploy.toml does not show {key}"
        if field not in without_default:
            assert getattr(listed, field) == getattr(Settings(), field), field
        else:
            assert getattr(listed, field), field


def test_model_in_a_settings_file_is_relative_to_the_file(tmp_path):
    (tmp_path / "deploy.toml").write_text('model = "mine"')
    assert read_settings(tmp_path / "deploy.toml", {})[0].model == str(tmp_path / "mine")
    assert read_settings(tmp_path / "deploy.toml", {"model": "other"})[0].model == "other"
    assert read_settings(None, {})[0].model == str(ROOT / "models" / "dgs11")


def test_default_instance_type_of_batch_jobs_exists():
    model = botocore.session.get_session().get_service_model("sagemaker")
    types = model.shape_for("TransformInstanceType").enum
    assert make_settings(mode="batch").instance_type in types and make_settings().instance_type not in types
    assert make_settings(mode="batch", instance_type="ml.m5.large").instance_type == "ml.m5.large"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nam = "x"', "nam"),
        ('name = "has space"', "at name"),
        ('instance-count = "two"', "at instance-count"),
        ("memory-mb = 3000", "3000"),
        ('autoscale = "4"', "MIN:MAX"),
        ('autoscale = "0:4"', "async"),
        ("name = ", "TOML"),
    ],
)
def test_error_names_the_invalid_setting(tmp_path, text, message):
    (tmp_path / "deploy.toml").write_text(text)
    with pytest.raises(DeployError, match=message):
        read_settings(tmp_path / "deploy.toml", {})


def test_original_settings_file_is_read_without_its_keys(tmp_path):
    file = tmp_path / "config.json"
    credential = {"id": "AKIAEXAMPLE", "key": "secret", "region": "eu-west-1", "role": "old-role"}
    file.write_text(json.dumps({"credential": credential}))
    settings, warnings = read_settings(file, {})
    assert (settings.region, settings.role) == ("eu-west-1", "old-role")
    assert len(warnings) == 1 and str(file) in warnings[0]
    assert "AKIAEXAMPLE" not in warnings[0] and "secret" not in warnings[0]
    file.write_text('{"credential": []}')
    with pytest.raises(DeployError, match=r"config\.json: expected"):
        read_settings(file, {})


def test_missing_file_is_named(tmp_path):
    with pytest.raises(Exception, match=r"no.toml: No such file"):
        read_settings(Path(tmp_path, "no.toml"), {})
