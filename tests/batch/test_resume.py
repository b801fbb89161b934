"""Large batches: shards in workers, and interrupted runs that are resumed with the same result."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

import spoter
from spoter.batch.inputs import ClipSource, Shard
from spoter.batch.output import predict_to_file
from spoter.batch.predictor import ShardPredictor
from spoter.batch.process_pool import WorkerDied, run_in_processes
from spoter.batch.run import Counts, RunPlan, RunRecord, Stopped, plan_run
from spoter.errors import SpoterError
from spoter.files import TEMPORARY_PREFIX, exclusive_lock
from tests.batch import worker_functions
from tests.batch.clips import find_sources, make_clips, plan_shards
from tests.training.datasets import write_hdf5


def make_shards(count: int, started: list[int]):
    """Yield shards; append the number of each to `started`."""
    for number in range(count):
        started.append(number)
        yield Shard(number, [ClipSource(str(number))])


@pytest.mark.parametrize("count", [3, 60])
def test_number_of_shards_in_flight_is_bounded(count):
    started: list[int] = []
    most = finished = 0
    for number, files in run_in_processes(worker_functions.echo, make_shards(count, started), jobs=2):
        assert files == [str(number)]
        most = max(most, len(started) - finished)
        finished += 1
    assert finished == count and most <= 2 * 2 + 1


def test_killed_worker_is_an_error_of_one_line():
    with pytest.raises(WorkerDied) as error:
        list(run_in_processes(worker_functions.die, make_shards(3, []), jobs=1))
    assert error.value.exit_code == 1 and "\n" not in str(error.value)


def test_closed_generator_starts_no_further_shards(dgs11, clips):
    with closing(run_in_processes(worker_functions.echo, make_shards(100, started := []), jobs=1)) as results:
        next(results)
    assert len(started) < 10
    is_stopped = iter([False, False, True])
    assert ShardPredictor(dgs11, batch=2)(find_sources(clips), lambda: next(is_stopped)).count(b"\n") == 4


def predict(out: Path, plan: RunPlan, execute) -> Counts:
    return predict_to_file(replace(plan, out=out), execute)


def run_here(work: ShardPredictor, done: list[int], stop_after: int | None = None):
    """Return an executor that computes shards in this process, and is interrupted after `stop_after` shards."""

    def execute(shards):
        for count, shard in enumerate(shards):
            if count == stop_after:
                raise KeyboardInterrupt
            done.append(shard.number)
            yield shard.number, work(shard.sources)

    return execute


@pytest.fixture
def clips(tmp_path) -> Path:
    return write_hdf5(tmp_path / "signs.hdf5", make_clips(10))


def test_interrupted_run_is_resumed_and_ends_with_the_same_bytes(tmp_path, clips, dgs11):
    work = ShardPredictor(dgs11)
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    counts = predict(tmp_path / "uninterrupted.jsonl", plan, run_here(work, []))
    assert (counts.clips, counts.failed) == (10, 0)
    out, done = tmp_path / "out.jsonl", []
    with pytest.raises(Stopped, match="6 of 10 clips"):
        predict(out, plan, run_here(work, done, stop_after=2))
    assert done == [0, 1] and not out.exists()
    unfinished = tmp_path / "out.jsonl.parts" / f"{TEMPORARY_PREFIX}x"  # left by a killed run
    unfinished.write_text("{")
    (unfinished.parent / "notes.jsonl").write_text("{")  # written by a user
    done.clear()
    assert predict(out, plan, run_here(work, done)) == counts
    assert done == [2, 3]
    assert out.read_bytes() == (tmp_path / "uninterrupted.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl", "out.jsonl.run.json"]
    done.clear()
    assert predict(out, plan, run_here(work, done)) == counts and done == []


DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut-at-a-line": lambda content: content[: content.index(b"\n") + 1],
    "zeros": lambda content: bytes(len(content)),
    "line-changed": lambda content: content.replace(b"score", b"scare", 1),
    "line-lost": lambda content: content.partition(b"\n")[2],
    "no-checksum": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),  # like files of earlier versions
    "removed": None,
}


def damage(path: Path, kind: str) -> None:
    if DAMAGE[kind] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_shard_is_computed_again(tmp_path, clips, dgs11, kind):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    counts = predict(tmp_path / "uninterrupted.jsonl", plan, run_here(work, []))
    with pytest.raises(Stopped):
        predict(out, plan, run_here(work, done, stop_after=3))
    damage(tmp_path / "out.jsonl.parts" / "00001.jsonl", kind)
    done.clear()
    assert predict(out, plan, run_here(work, done)) == counts
    assert done == [1, 3]
    assert out.read_bytes() == (tmp_path / "uninterrupted.jsonl").read_bytes()


@pytest.mark.parametrize("kind", ["emptied", "line-changed", "removed"])
def test_shard_that_is_damaged_before_the_join_is_an_error(tmp_path, clips, dgs11, kind):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    part = tmp_path / "out.jsonl.parts" / "00000.jsonl"

    def execute(shards):
        yield from run_here(work, [])(shards)
        damage(part, kind)

    with pytest.raises(SpoterError) as error:
        predict(out, plan, execute)
    assert str(error.value).startswith(f"{part}: ") and not out.exists()
    assert predict(out, plan, run_here(work, done)).clips == 10
    assert done == [0]


def test_run_killed_before_it_recorded_its_counts_is_resumed(tmp_path, clips, dgs11, monkeypatch):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    with monkeypatch.context() as patch:
        patch.setattr("spoter.batch.output.write_record", lambda *_: {}[0])  # simulates a kill at this point
        with pytest.raises(KeyError):
            predict(out, plan, run_here(work, done))
    before = out.read_bytes()
    assert predict(out, plan, run_here(work, done)).clips == 10
    assert done == [0, 1, 2, 3] and out.read_bytes() == before


@pytest.mark.parametrize("stop_after", [1, None], ids=["started", "finished"])
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"weights": "x"}, "model (dgs11 1.1)"),
        ({"options": {"top_k": 3}}, "options (none)"),
        ({"inputs": "x"}, "other clips"),
        ({"spoter": "0"}, f"version of spoter ({spoter.__version__})"),
    ],
)
def test_results_of_other_inputs_are_refused(tmp_path, clips, dgs11, stop_after, change, difference):
    plan = plan_shards(tmp_path, dgs11, clips, 6)
    out, work = tmp_path / "out.jsonl", ShardPredictor(dgs11)
    try:
        predict(out, plan, run_here(work, [], stop_after))
    except Stopped:
        assert stop_after
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = replace(plan, record=msgspec.structs.replace(plan.record, **change))
    with pytest.raises(SpoterError) as error:
        predict(out, other, run_here(work, []))
    assert difference in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_file_of_another_program_and_folder_of_another_command_are_not_changed(tmp_path, clips, dgs11):
    plan = plan_shards(tmp_path, dgs11, clips, 6)
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(SpoterError, match=r"out\.jsonl\.run\.json"):
        predict(out, plan, run_here(ShardPredictor(dgs11), []))
    assert out.read_text() == "mine" and [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]
    other = tmp_path / "other.jsonl.parts"
    other.mkdir()
    with exclusive_lock(other), pytest.raises(SpoterError, match=r"other\.jsonl\.parts: another command"):
        predict(tmp_path / "other.jsonl", plan, run_here(ShardPredictor(dgs11), []))


def test_changed_model_is_another_model_but_a_changed_card_is_not(tmp_path, clips, dgs11):
    model = tmp_path / "model"
    model.mkdir()
    for path in dgs11.iterdir():
        (model / path.name).write_bytes(path.read_bytes())

    def record() -> RunRecord:
        return plan_run(tmp_path / "out.jsonl", model, [clips], {}).record

    original = record()
    assert original == plan_run(tmp_path / "out.jsonl", dgs11, [clips], {}).record
    (model / "MODEL_CARD.md").write_text("a better description")
    assert record() == original
    (model / "meaning.json").write_text("{}")
    assert "dgs11 1.1" in record().difference(original)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: spoter[ray]")
def test_results_of_ray_are_the_same_bytes(tmp_path, clips, dgs11):
    from spoter.batch.ray_pool import run_in_ray

    plan = plan_shards(tmp_path, dgs11, clips, 4)
    predict(tmp_path / "here.jsonl", plan, run_here(ShardPredictor(dgs11), []))
    predict(tmp_path / "ray.jsonl", plan, partial(run_in_ray, ShardPredictor(dgs11), jobs=1, address="local"))
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
