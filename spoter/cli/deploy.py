"""Deploy a model folder to Amazon SageMaker, look after it and remove it again; or run it here as SageMaker would."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spoter.resources import WORK_FOLDER

if TYPE_CHECKING:
    from spoter.aws.deploy.account import Account
    from spoter.aws.deploy.console import Reporter
    from spoter.aws.deploy.settings import Settings

SETTINGS = WORK_FOLDER / "deploy.toml"
# What is imported here and in no other command of the project; the extras `serve` and `deploy` bring it.
NEEDED = ("boto3", "httpx", "model_archiver", "psutil", "sagemaker", "starlette", "uvicorn")


class Mode(StrEnum):
    """`spoter.aws.deploy.settings.MODES`, which would take a second to import."""

    realtime = "realtime"
    serverless = "serverless"
    asynchronous = "async"
    batch = "batch"


class Door(StrEnum):
    """`spoter.aws.local.container.WayIn`, likewise."""

    handler = "handler"
    functions = "functions"


# Settings are read and AWS's packages imported by the commands that need them: --help shall not wait for a second.

app = typer.Typer(
    help="Deploy a model to Amazon SageMaker: with no command and no option, models/dgs11 to a real-time endpoint.",
    epilog="Settings: deploy.toml, and options above it. Credentials: AWS's own chain (aws configure sso, AWS_PROFILE, "
    "an instance's role). Exit status: 0 done, 2 something to put right, 1 failed, 130 interrupted. See docs/deploy.md",
    add_completion=False,
    rich_markup_mode=None,  # or [default: …] is taken for markup
    pretty_exceptions_enable=False,
)

File = Annotated[Path | None, typer.Option("--settings", help="Settings file [default: deploy.toml beside deploy.py].")]
Name = Annotated[str | None, typer.Option(help="The endpoint's name [default: spoter].")]
Region = Annotated[str | None, typer.Option(help="AWS region [default: that of AWS's configuration].")]
Profile = Annotated[str | None, typer.Option(help="Profile of AWS's configuration.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show every call to AWS.")]
Poll = Annotated[
    float,
    typer.Option("--poll", envvar="SPOTER_DEPLOY_POLL", min=0, help="Seconds between two looks at SageMaker."),
]


def main() -> None:
    """Run the command line; whatever goes wrong is told in words."""
    signal.signal(signal.SIGTERM, _interrupt)
    if sys.stdout is not None:  # closed by the caller
        sys.stdout.reconfigure(line_buffering=True)  # a line is seen when it is written, also in a pipe
    app()


@app.callback(invoke_without_command=True)
def deploy(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    model: Annotated[str | None, typer.Option(help="Model folder [default: models/dgs11].")] = None,
    mode: Annotated[Mode | None, typer.Option(help="[default: realtime]")] = None,
    region: Region = None,
    profile: Profile = None,
    role: Annotated[str | None, typer.Option(help="Name or ARN of the endpoint's role.")] = None,
    bucket: Annotated[str | None, typer.Option(help="[default: sagemaker-REGION-ACCOUNT]")] = None,
    instance_type: Annotated[str | None, typer.Option(help="[default: ml.c5.large; batch: ml.c5.xlarge]")] = None,
    instance_count: Annotated[int | None, typer.Option(help="[default: 1]")] = None,
    memory: Annotated[int | None, typer.Option(help="MB, of a serverless endpoint [default: 3072].")] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Of a serverless endpoint [default: 5].")] = None,
    image_uri: Annotated[str | None, typer.Option(help="Container image [default: AWS's PyTorch image].")] = None,
    autoscale: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Instances to choose among; asynchronous from 0.")
    ] = None,
    capture: Annotated[
        int | None, typer.Option(metavar="PERCENT", help="Share of requests, with persons' landmarks, to store.")
    ] = None,
    rollback_alarm: Annotated[
        list[str] | None, typer.Option(help="CloudWatch alarm that undoes an update; may be repeated.")
    ] = None,
    input: Annotated[str | None, typer.Option(metavar="S3://…", help="JSON Lines of a batch job.")] = None,
    output: Annotated[str | None, typer.Option(metavar="S3://…", help="Where answers go (batch, async).")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Put on everything; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every call that would be made; make none.")] = False,
    verbose: Verbose = False,
    poll: Poll = 30.0,
    local: Annotated[bool, typer.Option("--local", help="No AWS: run SageMaker's container code here.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --local; 0 takes a free one.")] = 0,
    way_in: Annotated[Door, typer.Option(help="With --local: which of the archive's doors is opened.")] = Door.handler,
) -> None:
    options = {
        "name": name,
        "model": model,
        "mode": mode and mode.value,
        "region": region,
        "profile": profile,
        "role": role,
        "bucket": bucket,
        "instance_type": instance_type,
        "instance_count": instance_count,
        "memory_mb": memory,
        "max_concurrency": max_concurrency,
        "image_uri": image_uri,
        "autoscale": autoscale,
        "capture_percent": capture,
        "rollback_alarms": rollback_alarm or None,
        "input": input,
        "output": output,
        "tags": _tags(tag or []) or None,
    }
    context.obj = (settings, options, verbose)
    if context.invoked_subcommand is not None:
        if dry_run or local:
            # Not passed over: whoever writes `--dry-run delete --yes` does not want anything deleted.
            found = "--dry-run" if dry_run else "--local"
            raise _stop(f"found {found} before {context.invoked_subcommand}, expected it without a command", 2)
        return
    with _told():
        if local:
            raise typer.Exit(_serve_local(settings, options, port, way_in))
        chosen, account, reporter = _begin(context, dry_run=dry_run)
        from spoter.aws.deploy import deploy

        if dry_run:
            reporter.note("dry run: nothing is asked of AWS; these are the calls of a first deployment into it")
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
    """Show the endpoint, what it runs on, its scaling, and all that carries its tag."""
    with _told():
        chosen, account, _ = _begin(context, settings, verbose, name=name, region=region, profile=profile)
        from spoter.aws.deploy import manage

        for line in manage.status(chosen, account):
            typer.echo(line)


@app.command()
def invoke(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Landmarks: .json, .csv, .jsonl or .npy.")],
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    content_type: Annotated[str | None, typer.Option(help="[default: by FILE's ending]")] = None,
    accept: Annotated[str | None, typer.Option(help="Content type of the answer.")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Glosses to answer; the server's default unless said.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Send FILE to the endpoint and print the answer."""
    with _told():
        chosen, account, _ = _begin(context, settings, verbose, name=name, region=region, profile=profile)
        from spoter.aws.deploy import invoke as asking

        answer = asking.invoke(chosen, account, file, content_type, accept, top_k)
        typer.echo(answer, nl=not answer.endswith(b"\n"))


@app.command()
def logs(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    verbose: Verbose = False,
) -> None:
    """Print what the endpoint's containers wrote last."""
    with _told():
        chosen, account, _ = _begin(context, settings, verbose, name=name, region=region, profile=profile)
        from spoter.aws.deploy import manage

        manage.logs(chosen, account, follow, typer.echo)


@app.command()
def delete(
    context: typer.Context,
    settings: File = None,
    name: Name = None,
    region: Region = None,
    profile: Profile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    verbose: Verbose = False,
    poll: Poll = 30.0,
) -> None:
    """List all that carries the deployment's tag, ask, and remove it."""
    with _told():
        chosen, account, _ = _begin(context, settings, verbose, name=name, region=region, profile=profile)
        from spoter.aws.deploy import manage

        found = manage.owned(chosen, account)
        staying = manage.stays(chosen, account, found)
        typer.echo(f"of deployment {chosen.name} in {account.region}:{'' if found else ' nothing to remove'}")
        for line in [*(f"  {thing}" for thing in found), *staying]:
            typer.echo(line)
        if not found:
            return
        if not yes and not typer.confirm("remove all of it?"):
            raise typer.Exit(1)
        manage.delete(chosen, account, found, typer.echo, poll)


def _begin(
    context: typer.Context,
    settings: Path | None = None,
    verbose: bool = False,
    dry_run: bool = False,
    **given: str | None,
) -> tuple[Settings, Account, Reporter]:
    """Return what a command works with, from the options before and after its name."""
    from rich.console import Console

    from spoter.aws.deploy.account import Account
    from spoter.aws.deploy.console import Reporter

    file, options, first_verbose = context.obj
    options = options | {name: value for name, value in given.items() if value is not None}
    chosen, warnings = _settings(settings or file, options)
    reporter = Reporter(Console(stderr=True))
    for warning in warnings:
        reporter.warn(warning)
    show: Callable[[str], None] | None = None
    if dry_run:
        show = typer.echo
    elif verbose or first_verbose:
        show = reporter.note
    return chosen, Account(chosen, dry_run, show), reporter


def _settings(file: Path | None, options: dict[str, Any]) -> tuple[Settings, list[str]]:
    from spoter.aws.deploy.settings import read_settings

    return read_settings(file or (SETTINGS if SETTINGS.is_file() else None), options)


def _tags(pairs: list[str]) -> dict[str, str]:
    tags = dict(pair.partition("=")[::2] for pair in pairs if not pair.startswith("=") and "=" in pair)
    if len(tags) < len(pairs):
        raise _stop(f"found --tag {' '.join(pairs)}, expected KEY=VALUE with each KEY once", 2)
    return tags


def _serve_local(file: Path | None, options: dict[str, Any], port: int, way_in: Door) -> int:
    import tempfile

    from spoter.aws.deploy import requests
    from spoter.aws.deploy.deploy import build_archive
    from spoter.aws.local.container import WayIn
    from spoter.aws.local.endpoint import serve_local

    chosen, warnings = _settings(file, options)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        archive = build_archive(Path(chosen.model), Path(scratch), requests.runtime(chosen))
        return serve_local(archive, chosen.name, port, WayIn(way_in.value), environ=chosen.environment)


@contextmanager
def _told() -> Iterator[None]:
    """Say in a line what went wrong, and end with its exit status."""
    from spoter.errors import SpoterError

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise _stop(
            f"{', '.join(missing)} not installed: run `make deploying`, or pip install 'spoter[serve,deploy]'", 2
        )
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("deploy.py: interrupted", err=True)
        raise typer.Exit(130) from None
    except SpoterError as error:
        from spoter.aws.deploy.settings import DeployError

        raise _stop(str(error), error.status if isinstance(error, DeployError) else 2) from None
    except BrokenPipeError:  # whoever read has had enough, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it fails once more when Python ends
        raise typer.Exit(1) from None
    except OSError as error:
        raise _stop(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1) from None


def _stop(text: str, status: int) -> typer.Exit:
    typer.echo(f"deploy.py: {text}", err=True)
    return typer.Exit(status)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
