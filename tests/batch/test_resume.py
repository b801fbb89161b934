"""Very many clips: parts handed to workers, and a run that was stopped, which goes on and ends in the same bytes."""

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
from tests.batch import folders as bulk_works
from tests.batch.clips import found, plan_shards, signs
from tests.training.datasets import write_hdf5


def counted(count: int, drawn: list[int]):
    for number in range(count):
        drawn.append(number)
        yield Shard(number, [ClipSource(str(number))])


@pytest.mark.parametrize("count", [3, 60])
def test_parts_are_drawn_no_faster_than_they_are_fetched(count):
    drawn: list[int] = []
    most = fetched = 0
    for number, files in run_in_processes(bulk_works.echo, counted(count, drawn), jobs=2):
        assert files == [str(number)]
        most = max(most, len(drawn) - fetched)
        fetched += 1
    assert fetched == count and most <= 2 * 2 + 1


def test_a_worker_that_is_killed_is_one_line():
    with pytest.raises(WorkerDied, match=r"a worker was killed") as error:
        list(run_in_processes(bulk_works.die, counted(3, []), jobs=1))
    assert error.value.exit_code == 1 and "\n" not in str(error.value)


def test_who_stops_early_leaves_the_rest(dgs11, clips):
    with closing(run_in_processes(bulk_works.echo, counted(100, drawn := []), jobs=1)) as results:
        next(results)
    assert len(drawn) < 10
    stopped = iter([False, False, True])
    assert ShardPredictor(dgs11, batch=2)(found(clips), lambda: next(stopped)).count(b"\n") == 4


def predict(out: Path, plan: RunPlan, execute) -> Counts:
    return predict_to_file(replace(plan, out=out), execute)


def directly(work: ShardPredictor, done: list[int], stop_after: int | None = None):
    """Answer parts in this process; be stopped by Ctrl-C after some."""

    def do(rest):
        for count, shard in enumerate(rest):
            if count == stop_after:
                raise KeyboardInterrupt
            done.append(shard.number)
            yield shard.number, work(shard.sources)

    return do


@pytest.fixture
def clips(tmp_path) -> Path:
    return write_hdf5(tmp_path / "signs.hdf5", signs(10))


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(tmp_path, clips, dgs11):
    work = ShardPredictor(dgs11)
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    whole = predict(tmp_path / "whole.jsonl", plan, directly(work, []))
    assert (whole.clips, whole.failed) == (10, 0)
    out, done = tmp_path / "out.jsonl", []
    with pytest.raises(Stopped, match="6 of 10 clips"):
        predict(out, plan, directly(work, done, stop_after=2))
    assert done == [0, 1] and not out.exists()
    unfinished = tmp_path / "out.jsonl.parts" / f"{TEMPORARY_PREFIX}x"  # of a run that was killed
    unfinished.write_text("{")
    (unfinished.parent / "notes.jsonl").write_text("{")  # of people
    done.clear()
    assert predict(out, plan, directly(work, done)) == whole
    assert done == [2, 3]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl", "out.jsonl.run.json"]
    done.clear()
    assert predict(out, plan, directly(work, done)) == whole and done == []


DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut-at-a-line": lambda content: content[: content.index(b"\n") + 1],
    "zeros": lambda content: bytes(len(content)),
    "line-changed": lambda content: content.replace(b"score", b"scare", 1),
    "line-lost": lambda content: content.partition(b"\n")[2],
    "not-sealed": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),  # as written by earlier versions
    "removed": None,
}


def damage(path: Path, kind: str) -> None:
    if DAMAGE[kind] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_part_is_made_again(tmp_path, clips, dgs11, kind):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    whole = predict(tmp_path / "whole.jsonl", plan, directly(work, []))
    with pytest.raises(Stopped):
        predict(out, plan, directly(work, done, stop_after=3))
    damage(tmp_path / "out.jsonl.parts" / "00001.jsonl", kind)
    done.clear()
    assert predict(out, plan, directly(work, done)) == whole
    assert done == [1, 3]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("kind", ["emptied", "line-changed", "removed"])
def test_a_part_that_is_damaged_before_the_join_is_not_joined(tmp_path, clips, dgs11, kind):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    part = tmp_path / "out.jsonl.parts" / "00000.jsonl"

    def do(rest):
        yield from directly(work, [])(rest)
        damage(part, kind)

    with pytest.raises(SpoterError) as error:
        predict(out, plan, do)
    assert str(error.value).startswith(f"{part}: ") and not out.exists()
    assert predict(out, plan, directly(work, done)).clips == 10
    assert done == [0]


def test_a_run_killed_before_its_end_was_noted_ends_in_the_same_bytes(tmp_path, clips, dgs11, monkeypatch):
    plan = plan_shards(tmp_path, dgs11, clips, 3)
    out, done, work = tmp_path / "out.jsonl", [], ShardPredictor(dgs11)
    with monkeypatch.context() as patch:
        patch.setattr("spoter.batch.output.write_record", lambda *told: {}[0])  # as if killed there
        with pytest.raises(KeyError):
            predict(out, plan, directly(work, done))
    before = out.read_bytes()
    assert predict(out, plan, directly(work, done)).clips == 10
    assert done == [0, 1, 2, 3] and out.read_bytes() == before


@pytest.mark.parametrize("begun", [1, None], ids=["begun", "done"])
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weights": "x"}, "of another model (dgs11 1.1)"),
        ({"options": {"top_k": 3}}, "of other options (none)"),
        ({"inputs": "x"}, "of other clips, or of files that were changed since"),
        ({"spoter": "0"}, f"of another version of this program ({spoter.__version__})"),
    ],
)
def test_what_was_made_of_something_else_is_refused(tmp_path, clips, dgs11, begun, change, complaint):
    plan = plan_shards(tmp_path, dgs11, clips, 6)
    out, work = tmp_path / "out.jsonl", ShardPredictor(dgs11)
    try:
        predict(out, plan, directly(work, [], begun))
    except Stopped:
        assert begun
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = replace(plan, record=msgspec.structs.replace(plan.record, **change))
    with pytest.raises(SpoterError) as error:
        predict(out, other, directly(work, []))
    assert complaint in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_files_and_another_commands_answers_are_left_alone(tmp_path, clips, dgs11):
    plan = plan_shards(tmp_path, dgs11, clips, 6)
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(SpoterError, match=r"out\.jsonl exists but has no run record \(out\.jsonl\.run\.json\)"):
        predict(out, plan, directly(ShardPredictor(dgs11), []))
    assert out.read_text() == "mine" and [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]
    other = tmp_path / "other.jsonl.parts"
    other.mkdir()
    with exclusive_lock(other), pytest.raises(SpoterError, match="another command is writing"):
        predict(tmp_path / "other.jsonl", plan, directly(ShardPredictor(dgs11), []))


def test_a_model_that_was_changed_is_another(tmp_path, clips, dgs11):
    model = tmp_path / "model"
    model.mkdir()
    for path in dgs11.iterdir():
        (model / path.name).write_bytes(path.read_bytes())

    def record() -> RunRecord:
        return plan_run(tmp_path / "out.jsonl", model, [clips], {}).record

    same = record()
    assert same == plan_run(tmp_path / "out.jsonl", dgs11, [clips], {}).record
    (model / "MODEL_CARD.md").write_text("said better")
    assert record() == same
    (model / "meaning.json").write_text("{}")
    assert record().difference(same) == "another model (dgs11 1.1)"


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: spoter[ray]")
def test_rays_answers_are_the_same_bytes(tmp_path, clips, dgs11):
    from spoter.batch.ray_pool import run_in_ray

    plan = plan_shards(tmp_path, dgs11, clips, 4)
    predict(tmp_path / "here.jsonl", plan, directly(ShardPredictor(dgs11), []))
    predict(tmp_path / "ray.jsonl", plan, partial(run_in_ray, ShardPredictor(dgs11), jobs=1, address="local"))
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
