"""Find the best workers, threads, batch size and delay for some cores: `python -m benchmarks.serving.tuning --cores 2`.

One TorchServe runs on these cores. For each setting, the benchmark registers the model again and loads it with 1, 8 and
32 clients. Each round uses another order of the settings, so that a slow minute of the machine affects different ones.
The table has medians over the rounds.
"""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
import yaml
from tqdm import tqdm

from benchmarks import MODEL, ROOT
from benchmarks.command import ModelOption, RuntimeOption, run_command
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Figures, Request, combine_rounds, run_closed_loop
from benchmarks.load.usage import measure_usage
from benchmarks.serving.server import change_archive, running_server
from benchmarks.tables import markdown_table
from benchmarks.timing import describe_machine
from spoter.errors import SpoterError
from spoter.model.config import choose_runtime
from spoter.ops.local_server import NAME
from spoter.serving.recognizer import Recognizer
from spoter.torchserve.server import TorchServe

CLIENTS = (1, 8, 32)
BATCHES = (1, 4, 8, 16)
DELAYS = (1, 5)  # milliseconds; for TorchServe, 0 means "not set", which is 100
WARM = 1.5  # seconds of load before a measurement, to warm up Python, Java and the processor's caches


@dataclass(frozen=True)
class Setting:
    """`workers` with `threads` each, and batches of up to `batch` requests that wait `delay` ms to fill."""

    workers: int
    threads: int
    batch: int
    delay: int


Results = dict[Setting, dict[int, Figures]]  # figures by setting and number of clients


def list_settings(cores: int, runtime: str) -> list[Setting]:
    """Return the settings to try: as many workers as cores, one more, and half as many, also with two threads each."""
    pairs = {(cores, 1), (cores + 1, 1)}
    if cores > 1:  # ONNX Runtime always computes with one thread
        pairs |= {(cores // 2, 1)} | ({(cores // 2, 2)} if runtime == "torch" else set())
    return [
        Setting(workers, threads, batch, delay)
        for workers, threads in sorted(pairs)
        for batch in BATCHES
        for delay in (DELAYS if batch > 1 else DELAYS[:1])  # a batch of one does not wait
    ]


def default_setting(cores: int) -> Setting:
    """Return the default setting of a server on `cores` cores."""
    config = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_bytes())
    return Setting(cores, config["handler"]["threads"], config["batchSize"], config["maxBatchDelay"])


@contextmanager
def pin_to_cores(cores: int) -> Iterator[None]:
    """Pin the processes that the block starts to the first `cores` of this process, and this process to the others."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, available[cores:] or available)  # this process, the client, must not slow the server


def register(server: TorchServe, setting: Setting) -> None:
    """Replace the model of a server, by its model API, with the same model in other settings."""
    archive = server.store / f"{NAME}-tuned.mar"
    shutil.copy(server.store / f"{NAME}.mar", archive)
    config = {"batchSize": setting.batch, "maxBatchDelay": setting.delay, "handler": {"threads": setting.threads}}
    change_archive(archive, config, {})
    server.manage("DELETE", f"/models/{NAME}")
    query = f"url={archive.name}&model_name={NAME}&initial_workers={setting.workers}&synchronous=true"
    server.manage("POST", f"/models?{query}")


def measure_load(server: TorchServe, request: Request, clients: int, seconds: float) -> Figures:
    """Load the server for `seconds`; raise `SpoterError` unless all answers have status 200."""
    before = measure_usage(server.leader).cpu_s
    load = run_closed_loop(server.url, [request], clients, seconds)
    return load.require_success().summarize(measure_usage(server.leader).cpu_s - before)


def measure_settings(
    server: TorchServe, request: Request, settings: Sequence[Setting], seconds: float, rounds: int
) -> Results:
    """Measure all settings in each round; return medians over the rounds."""
    measured: dict[Setting, dict[int, list[Figures]]] = {setting: {n: [] for n in CLIENTS} for setting in settings}
    order = random.Random(0)
    with tqdm(total=rounds * len(settings), unit=" settings", leave=False) as bar:
        for _ in range(rounds):
            for setting in order.sample(settings, len(settings)):
                register(server, setting)
                measure_load(server, request, 8, WARM)
                for clients, figures in measured[setting].items():
                    figures.append(measure_load(server, request, clients, seconds))
                bar.update()
    return {key: {n: combine_rounds(figures) for n, figures in loads.items()} for key, loads in measured.items()}


def results_table(results: Results, default: Setting) -> str:
    """Return a Markdown table, sorted by requests per second with the most clients; the default is marked."""
    columns = ["workers", "threads", "batch", "delay ms"]
    for clients in CLIENTS:
        columns += [f"{clients} client{'s' * (clients > 1)}: requests/s", "p50 ms", "p99 ms"]
    most = CLIENTS[-1]
    rows = []
    for setting, figures in sorted(results.items(), key=lambda item: -item[1][most].rate):
        name = f"**{setting.workers}** (default)" if setting == default else setting.workers
        cells = [cell for f in figures.values() for cell in (f"{f.rate:.0f}", f"{f.p50:.1f}", f"{f.p99:.1f}")]
        rows.append((name, setting.threads, setting.batch, setting.delay, *cells, f"{figures[most].cpu_ms:.2f}"))
    return markdown_table([*columns, f"CPU ms per request, {most} clients"], rows, left=0)


def main(
    cores: Annotated[int | None, typer.Option(min=1, help="Cores for the server [default: all].")] = None,
    model: ModelOption = MODEL,
    runtime: RuntimeOption = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure each number of clients.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds through all settings.")] = 1,
) -> None:
    """Try workers, threads, batch sizes and delays, and print a ranked table."""
    if not hasattr(os, "sched_setaffinity"):
        raise SpoterError("this system cannot pin processes to cores, expected Linux")
    available = len(os.sched_getaffinity(0))
    cores = cores or available
    if cores > available:
        raise SpoterError(f"found {available} cores, expected at least {cores}: lower --cores or use a larger machine")
    runtime = choose_runtime(model, runtime)
    request = Request(compact_request(Recognizer.load(model).layout))
    print(f"{describe_machine()}; {cores} of {available} cores for the server")
    with ExitStack() as stack:
        with pin_to_cores(cores):
            server = stack.enter_context(running_server(model, 1, {"TS_ENABLE_MODEL_API": "true"}, runtime))
        results = measure_settings(server, request, list_settings(cores, runtime), seconds, rounds)
    print(f"{runtime}, compact requests of 60 frames, medians over {rounds} rounds of {seconds:g} s\n")
    print(results_table(results, default_setting(cores)))


if __name__ == "__main__":
    run_command(main)
