"""A deployment from the first check to the first answer. Each step looks first whether it is done already."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from pathlib import Path

from spoter.aws.deploy import autoscale, batch, endpoint, invoke, preflight, requests, upload
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.ownership import keep_tags
from spoter.aws.deploy.preflight import Ground
from spoter.aws.deploy.rollback import Failed, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import POLL, StillGoing, reason_and_log
from spoter.errors import SpoterError
from spoter.resources import RESOURCES

SAMPLES = RESOURCES / "samples"
# IAM tells the other services of a change within seconds (IAM user guide, "Changes that I make are not always
# immediately visible"). Seconds between two tries, and how many.
ROLE_POLL, ROLE_LOOKS = 5.0, 12


def deploy(settings: Settings, account: Account, reporter: Reporter, poll: float = POLL) -> list[str]:
    """Deploy, and return the lines that say where and how to undo it.

    Parameters
    ----------
    settings : Settings
    account : Account
    reporter : Reporter
    poll : float
        Seconds between two looks at SageMaker.

    Raises
    ------
    DeployError
        Where nothing was begun: what the user has to put right.
    Failed
        Where something was begun. What this run had made is removed then, newest first, and nothing older.
    StillGoing
        Where SageMaker takes too long; nothing is removed.
    KeyboardInterrupt
        Nothing is removed: AWS goes on, and the next run with it.
    """
    model_dir = Path(settings.model)
    reporter.step("checking the account and the settings")
    ground = preflight.check(settings, account, model_dir)
    for warning in ground.warnings:
        reporter.warn(warning)
    if settings.capture_percent:
        captured = requests.folder(settings, ground.bucket, "captured")
        reporter.warn(f"{settings.capture_percent} % of all requests are stored, with landmarks of persons: {captured}")
    undo = Undo(reporter)
    try:
        with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
            reporter.step(f"building the archive of {model_dir}")
            archive = build_archive(model_dir, Path(scratch), requests.runtime(settings))
            return _make(settings, account, ground, archive, undo, reporter, poll)
    except StillGoing:
        raise
    except (SpoterError, OSError) as error:
        if not undo or account.dry_run:
            raise
        reporter.failure(str(error))
        raise Failed(f"the deployment failed; left: {_undo(undo, settings, account, reporter)}") from None
    except KeyboardInterrupt:
        if undo:
            again = "" if settings.mode == "batch" else " The same command again goes on with it;"
            reporter.warn(
                f"interrupted: AWS goes on with what was begun, and nothing was removed.{again} "
                f"`{_command(settings, account, 'delete')}` removes it"
            )
        raise


def _undo(undo: Undo, settings: Settings, account: Account, reporter: Reporter) -> str:
    """Take away what this run has made; return what is left, in words."""
    reporter.step("removing what this run has made")
    try:
        return ", ".join(undo.run()) or "nothing of this run"
    except KeyboardInterrupt:
        reporter.warn(f"interrupted: `{_command(settings, account, 'delete')}` removes what is left")
        raise


def _make(
    settings: Settings,
    account: Account,
    ground: Ground,
    archive: Path,
    undo: Undo,
    reporter: Reporter,
    poll: float,
) -> list[str]:
    busy = False
    if settings.mode != "batch":
        busy = endpoint.look(settings, account, reporter, poll)  # before anything is made: the name may be taken
    bucket, key = ground.bucket, requests.archive_key(settings, upload.digest_of(archive))
    if not ground.bucket_exists:
        reporter.step(f"making the bucket {bucket}")
        upload.make_bucket(settings, account, bucket, undo)
    reporter.step("uploading the archive")
    fresh = upload.upload(settings, account, bucket, archive, undo, reporter)
    reporter.note(f"s3://{bucket}/{key}" if fresh else "the same content is there already")

    reporter.step("making the model")
    definition = requests.container(settings, account.region, f"s3://{bucket}/{key}")
    model = requests.model_request(settings, ground.role_arn, definition)
    _ensure(settings, account, "Model", model, undo, reporter)
    if settings.mode == "batch":
        reporter.step("running the batch job")
        answers = batch.run(settings, account, model["ModelName"], reporter.note, poll)
        return [f"answers   {answers}", f"undo      {_command(settings, account, 'delete')}"]

    reporter.step("making the endpoint's configuration")
    config = requests.config_request(settings, model["ModelName"], bucket)
    _ensure(settings, account, "EndpointConfig", config, undo, reporter)
    reporter.step(f"bringing up endpoint {settings.name}")
    since = time.time() - endpoint.CLOCKS
    done = endpoint.bring_up(settings, account, config["EndpointConfigName"], undo, reporter, poll)
    reporter.note(f"endpoint {settings.name}: {done}")
    if done != "unchanged" or busy:
        reporter.step("trying the endpoint with a sample")
        try:
            reporter.note(invoke.smoke_test(settings, account, Path(settings.model), SAMPLES))
        except DeployError as error:
            told = reason_and_log(account, settings.name, str(error), since)
            raise endpoint.EndpointError(told) from None
    # After the sample: an asynchronous endpoint may be scaled to no instances, and then takes minutes to answer.
    reporter.step("looking after automatic scaling")
    before = autoscale.as_found(settings, account)
    verb = "removed" if before.autoscale is None else "set up again"
    undo.add("automatic scaling", lambda: autoscale.apply(before, account), verb)
    autoscale.apply(settings, account)
    return _result(settings, account)


def build_archive(model_dir: Path, folder: Path, runtime: str | None = None) -> Path:
    """Write a model folder's model.tar.gz into a folder, in a runtime, the model's own unless given.

    Raises
    ------
    ModelFolderError
        Where it cannot be served.
    """
    from spoter.torchserve.pack import build  # it takes a second of torch

    return next(path for path in build(model_dir, "spoter", None, folder, runtime) if path.name == "model.tar.gz")


def _ensure(settings: Settings, account: Account, kind: str, request: dict, undo: Undo, reporter: Reporter) -> None:
    """Make a ``Model`` or an ``EndpointConfig``, unless it is there."""
    verb = {"Model": "model", "EndpointConfig": "endpoint_config"}[kind]
    naming = {f"{kind}Name": request[f"{kind}Name"]}
    name = request[f"{kind}Name"]
    found = account.read("sagemaker", f"describe_{verb}", **naming)
    if found is not None:
        keep_tags(settings, account, kind, found)
        reporter.note(f"{name} is there already")
        return
    _create(account, f"create_{verb}", request, reporter)
    undo.add(f"{verb.replace('_', ' ')} {name}", lambda: account.call("sagemaker", f"delete_{verb}", **naming))
    reporter.note(name)


def _create(account: Account, operation: str, request: dict, reporter: Reporter) -> None:
    """Make a call that hands a role on; a role that was just made is known everywhere only after some seconds."""
    for attempt in range(ROLE_LOOKS):
        try:
            account.call("sagemaker", operation, **request)
        except CallError as error:
            # "Could not assume role …", "Could not access model data … ensure that the role …"
            if error.code != "ValidationException" or " role " not in error.reason or attempt + 1 == ROLE_LOOKS:
                raise
            if attempt == 0:
                reporter.note(f"{error.reason}: it may be new, and is tried again for a minute")
            time.sleep(ROLE_POLL)
        else:
            return


def _result(settings: Settings, account: Account) -> list[str]:
    sample = shlex.quote(os.path.relpath(SAMPLES / invoke.SAMPLE))
    invoke_line = _command(settings, account, f"invoke {sample}")
    lines = [f"endpoint  {settings.name}"]
    if settings.mode != "async":  # its answers lie in the bucket: another address, and no `aws` command in one line
        lines.append(f"url       {requests.invocation_url(settings.name, account.region, account.partition)}")
        profile = f" --profile {shlex.quote(settings.profile)}" if settings.profile else ""
        lines.append(
            f"try       aws sagemaker-runtime invoke-endpoint --endpoint-name {settings.name} --region {account.region}"
            f"{profile} --content-type application/json --body fileb://{sample} /dev/stdout"
        )
        lines.append(f"or        {invoke_line}")
    else:
        lines.append(f"try       {invoke_line}")
    return [*lines, f"undo      {_command(settings, account, 'delete')}"]


def _command(settings: Settings, account: Account, verb: str) -> str:
    """Return a command that finds this deployment without a settings file."""
    profile = f" --profile {shlex.quote(settings.profile)}" if settings.profile else ""
    return f"python deploy.py {verb} --name {settings.name} --region {account.region}{profile}"
