"""Settings of a deployment: deploy.toml (or the original system's configuration/config.json) and options.

Settings hold no credentials. Those come from AWS's default chain: environment, profile, SSO, instance role.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from spoter.aws.choices import Mode
from spoter.errors import SpoterError
from spoter.files import read_text
from spoter.resources import RESOURCES

# The smallest type of its family for batch jobs, which have no ml.c5.large (API reference, TransformResources).
BATCH_INSTANCE_TYPE = "ml.c5.xlarge"

# EndpointName in SageMaker's API, which allows 63 characters; names that we build from it are longer.
_NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*\Z"
# S3 user guide, "General purpose bucket naming rules".
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z"


class DeployError(SpoterError):
    """The user has to fix something before a deployment; the text reports the finding and the fix."""


class ScalingBounds(NamedTuple):
    """Limits of the number of instances in automatic scaling; `minimum` is 0 only for asynchronous endpoints."""

    minimum: int
    maximum: int


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """All inputs of a deployment except the account."""

    name: Annotated[str, Meta(pattern=_NAME, max_length=40)] = "spoter"
    # Model folder; a path in a settings file is relative to that file.
    model: str = str(RESOURCES / "models" / "dgs11")
    mode: Mode = Mode.realtime
    region: str | None = None  # None: as in AWS's configuration (AWS_REGION, AWS_PROFILE, ~/.aws/config)
    profile: str | None = None
    # Name or ARN of the container's IAM role; its policies are in spoter/aws/iam/.
    role: Annotated[str, Meta(min_length=1)] = "spoter-endpoint"
    # None: the SDK's default, sagemaker-REGION-ACCOUNT, which is created if missing.
    bucket: Annotated[str, Meta(pattern=_BUCKET)] | None = None
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*[A-Za-z0-9]$")] = "spoter"
    image_uri: str | None = None  # None: AWS's PyTorch image
    # Not for serverless endpoints; the default type for batch jobs is `BATCH_INSTANCE_TYPE`.
    instance_type: Annotated[str, Meta(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")] = "ml.c5.large"
    instance_count: Annotated[int, Meta(ge=1)] = 1
    # For serverless endpoints only.
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 3072
    max_concurrency: Annotated[int, Meta(ge=1, le=200)] = 5
    environment: dict[str, str] = {}  # variables of the container
    tags: dict[str, str] = {}  # of every resource, in addition to our own tag
    # Percentage of a real-time endpoint's requests that SageMaker stores in the bucket with their answers. They hold
    # people's landmarks.
    capture_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    autoscale: str | None = None  # "MIN:MAX"
    # Invocations per minute (async: waiting requests) per instance; None: the mode's default.
    autoscale_target: Annotated[float, Meta(gt=0)] | None = None
    # CloudWatch alarms that roll an update back if they fire during it (API reference, AutoRollbackConfig).
    rollback_alarms: Annotated[tuple[str, ...], Meta(max_length=10)] = ()
    # s3:// addresses of a batch job; `output` is also the address of asynchronous answers.
    input: str | None = None
    output: str | None = None

    def scaling(self) -> ScalingBounds | None:
        """Parse `autoscale`; raises `DeployError` if it is not MIN:MAX or does not fit the mode."""
        if self.autoscale is None:
            return None
        match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", self.autoscale)
        bounds = ScalingBounds(int(match[1]), int(match[2])) if match else ScalingBounds(0, 0)
        if bounds.maximum < max(bounds.minimum, 1):
            raise DeployError(f"found autoscale {self.autoscale!r}, expected MIN:MAX such as 1:4")
        if self.mode not in (Mode.realtime, Mode.asynchronous):
            raise DeployError(f"found autoscale with mode {self.mode}, expected realtime or async")
        if bounds.minimum == 0 and self.mode != Mode.asynchronous:
            raise DeployError(f"found autoscale {self.autoscale}, expected MIN of 1 or more; only mode async can use 0")
        return bounds


def read_settings(path: Path | None, options: dict[str, object]) -> tuple[Settings, list[str]]:
    """Read a settings file, override it with command-line options, and return the settings with warnings for the user.

    The file is deploy.toml, or JSON in the form of the original system's configuration/config.json. Options are fields
    of `Settings` by name; an option that is None does not override the file.

    Raises
    ------
    DeployError
        If the file cannot be read, or a setting is unknown or has an invalid value.
    """
    values: dict[str, Any] = {}
    warnings: list[str] = []
    if path is not None:
        text = read_text(path)
        values, warnings = _parse_original(text, path) if path.suffix == ".json" else (_parse_toml(text, path), [])
        if isinstance(values.get("model"), str):
            values["model"] = str(path.parent / values["model"])
    overrides = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    where = f"{path} with the options" if path is not None and overrides else str(path or "the options")
    values |= overrides
    if values.get("mode") == Mode.batch:
        values.setdefault("instance-type", BATCH_INSTANCE_TYPE)
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        # Expected `int`, got `str` - at `$.memory-mb`
        message = str(error).replace("`", "").replace(" - at $.", " at ").replace(" - at $", "")
        raise DeployError(f"{where}: {message}") from None
    settings.scaling()
    return settings, warnings


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeployError(f"{path}: {error}; expected TOML such as name = 'spoter'") from None


def _parse_original(text: str, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read region and role from {"credential": {"id", "key", "region", "role"}}; ignore the keys."""
    try:
        credential = json.loads(text)["credential"]
        fields = {name: credential[name] for name in ("region", "role") if credential.get(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        expected = '{"credential": {"region": "…", "role": "…"}}, the original system\'s form'
        raise DeployError(f"{path}: expected {expected}") from None
    if not credential.get("id") and not credential.get("key"):
        return fields, []
    return fields, [
        f"{path} contains an access key, which is ignored: keys do not belong in project files. Delete it there, "
        "deactivate it in IAM, and sign in with `aws configure sso` or `aws configure`"
    ]
