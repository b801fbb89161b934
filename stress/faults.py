"""Faults of a TorchServe under load, and faults of its model: `python -m stress.faults`.

Each fault is injected into a new server with two workers under load. Each request must get an answer or a 503, the
service must recover automatically, and the logs must have the reason. With a broken model, a server must not start.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

import typer
from tqdm import tqdm

from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Answer, Request
from benchmarks.tables import markdown_table
from spoter.errors import SpoterError
from spoter.torchserve.process import StartError
from spoter.torchserve.server import TorchServe
from stress.harness import RECOVERED, WORKERS, Problems, Stream, attacked_server, format_counts
from stress.runtime_faults import BATCH, FAULTS, CannotBeTried, Fault
from stress.startup_faults import STARTUP_FAULTS, try_start

_COLUMNS = (
    "Fault", "Requests", "Status 200", "Status 503", "Other statuses", "No answer", "Slowest answer, s",
    "Recovery time, s", "Log line", "As expected",
)  # fmt: skip
_LOG_HEAD = re.compile(r"^\S+ \[\w+ *\] (\S+) \S+ - ")


@dataclass(frozen=True)
class Outcome:
    """Answers to clients during a fault."""

    sent: int
    good: int  # answers with status 200
    refused: int  # answers with status 503
    others: Counter  # number of answers with other statuses
    unanswered: Counter  # number of requests without an answer, by reason
    slowest_s: float  # seconds of the slowest answer with any status
    recovery_s: float | None
    """Seconds from the fault to the first request of the final series that got only 200, with at least `RECOVERED`
    requests; None if there is no such series, 0 if no request failed."""

    @classmethod
    def from_answers(cls, answers: Iterable[Answer], injected: float) -> Self:
        """Count answers; `injected` is the time of the fault, by `time.perf_counter`."""
        ordered = sorted(answers, key=lambda answer: answer.started)
        statuses = Counter(answer.status for answer in ordered)
        failed = [index for index, answer in enumerate(ordered) if answer.status != 200]
        after = ordered[failed[-1] + 1 :] if failed else ordered
        recovery = None
        if len(after) >= RECOVERED:
            recovery = float(max(0.0, after[0].started - injected)) if failed else 0.0
        return cls(
            sent=len(ordered),
            good=statuses[200],
            refused=statuses[503],
            others=Counter({status: n for status, n in statuses.items() if status not in (200, 503, None)}),
            unanswered=Counter((a.error or "").split(":")[0] for a in ordered if a.status is None),
            slowest_s=float(max((answer.seconds for answer in ordered if answer.status is not None), default=0.0)),
            recovery_s=recovery,
        )


@dataclass(frozen=True)
class FaultReport:
    """The answers, the log line with the reason, and unexpected results."""

    outcome: Outcome
    log_line: str | None
    problems: list[str]


def inject_fault(server: TorchServe, fault: Fault, rate: float, before: float = 3.0) -> FaultReport:
    """Inject a fault into a ready server that gets `rate` requests per second, after `before` seconds of load."""
    problems = []
    with Stream(server.url, [Request(compact_request())], rate) as stream:
        time.sleep(before)
        injected = time.perf_counter()
        try:
            fault.inject(server)
        except (OSError, RuntimeError, SpoterError, StartError) as error:
            problems.append(str(error))
        repaired = time.perf_counter()
        if not problems and not stream.wait_recovered(repaired):
            problems.append("the service did not recover")
    line = find_log_line(server, fault.log_pattern)
    if line is None:
        problems.append(f"found no log line that matches {fault.log_pattern!r}")
    problems += find_problems(fault, stream.answers, injected, repaired)
    return FaultReport(Outcome.from_answers(stream.answers, injected), line, problems)


def find_log_line(server: TorchServe, pattern: str) -> str | None:
    """Return the last log line of a server that matches a regular expression, without its time."""
    texts = [path.read_text(errors="replace") for path in sorted(server.logs.rglob("*.log"))]
    lines = [line for text in texts for line in text.splitlines() if re.search(pattern, line)]
    return _LOG_HEAD.sub("", lines[-1]) if lines else None


def find_problems(fault: Fault, answers: list[Answer], injected: float, repaired: float) -> list[str]:
    """Return problems of the answers; the fault lasted from `injected` to `repaired` (`time.perf_counter`)."""
    problems = []
    if any(answer.status != 200 for answer in answers if answer.ended < injected):
        problems.append("requests failed before the fault")
    lost = [answer for answer in answers if answer.status is None]
    lost_in_fault = [answer for answer in lost if answer.ended > injected and answer.started < repaired]
    allowed = len(lost_in_fault) if fault.frontend_down else min(len(lost_in_fault), fault.workers_killed * BATCH)
    if len(lost) > allowed and not fault.known_loss:
        problems.append(f"{len(lost) - allowed} requests without an answer")
    unexpected = {answer.status for answer in answers} - {None, 200, 503} - fault.statuses
    if unexpected:
        problems.append(f"unexpected statuses {sorted(unexpected)}")
    return problems


def main(
    only: Annotated[list[str] | None, typer.Option(help="Name of a fault; repeatable [default: all].")] = None,
    rate: Annotated[float, typer.Option(min=5, max=500, help="Requests per second.")] = 40.0,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Seconds of load before each fault.")] = 3.0,
) -> None:
    """Inject faults into servers; exit with status 1 if a result is not as expected."""
    names = [fault.name for fault in (*FAULTS, *STARTUP_FAULTS)]
    if unknown := set(only or ()) - set(names):
        raise SpoterError(f"--only: found {', '.join(sorted(unknown))}, expected some of {', '.join(names)}")
    problems, running, starting = Problems(), [], []
    bar = tqdm([fault for fault in (*FAULTS, *STARTUP_FAULTS) if fault.name in (only or names)], leave=False)
    for fault in bar:
        bar.set_description(fault.name)
        if isinstance(fault, Fault):
            row, is_expected = _fault_row(fault, rate, seconds)
            running.append(row)
            problems.check(is_expected, fault.name)
        else:
            status, line, is_expected = try_start(fault)
            verdict = problems.check(is_expected, fault.name)
            starting.append([fault.what, fault.by, status, f"`{_cell(line)}`", verdict])
    if running:
        title = f"Faults under {rate:g} requests per second, {WORKERS} workers"
        typer.echo(markdown_table(_COLUMNS, running, title))
    if starting:
        columns = ("Fault", "Started by", "Exit status", "Message", "As expected")
        typer.echo(markdown_table(columns, starting, "Faults at the start"))
    problems.exit()


def _fault_row(fault: Fault, rate: float, seconds: float) -> tuple[list[object], bool]:
    """Run a fault; return its row of the table, and whether its result was as expected."""
    no_numbers = [fault.what, *["-"] * (len(_COLUMNS) - 2)]
    try:
        with fault.environment(), attacked_server(settings=fault.settings, archive=fault.archive) as server:
            report = inject_fault(server, fault, rate, seconds)
    except StartError as reason:
        return [*no_numbers, _cell(f"NO: the server did not start: {reason}"[:300])], False
    except CannotBeTried as reason:
        return [*no_numbers, f"not tried: {reason}"], True
    outcome, verdict = report.outcome, "yes"
    if report.problems:
        verdict = "NO: " + "; ".join(report.problems)
    elif fault.known_loss and outcome.unanswered:
        verdict = f"known problem: {fault.known_loss}"
    recovery = "never" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
    row = [
        fault.what, outcome.sent, outcome.good, outcome.refused, format_counts(outcome.others),
        format_counts(outcome.unanswered), f"{outcome.slowest_s:.2f}", recovery,
        f"`{_cell((report.log_line or '-')[:140])}`", _cell(verdict),
    ]  # fmt: skip
    return row, not report.problems


def _cell(text: str) -> str:
    """Return a text in one line, escaped for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    run_command(main)
