"""The steps of a deployment, from the first check to the first answer. Each step is skipped if it is already done."""

import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from spoter.aws.choices import Mode
from spoter.aws.deploy import autoscale, batch, endpoint, invoke, requests, upload
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.ownership import add_missing_tags
from spoter.aws.deploy.preflight import Preflight
from spoter.aws.deploy.progress import DeploymentFailed, Reporter, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import POLL, StillBusy, explain_failure
from spoter.errors import SpoterError
from spoter.resources import RESOURCES

SAMPLES = RESOURCES / "samples"
# A change in IAM reaches other services after seconds (IAM user guide, "Changes that I make are not always immediately
# visible"). Seconds between two attempts, and the number of attempts.
ROLE_POLL, ROLE_ATTEMPTS = 5.0, 12


def deploy(settings: Settings, account: Account, reporter: Reporter, poll: float = POLL) -> list[str]:
    """Deploy, and return lines with the address, a command to try it and the command to undo it.

    `poll` is the number of seconds between two status queries.

    Raises
    ------
    DeployError
        If the settings or the account must be fixed first; nothing was created.
    DeploymentFailed
        If a later step failed. The resources of this run were removed, newest first; older ones were not touched.
    StillBusy
        If SageMaker takes too long; nothing was removed.
    KeyboardInterrupt
        Nothing was removed: AWS continues, and the next run resumes.
    """
    model_dir = Path(settings.model)
    reporter.step("checking the account and the settings")
    preflight = Preflight(settings, account, model_dir)
    preflight.run()
    for warning in preflight.warnings:
        reporter.warn(warning)
    if settings.capture_percent:
        captured = requests.folder(settings, preflight.bucket, "captured")
        reporter.warn(f"{settings.capture_percent} % of requests, with people's landmarks, are stored in {captured}")
    undo = Undo(reporter)
    delete = format_command(settings, account, "delete")
    try:
        with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
            reporter.step(f"building the archive of {model_dir}")
            archive = build_archive(model_dir, Path(scratch), requests.choose_runtime(settings))
            return _deploy_archive(preflight, archive, undo, reporter, poll)
    except StillBusy:
        raise
    except (SpoterError, OSError) as error:
        if not undo or account.dry_run:
            raise
        reporter.failure(str(error))
        reporter.step("removing the resources of this run")
        try:
            remaining = ", ".join(undo.run()) or "nothing of this run"
        except KeyboardInterrupt:
            reporter.warn(f"interrupted: `{delete}` removes the rest")
            raise
        raise DeploymentFailed(f"the deployment failed; left: {remaining}") from None
    except KeyboardInterrupt:
        if undo:
            resume = "" if settings.mode == Mode.batch else " Run the same command again to resume."
            reporter.warn(
                f"interrupted: AWS continues, and nothing was removed.{resume} To remove everything run `{delete}`."
            )
        raise


def _deploy_archive(preflight: Preflight, archive: Path, undo: Undo, reporter: Reporter, poll: float) -> list[str]:
    settings, account, bucket = preflight.settings, preflight.account, preflight.bucket
    busy = False
    if settings.mode != Mode.batch:  # before creating anything: the name may be in use
        busy = endpoint.check_existing(settings, account, reporter, poll)
    if not preflight.bucket_exists:
        reporter.step(f"creating the bucket {bucket}")
        upload.create_bucket(settings, account, bucket, undo)
    reporter.step("uploading the archive")
    address, uploaded = upload.upload(settings, account, bucket, archive, undo, reporter)
    reporter.note(address if uploaded else "this archive is already in the bucket")

    reporter.step("creating the model")
    container = requests.container(settings, account.region, address)
    model = requests.model_request(settings, preflight.role_arn, container)
    _create_if_missing(settings, account, "Model", model, undo, reporter)
    if settings.mode == Mode.batch:
        reporter.step("running the batch job")
        answers = batch.run_job(settings, account, model["ModelName"], reporter.note, poll)
        return [f"answers   {answers}", f"undo      {format_command(settings, account, 'delete')}"]

    reporter.step("creating the endpoint's configuration")
    config = requests.config_request(settings, model["ModelName"], bucket)
    _create_if_missing(settings, account, "EndpointConfig", config, undo, reporter)
    reporter.step(f"bringing up endpoint {settings.name}")
    since = time.time() - endpoint.CLOCK_SKEW
    change = endpoint.bring_up(settings, account, config["EndpointConfigName"], undo, reporter, poll)
    reporter.note(f"endpoint {settings.name}: {change}")
    if change != "unchanged" or busy:
        reporter.step("trying the endpoint with a sample")
        try:
            reporter.note(invoke.smoke_test(settings, account, Path(settings.model), SAMPLES))
        except DeployError as error:
            group = requests.log_group(settings.name)
            raise DeploymentFailed(explain_failure(account, group, str(error), since=since)) from None
    # After the sample: an asynchronous endpoint may be scaled to zero, and would then need minutes to answer.
    reporter.step("checking automatic scaling")
    previous = autoscale.with_current_scaling(settings, account)
    verb = "removed" if previous.autoscale is None else "restored"
    undo.add("automatic scaling", lambda: autoscale.apply_scaling(previous, account), verb)
    autoscale.apply_scaling(settings, account)
    return _result_lines(settings, account)


def build_archive(model_dir: Path, folder: Path, runtime: str | None = None) -> Path:
    """Write the model.tar.gz of a model folder into `folder`, for a runtime or else the model's own; return its path.

    Raises
    ------
    ModelFolderError
        If the model folder cannot be served.
    """
    from spoter.torchserve.pack import archive_files, gzipped_tar

    archive = folder / "model.tar.gz"
    archive.write_bytes(gzipped_tar(archive_files(model_dir, runtime=runtime)))
    return archive


def _create_if_missing(
    settings: Settings, account: Account, kind: str, request: dict[str, Any], undo: Undo, reporter: Reporter
) -> None:
    """Create a ``Model`` or an ``EndpointConfig`` unless it exists.

    SageMaker accepts a role only some seconds after its creation, so a call that is refused for its role is repeated.
    """
    noun = {"Model": "model", "EndpointConfig": "endpoint_config"}[kind]
    name = request[f"{kind}Name"]
    existing = account.read("sagemaker", f"describe_{noun}", **{f"{kind}Name": name})
    if existing is not None:
        add_missing_tags(settings, account, kind, existing)
        reporter.note(f"{name} exists already")
        return

    def report_retry(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            reporter.note(f"{state.outcome.exception()}: the role may be new; retrying for a minute")

    retrying = Retrying(
        retry=retry_if_exception(_role_may_be_new),
        wait=wait_fixed(ROLE_POLL),
        stop=stop_after_attempt(ROLE_ATTEMPTS),
        before_sleep=report_retry,
        reraise=True,
    )
    retrying(account.call, "sagemaker", f"create_{noun}", **request)
    undo.add(
        f"{noun.replace('_', ' ')} {name}", lambda: account.call("sagemaker", f"delete_{noun}", **{f"{kind}Name": name})
    )
    reporter.note(name)


def _role_may_be_new(error: BaseException) -> bool:
    # "Could not assume role …", "Could not access model data … ensure that the role …"
    return isinstance(error, CallError) and error.code == "ValidationException" and " role " in error.reason


def _result_lines(settings: Settings, account: Account) -> list[str]:
    sample = shlex.quote(os.path.relpath(SAMPLES / invoke.SAMPLE))
    invoke_line = format_command(settings, account, f"invoke {sample}")
    lines = [f"endpoint  {settings.name}"]
    if settings.mode != Mode.asynchronous:  # not async: its answers go to the bucket, which needs more than one command
        profile = f" --profile {shlex.quote(settings.profile)}" if settings.profile else ""
        suffix = "amazonaws.com.cn" if account.partition == "aws-cn" else "amazonaws.com"
        lines += [
            f"url       https://runtime.sagemaker.{account.region}.{suffix}/endpoints/{settings.name}/invocations",
            f"try       aws sagemaker-runtime invoke-endpoint --endpoint-name {settings.name} --region {account.region}"
            f"{profile} --content-type application/json --body fileb://{sample} /dev/stdout",
            f"or        {invoke_line}",
        ]
    else:
        lines.append(f"try       {invoke_line}")
    return [*lines, f"undo      {format_command(settings, account, 'delete')}"]


def format_command(settings: Settings, account: Account, command: str) -> str:
    """Return a command line for this deployment that needs no settings file."""
    profile = f" --profile {shlex.quote(settings.profile)}" if settings.profile else ""
    return f"spoter deploy {command} --name {settings.name} --region {account.region}{profile}"
