"""Faults of a TorchServe under load, and of what it is started with: `python -m stress.faults`.

Every fault strikes a server of its own with two workers. Under load, each request is to get an answer or a 503, the
service is to come back by itself, and the logs are to say why; what is broken from the start is to be refused in words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from benchmarks.load.processes import end_on_signals
from spoter.errors import SpoterError
from spoter.torchserve.process import StartError
from stress.fault_environments import CannotBeTried
from stress.harness import Outcome, Stream, counted, logged, table, wait_workers
from stress.runtime_faults import BATCH, FAULTS, WORKERS, Fault

if TYPE_CHECKING:
    from benchmarks.load.client import Answer
    from spoter.torchserve.server import TorchServe

COLUMNS = (
    "Fault", "Sent", "200", "503", "Other statuses", "No answer", "Slowest answer, s", "Back after, s",
    "What the logs say", "As expected",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What was seen of a fault: clients' side, the line of the logs, and what was not as expected (nothing: empty)."""

    outcome: Outcome
    line: str | None
    wrong: list[str]


def attack(fault: Fault, rate: float, before: float = 3.0) -> Seen:
    """Start a server, and strike it with a fault: `strike`; `CannotBeTried` where the machine lacks what that needs."""
    from benchmarks.serving.server import running_server
    from spoter.torchserve.server import ROOT

    model = ROOT / "models" / "dgs11"
    with fault.around(), running_server(model, WORKERS, settings=fault.settings, archive=fault.archive) as server:
        wait_workers(server, WORKERS)
        return strike(server, fault, rate, before)


def strike(server: TorchServe, fault: Fault, rate: float, before: float = 3.0) -> Seen:
    """Strike a server with a fault while requests come in, and see what clients see.

    Parameters
    ----------
    server : spoter.torchserve.server.Server
        With all of its workers ready.
    fault : Fault
    rate : float
        Requests a second.
    before : float
        Seconds of load before the fault.
    """
    from benchmarks.load.bodies import compact_request
    from benchmarks.load.client import Request

    wrong = []
    with Stream(server.url, [Request(compact_request())], rate) as stream:
        time.sleep(before)
        struck = time.perf_counter()
        try:
            fault.strike(server)
        except (OSError, RuntimeError, SpoterError, StartError) as error:
            wrong.append(str(error))
        mended = time.perf_counter()
        if not wrong and not stream.wait_back(mended):
            wrong.append("service is not back")
    line = logged(server, fault.cause)
    if line is None:
        wrong.append("the logs do not say why")
    return Seen(Outcome.of(stream.answers, struck), line, wrong + unexpected(fault, stream.answers, struck, mended))


def unexpected(fault: Fault, answers: list[Answer], struck: float, mended: float) -> list[str]:
    """Return what clients saw of a fault, from `struck` to `mended` (perf_counter), that they should not have seen."""
    wrong = []
    if any(answer.status != 200 for answer in answers if answer.ended < struck):
        wrong.append("requests failed before the fault")
    lost = [answer for answer in answers if answer.status is None]
    meanwhile = [answer for answer in lost if answer.ended > struck and answer.started < mended]
    may_be_lost = len(meanwhile) if fault.away else min(len(meanwhile), fault.killed * BATCH)
    if len(lost) > may_be_lost and not fault.forgotten:
        wrong.append(f"{len(lost) - may_be_lost} requests without an answer")
    strange = {answer.status for answer in answers} - {None, 200, 503} - fault.statuses
    if strange:
        wrong.append(f"statuses {sorted(strange)}")
    return wrong


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names of faults; all unless given.")] = None,
    rate: Annotated[float, typer.Option(min=5, max=500, help="Requests a second.")] = 40.0,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Of load before each fault.")] = 3.0,
) -> None:
    """Strike servers with faults; exit 1 where one was not borne as expected."""
    from stress.startup_faults import BROKEN, refusal

    names = [fault.name for fault in FAULTS] + [broken.name for broken in BROKEN]
    if unknown := set(only or ()) - set(names):
        typer.echo(f"found no fault {', '.join(sorted(unknown))}, expected of: {', '.join(names)}", err=True)
        raise typer.Exit(2)
    chosen = only or names
    failed, running, starting = 0, [], []
    with tqdm(total=len(chosen), unit=" faults", leave=False) as bar:
        for fault in [fault for fault in FAULTS if fault.name in chosen]:
            bar.set_description(fault.name)
            try:
                seen = attack(fault, rate, seconds)
                running.append(_row(fault, seen))
                failed += bool(seen.wrong)
            except StartError as reason:
                running.append(
                    [fault.what, *["-"] * (len(COLUMNS) - 2), f"NO: the server did not start: {reason}"[:300]]
                )
                failed += 1
            except CannotBeTried as reason:
                running.append([fault.what, *["-"] * (len(COLUMNS) - 2), f"not tried: {reason}"])
            bar.update()
        for broken in [broken for broken in BROKEN if broken.name in chosen]:
            bar.set_description(broken.name)
            status, line, fits = refusal(broken)
            starting.append([broken.what, broken.by, status, f"`{line}`", "yes" if fits else "NO"])
            failed += not fits
            bar.update()
    if running:
        typer.echo(f"### Faults under {rate:g} requests a second, {WORKERS} workers\n\n{table(COLUMNS, running)}")
    if starting:
        columns = ("Started with", "By", "Exit status", "Its words", "As expected")
        typer.echo(f"### Faults from the start\n\n{table(columns, starting)}")
    if failed:
        typer.echo(f"{failed} of {len(chosen)} faults were not borne as expected", err=True)
        raise typer.Exit(1)


def _row(fault: Fault, seen: Seen) -> list[object]:
    outcome = seen.outcome
    back = "never" if outcome.back_s is None else f"{outcome.back_s:.1f}"
    return [
        fault.what, outcome.sent, outcome.good, outcome.refused, counted(outcome.others), counted(outcome.unanswered),
        f"{outcome.slowest_s:.2f}", back, f"`{(seen.line or '-')[:140]}`",
        _verdict(fault, seen),
    ]  # fmt: skip


def _verdict(fault: Fault, seen: Seen) -> str:
    if seen.wrong:
        return "NO: " + "; ".join(seen.wrong)
    return f"as known: {fault.forgotten}" if fault.forgotten and seen.outcome.unanswered else "yes"


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
