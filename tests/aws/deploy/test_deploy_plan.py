"""Names and bodies of requests: what changes them, what AWS's own service model says of them, and what settings say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import botocore.session
import botocore.validate
import pytest

from spoter.aws.deploy import requests as plan
from spoter.aws.deploy.deploy import build_archive
from spoter.aws.deploy.settings import DeployError, Settings, read_settings
from spoter.ops.archive import scan
from tests import ROOT

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/spoter-endpoint"
BUCKET = "sagemaker-eu-central-1-123456789012"
DIGEST = "ab" * 32


def settings(**fields: object) -> Settings:
    return read_settings(None, fields)[0]


def requests(told: Settings, digest: str = DIGEST, role: str = ROLE) -> tuple[dict, dict]:
    data = f"s3://{BUCKET}/{plan.archive_key(told, digest)}"
    model = plan.model_request(told, role, plan.container(told, REGION, data))
    return model, plan.config_request(told, model["ModelName"], BUCKET)


def accepted(operation: str, request: dict) -> None:
    """Hold a request against the shape that botocore knows of SageMaker's API, and its enums and lengths of names."""
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
def test_requests_have_the_shape_of_sagemakers_api(fields):
    told = settings(**fields)
    model, config = requests(told)
    accepted("CreateModel", model)
    accepted("CreateEndpointConfig", config)
    accepted("CreateEndpoint", plan.endpoint_request(told, config["EndpointConfigName"]))
    accepted("UpdateEndpoint", plan.update_request(told, config["EndpointConfigName"], 2))


def test_the_same_settings_give_the_same_names():
    assert requests(settings()) == requests(settings())


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
        ({"autoscale": "2:4"}, DIGEST, ROLE, False, True),  # begins with two
    ],
)
def test_a_name_changes_with_what_it_names(fields, digest, role, model_changes, config_changes):
    model, config = requests(settings())
    other_model, other_config = requests(settings(**fields), digest, role)
    assert (model["ModelName"] != other_model["ModelName"]) == model_changes
    assert (config["EndpointConfigName"] != other_config["EndpointConfigName"]) == config_changes


def test_the_image_goes_with_the_instance_type():
    images = {
        kind: plan.container(settings(instance_type=kind), REGION, "s3://b/k/model.tar.gz")["Image"]
        for kind in ("ml.c5.large", "ml.g4dn.xlarge", "ml.g5.xlarge", "ml.p4de.24xlarge")
    }
    assert images["ml.c5.large"].endswith(".dkr.ecr.eu-central-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312")
    del images["ml.c5.large"]
    assert {image.rpartition(":")[2] for image in images.values()} == {"2.6.0-gpu-py312"}
    own = plan.container(settings(image_uri="x/spoter:1", instance_type="ml.c7g.large"), REGION, "s3://b/k/m.tar.gz")
    assert own["Image"] == "x/spoter:1"
    serverless = plan.container(settings(mode="serverless", instance_type="ml.g5.xlarge"), REGION, "s3://b/k/m.tar.gz")
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
def test_the_archive_for_an_image_with_cuda_runs_in_torch_which_alone_uses_it(dgs11, tmp_path, fields, runtime):
    chosen = settings(**fields)
    assert plan.choose_runtime(chosen) == runtime
    image = plan.container(chosen, REGION, "s3://b/k/model.tar.gz")["Image"]
    assert ("-gpu-" in image) == (runtime == "torch")
    packed = set(scan(build_archive(dgs11, tmp_path, plan.choose_runtime(chosen))))
    assert packed & {"model.pth", "model.onnx"} == {"model.pth" if runtime else "model.onnx"}


@pytest.mark.parametrize(
    "kind", ["ml.c7g.large", "ml.m6gd.large", "ml.c6gn.large", "ml.r8g.large", "ml.p6e-gb200.36xlarge"]
)
def test_arm_processors_are_refused_before_the_sdk_takes_an_image_of_another(kind):
    with pytest.raises(DeployError, match=f"{kind}, which has an ARM processor.*--image-uri"):
        plan.container(settings(instance_type=kind), REGION, "s3://b/k/model.tar.gz")


@pytest.mark.parametrize("kind", ["ml.inf2.xlarge", "ml.trn1.2xlarge"])
def test_accelerators_that_want_compiled_models_are_refused(kind):
    with pytest.raises(DeployError, match="compiled for its accelerator"):
        plan.check_image(settings(instance_type=kind))


def test_a_region_without_the_image_is_told():
    with pytest.raises(DeployError, match="finds no image: Unsupported region: moon-1"):
        plan.container(settings(), "moon-1", "s3://b/k/model.tar.gz")


def test_the_container_finds_the_archives_functions_and_the_users_variables_win():
    definition = plan.container(settings(environment={"SAGEMAKER_REGION": "x", "TS_A": "1"}), REGION, "s3://b/k/m.gz")
    assert definition["ModelDataUrl"] == "s3://b/k/m.gz"
    environment = definition["Environment"]
    assert (environment["SAGEMAKER_PROGRAM"], environment["SAGEMAKER_REGION"]) == ("inference.py", "x")
    assert environment["TS_A"] == "1" and all(environment.values())


def test_an_update_keeps_as_many_instances_as_scaling_has_made():
    scaled = settings(autoscale="1:4", mode="async")
    assert plan.update_request(scaled, "c", 3)["RetainAllVariantProperties"]
    # from no instance the new model would be called good without having run
    assert not plan.update_request(scaled, "c", 0)["RetainAllVariantProperties"]
    assert not plan.update_request(settings(instance_count=2), "c", 3)["RetainAllVariantProperties"]


def test_alarms_watch_an_update_while_the_old_instances_are_still_there():
    plain = plan.update_request(settings(), "c", 1)["DeploymentConfig"]
    assert "AutoRollbackConfiguration" not in plain
    watched = plan.update_request(settings(rollback_alarms=("a", "b")), "c", 1)["DeploymentConfig"]
    assert watched["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]}
    assert watched["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == plan.BAKING


def test_asynchronous_answers_and_failures_lie_in_the_deployments_folder():
    _, config = requests(settings(mode="async"))
    output = config["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == f"s3://{BUCKET}/spoter/spoter/answers"
    assert output["S3FailurePath"] == f"s3://{BUCKET}/spoter/spoter/failures"
    _, config = requests(settings(mode="async", output="s3://other/answers"))
    assert config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://other/answers"


def test_mode_of_knows_what_it_made():
    for mode in ("realtime", "serverless", "async"):
        assert plan.mode_of(requests(settings(mode=mode))[1]) == mode


def test_too_many_tags_are_refused():
    plan.tags(settings(tags={f"t{number}": "x" for number in range(9)}))
    with pytest.raises(DeployError, match="found 10 tags, expected at most 9"):
        plan.tags(settings(tags={f"t{number}": "x" for number in range(10)}))


# --- settings


def test_deploy_toml_shows_every_key_with_its_default(tmp_path):
    """Each commented line, put into force, changes nothing but what has no default to show."""
    text = (ROOT / "deploy.toml").read_text()
    assert read_settings(ROOT / "deploy.toml", {})[0] == Settings()
    live = re.sub(r"(?m)^# (?=[a-z-]+ = |\[)", "", text)
    live = re.sub(r"(?m)^# (?=TS_[A-Z_]+ = )", "", live)
    (tmp_path / "deploy.toml").write_text(live)
    shown, _ = read_settings(tmp_path / "deploy.toml", {"model": Settings().model})
    free = {"region", "profile", "bucket", "image_uri", "autoscale", "autoscale_target", "input", "output"}
    free |= {"environment", "tags"}
    for field in Settings.__struct_fields__:
        spelled = field.replace("_", "-")
        assert re.search(rf"(?m)^(# )?({spelled} = |\[{spelled}\])", text), f"deploy.toml does not show {spelled}"
        if field not in free:
            assert getattr(shown, field) == getattr(Settings(), field), field
        else:
            assert getattr(shown, field), field


def test_a_model_in_a_file_is_relative_to_the_file(tmp_path):
    (tmp_path / "deploy.toml").write_text('model = "mine"')
    assert read_settings(tmp_path / "deploy.toml", {})[0].model == str(tmp_path / "mine")
    assert read_settings(tmp_path / "deploy.toml", {"model": "other"})[0].model == "other"
    assert read_settings(None, {})[0].model == str(ROOT / "models" / "dgs11")


def test_a_batch_job_takes_an_instance_type_that_has_batch_jobs():
    model = botocore.session.get_session().get_service_model("sagemaker")
    known = model.shape_for("TransformInstanceType").enum
    assert settings(mode="batch").instance_type in known and settings().instance_type not in known
    assert settings(mode="batch", instance_type="ml.m5.large").instance_type == "ml.m5.large"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nam = "x"', "unknown field nam"),
        ('name = "has space"', "at name"),
        ('instance-count = "two"', "at instance-count"),
        ("memory-mb = 3000", "3000"),
        ('autoscale = "4"', "expected MIN:MAX"),
        ('autoscale = "0:4"', "only mode async can"),
        ("name = ", "expected TOML"),
    ],
)
def test_what_a_file_gets_wrong_is_named(tmp_path, text, message):
    (tmp_path / "deploy.toml").write_text(text)
    with pytest.raises(DeployError, match=message):
        read_settings(tmp_path / "deploy.toml", {})


def test_the_original_form_is_read_and_its_keys_are_not(tmp_path):
    file = tmp_path / "config.json"
    credential = {"id": "AKIAEXAMPLE", "key": "secret", "region": "eu-west-1", "role": "old-role"}
    file.write_text(json.dumps({"credential": credential}))
    told, warnings = read_settings(file, {})
    assert (told.region, told.role) == ("eu-west-1", "old-role")
    assert len(warnings) == 1 and "keys do not belong in files" in warnings[0]
    assert "AKIAEXAMPLE" not in warnings[0] and "secret" not in warnings[0]
    file.write_text('{"credential": []}')
    with pytest.raises(DeployError, match="the original system's form"):
        read_settings(file, {})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Exception, match=r"no.toml: No such file"):
        read_settings(Path(tmp_path, "no.toml"), {})
