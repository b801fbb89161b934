"""The command `spoter deploy`: deploy a model to Amazon SageMaker, manage and delete it, or run it locally."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spoter.aws.choices import EntryPoint, Mode
from spoter.cli import EXAMPLES, STYLE
from spoter.errors import SpoterError
from spoter.resources import WORK_FOLDER

if TYPE_CHECKING:
    from spoter.aws.deploy.account import Account
    from spoter.aws.deploy.progress import Reporter
    from spoter.aws.deploy.settings import Settings

SETTINGS = WORK_FOLDER / "deploy.toml"
# Packages of the extra `deploy`. Only the commands import them, so that --help stays fast.
REQUIRED = ("boto3", "httpx", "model_archiver", "psutil", "sagemaker", "starlette", "uvicorn")
# Options of `deploy` that are not fields of `Settings`.
NOT_SETTINGS = ("settings", "dry_run", "verbose", "poll", "local", "port", "entry_point")

app = typer.Typer(
    help="Deploy a model to SageMaker, by default models/dgs11 to a real-time endpoint.",
    epilog=EXAMPLES.format("spoter deploy --dry-run\nspoter deploy\nspoter deploy invoke samples/hallo.json")
    + "\n\nOptions override deploy.toml. Credentials come from AWS's own chain (aws configure sso, AWS_PROFILE, an "
    "instance role). Exit status: 0 success, 1 failed, 2 invalid input or account, 130 interrupted. See docs/deploy.md",
    **STYLE,
)

File = Annotated[Path | None, typer.Option("--settings", help="Settings file [default: deploy.toml].")]
Name = Annotated[str | None, typer.Option(help="Name of the endpoint [default: spoter].")]
Region = Annotated[str | None, typer.Option(help="AWS region [default: from AWS's configuration].")]
Profile = Annotated[str | None, typer.Option(help="Profile in AWS's configuration.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print every call to AWS.")]
Poll = Annotated[
    float, typer.Option("--poll", envvar="SPOTER_DEPLOY_POLL", min=0, help="Seconds between two status queries.")
]


def main() -> None:
    """Run the command line of deploy.py."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None if the caller has closed the stream
            stream.reconfigure(line_buffering=True)  # so that a pipe gets each line at once
    app()


@app.callback(invoke_without_command=True)
def deploy(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    model: Annotated[str | None, typer.Option(help="Model folder [default: models/dgs11].")] = None,
    mode: Annotated[Mode | None, typer.Option(help="How SageMaker runs the model [default: realtime].")] = None,
    region: Region = None,
    profile: Profile = None,
    role: Annotated[str | None, typer.Option(help="Name or ARN of the endpoint's IAM role.")] = None,
    bucket: Annotated[str | None, typer.Option(help="S3 bucket [default: sagemaker-REGION-ACCOUNT].")] = None,
    instance_type: Annotated[str | None, typer.Option(help="Type [default: ml.c5.large; batch: ml.c5.xlarge].")] = None,
    instance_count: Annotated[int | None, typer.Option(help="Number of instances [default: 1].")] = None,
    memory_mb: Annotated[int | None, typer.Option("--memory", help="Serverless: memory in MB [default: 3072].")] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Serverless: concurrent requests [default: 5].")] = None,
    image_uri: Annotated[str | None, typer.Option(help="Container image [default: AWS's PyTorch image].")] = None,
    autoscale: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Limits of automatic scaling; MIN may be 0 for async.")
    ] = None,
    capture_percent: Annotated[
        int | None,
        typer.Option("--capture", metavar="PERCENT", help="Percentage of requests to store, landmarks included."),
    ] = None,
    rollback_alarms: Annotated[
        list[str] | None,
        typer.Option("--rollback-alarm", help="CloudWatch alarm that rolls an update back; may be repeated."),
    ] = None,
    input: Annotated[str | None, typer.Option(metavar="S3://…", help="JSON Lines for a batch job.")] = None,
    output: Annotated[str | None, typer.Option(metavar="S3://…", help="S3 folder for answers (batch, async).")] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag for every resource; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the calls to AWS without making them.")] = False,
    verbose: Verbose = False,
    poll: Poll = 30.0,
    local: Annotated[bool, typer.Option("--local", help="Run SageMaker's container code on this machine.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for --local; 0 chooses a free one.")] = 0,
    entry_point: Annotated[
        EntryPoint, typer.Option(help="Entry point of the archive, for --local.")
    ] = EntryPoint.handler,
) -> None:
    """Deploy, or pass the options to the command."""
    options = {name: value for name, value in context.params.items() if name not in NOT_SETTINGS}
    options |= {"rollback_alarms": rollback_alarms or None, "tags": _parse_tags(tags or []) or None}
    context.obj = (settings, options, verbose)
    if context.invoked_subcommand is not None:
        if dry_run or local:
            # Not ignored: `--dry-run delete --yes` must not delete anything.
            option = "--dry-run" if dry_run else "--local"
            raise _fail(f"{option} cannot be combined with the command {context.invoked_subcommand}", 2)
        return
    with _report_errors():
        if local:
            raise typer.Exit(_serve_local(settings, options, port, entry_point))
        chosen, account, reporter = _prepare(context, dry_run=dry_run)
        from spoter.aws.deploy import deploy

        if dry_run:
            reporter.note("dry run: nothing is sent to AWS; these are the calls of a first deployment")
        for line in deploy.deploy(chosen, account, reporter, poll):
            reporter.note(line) if dry_run else typer.echo(line)


@app.command()
def status(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    verbose: Verbose = False,
) -> None:
    """Show the endpoint's status, mode, instances, model, scaling and last failure."""
    with _report_errors():
        chosen, account, _ = _prepare(context)
        from spoter.aws.deploy import manage

        for line in manage.status_lines(chosen, account):
            typer.echo(line)


@app.command()
def invoke(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Landmarks: .json, .csv, .jsonl or .npy.")],
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    content_type: Annotated[str | None, typer.Option(help="Content type of FILE [default: by extension].")] = None,
    accept: Annotated[str | None, typer.Option(help="Content type of the answer [default: JSON].")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Number of glosses [default: the server's].")] = None,
    verbose: Verbose = False,
) -> None:
    """Send FILE to the endpoint and print the answer."""
    with _report_errors():
        chosen, account, _ = _prepare(context)
        from spoter.aws.deploy.invoke import invoke

        answer = invoke(chosen, account, file, content_type, accept, top_k)
        typer.echo(answer, nl=not answer.endswith(b"\n"))


@app.command()
def logs(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
    verbose: Verbose = False,
) -> None:
    """Print the last log lines of the endpoint's containers."""
    with _report_errors():
        chosen, account, _ = _prepare(context)
        from spoter.aws.deploy import manage

        manage.show_logs(chosen, account, follow, typer.echo)


@app.command()
def delete(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    verbose: Verbose = False,
    poll: Poll = 30.0,
) -> None:
    """List and, after confirmation, delete all resources with the deployment's tag."""
    with _report_errors():
        chosen, account, _ = _prepare(context)
        from spoter.aws.deploy import manage

        resources = manage.list_resources(chosen, account)
        remaining = manage.explain_remaining(chosen, account, resources)
        typer.echo(f"deployment {chosen.name} in {account.region}:{'' if resources else ' nothing to remove'}")
        for line in [*(f"  {resource}" for resource in resources), *remaining]:
            typer.echo(line)
        if not resources:
            return
        if not yes and not typer.confirm("remove all of these?"):
            raise typer.Exit(1)
        manage.delete_resources(chosen, account, resources, typer.echo, poll)


def _prepare(context: typer.Context, dry_run: bool = False) -> tuple[Settings, Account, Reporter]:
    """Return settings, account and reporter, from the options before and after the command's name."""
    from rich.console import Console

    from spoter.aws.deploy.account import Account
    from spoter.aws.deploy.progress import Reporter

    file, options, verbose = context.obj
    command_options = {
        name: context.params[name] for name in ("name", "region", "profile") if context.params[name] is not None
    }
    reporter = Reporter(Console(stderr=True))
    chosen, warnings = _read_settings(context.params["settings"] or file, options | command_options)
    for warning in warnings:
        reporter.warn(warning)
    show = typer.echo if dry_run else reporter.note if verbose or context.params["verbose"] else None
    return chosen, Account(chosen, dry_run, show), reporter


def _read_settings(file: Path | None, options: dict[str, Any]) -> tuple[Settings, list[str]]:
    from spoter.aws.deploy.settings import read_settings

    return read_settings(file or (SETTINGS if SETTINGS.is_file() else None), options)


def _parse_tags(pairs: list[str]) -> dict[str, str]:
    tags = dict(pair.partition("=")[::2] for pair in pairs if not pair.startswith("=") and "=" in pair)
    if len(tags) < len(pairs):
        raise _fail(f"--tag {' '.join(pairs)}: expected KEY=VALUE, each KEY once", 2)
    return tags


def _serve_local(file: Path | None, options: dict[str, Any], port: int, entry_point: EntryPoint) -> int:
    import tempfile

    from spoter.aws.deploy.deploy import build_archive
    from spoter.aws.deploy.requests import choose_runtime
    from spoter.aws.local.endpoint import serve_local

    chosen, warnings = _read_settings(file, options)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        archive = build_archive(Path(chosen.model), Path(scratch), choose_runtime(chosen))
        return serve_local(archive, chosen.name, port, entry_point=entry_point, environ=chosen.environment)


@contextmanager
def _report_errors() -> Iterator[None]:
    """Print an error in one line, and exit with its exit status."""
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise _fail(f"{', '.join(missing)} not installed: run `make deploying` or `pip install 'spoter[deploy]'`", 2)
    try:
        yield
    except KeyboardInterrupt:
        raise _fail("interrupted", 130) from None
    except SpoterError as error:
        raise _fail(str(error), error.exit_code) from None
    except BrokenPipeError:  # the reader has exited, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing fails again when Python exits
        raise typer.Exit(1) from None
    except OSError as error:
        raise _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1) from None


def _fail(text: str, status: int) -> typer.Exit:
    typer.echo(f"spoter deploy: {text}", err=True)
    return typer.Exit(status)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
