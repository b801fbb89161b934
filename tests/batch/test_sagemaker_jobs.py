"""Clips packed for a SageMaker batch job, and the job's answers joined with the places of the clips."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from spoter.batch.inputs import iterate_shards
from spoter.batch.predictor import ShardPredictor
from spoter.batch.run import Counts, RunRecord, ShardFolder, write_record
from spoter.batch.sagemaker_jobs import ShardPacker, join_answers, pack_clips, shorten
from spoter.errors import SpoterError
from tests.aws.deploy.containers import in_process
from tests.batch.clips import plan_shards
from tests.generate import figure_clip
from tests.training.datasets import generated_points, write_hdf5


@pytest.fixture(scope="module")
def clips(tmp_path_factory, samples) -> Path:
    """A folder of clips: some cannot be sent, and one is sent but refused by the server."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    write_hdf5(root / "a.hdf5", [(f"c/{i}", "NOD", generated_points("NOD", 9, rng)) for i in range(4)])
    hallo = (samples / "hallo.json").read_bytes()
    (root / "b.json").write_bytes(b'{"clips":[%s,{"points":3},%s]}' % (hallo, hallo))
    (root / "c.jsonl").write_bytes((samples / "ich-welt.jsonl").read_bytes() + b"{\n")
    (root / "d.json").write_bytes(b"{")
    np.save(root / "e.npy", np.where(np.arange(543)[:, None] < 33, np.nan, figure_clip().points))  # no shoulders
    return root


def pack_all(out: Path, clips: Path, model: Path, done: list[int] | None = None) -> Counts:
    """Pack in this process, three sources per shard; append the numbers of packed shards to `done`."""
    plan = plan_shards(out, model, clips, 3)
    work, numbers = ShardPacker(model), [] if done is None else done

    def execute(shards):
        for shard in shards:
            numbers.append(shard.number)
            yield shard.number, work(shard.sources)

    return pack_clips(plan, execute)


@pytest.fixture
def packed(clips, dgs11, tmp_path) -> Path:
    done = pack_all(tmp_path / "job", clips, dgs11)
    assert (done.clips, done.failed) == (12, 3)
    return tmp_path / "job"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_job(packed: Path, dgs11: Path) -> Path:
    """Answer a job's files like SageMaker: one request per line, with the bodies of the responses joined."""
    container = in_process(dgs11, in_job=True)
    folder = packed.parent / "answers"
    folder.mkdir()
    for path in (packed / "requests").iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        answers = [container(line, {"content-type": "application/jsonlines"}) for line in lines]
        (folder / f"{path.name}.out").write_bytes(b"".join(body for _, _, body in answers))
    return folder


def test_answers_of_a_job_equal_those_of_predict(packed, clips, dgs11, tmp_path):
    requests = [json.loads(line) for path in (packed / "requests").iterdir() for line in path.open()]
    assert {(document["layout"], len(document["points"][0])) for document in requests} == {("54", 54)}
    assert join_answers(packed, run_job(packed, dgs11), tmp_path / "joined.jsonl") == (12, 4)
    work = ShardPredictor(dgs11)
    expected = b"".join(work(shard.sources) for shard in iterate_shards([clips], 3))
    assert (tmp_path / "joined.jsonl").read_bytes() == expected
    errors = [json.loads(line).get("error", {}).get("code") for line in expected.splitlines()]
    assert [code for code in errors if code] == ["wrong_type", "invalid_json", "invalid_json", "no_usable_frames"]


def test_points_are_written_with_as_few_digits_as_possible():
    points = np.array([0.3, 1 / 3, 0.00012345, -2.5, np.nan, 1.00000012, 3e-7], np.float32)
    written = shorten(points)
    np.testing.assert_array_equal(written.astype(np.float32), points)
    assert [str(number) for number in written[[0, 1, 2, 3]]] == ["0.3", "0.33333334", "0.00012345", "-2.5"]


def test_requests_other_than_landmarks_cannot_be_packed(tmp_path, dgs11):
    for name, body in (
        ("a", '{"describe": true}'),
        ("b", '{"enroll": "X", "points": []}'),
        ("c", '{"uniqueName": "v"}'),
    ):
        (tmp_path / f"{name}.json").write_text(body)
    (shard,) = iterate_shards([tmp_path], 10)
    requests, inputs = ShardPacker(dgs11)(shard.sources)
    assert requests == b"" and all("error" in json.loads(line) for line in inputs.splitlines())


@pytest.mark.parametrize("wrong", ["fewer", "cut", "more", "absent"])
def test_answers_that_do_not_match_the_clips_are_refused(packed, dgs11, tmp_path, wrong):
    answers = run_job(packed, dgs11)
    path = answers / "00000.jsonl.out"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join({"fewer": lines[:-1], "cut": [*lines[:-1], lines[-1][:9]]}.get(wrong, [*lines, lines[0]]))
    )
    if wrong == "absent":
        path.unlink()
    with pytest.raises(SpoterError) as error:
        join_answers(packed, answers, tmp_path / "joined.jsonl")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "joined.jsonl").exists()


def test_answers_keep_the_order_of_clips_if_file_names_have_more_digits(tmp_path):
    (tmp_path / "inputs").mkdir()
    for number in (100_000, 99_999, 7):
        line = {"input": {"file": str(number)}, "error": {"code": "unreadable_clip"}}
        text = json.dumps(line).encode() + b"\n" + b'{"requests":"%s"}\n' % hashlib.sha256(b"").hexdigest().encode()
        ShardFolder(tmp_path / "inputs").write(number, text)
    write_record(tmp_path / "run.json", RunRecord("m 1", "", "", {}, 3, "0", clips=3, failed=3))
    assert join_answers(tmp_path, tmp_path, tmp_path / "joined.jsonl") == (3, 3)
    lines = [json.loads(line) for line in (tmp_path / "joined.jsonl").open()]
    assert [line["input"]["file"] for line in lines] == ["7", "99999", "100000"]


@pytest.mark.parametrize("file", ["requests/00000.jsonl", "inputs/00000.jsonl"])
@pytest.mark.parametrize("kind", ["emptied", "cut", "changed", "removed"])
def test_damaged_shard_is_packed_again(packed, clips, dgs11, file, kind):
    before, path, done = content_of(packed), packed / file, []
    content = path.read_bytes()
    path.write_bytes({"emptied": b"", "cut": content[:99]}.get(kind, content[:9] + b"?" + content[10:]))
    if kind == "removed":
        path.unlink()
    pack_all(packed, clips, dgs11, done)
    assert done == [0] and content_of(packed) == before


def test_shard_without_a_line_for_the_job_has_no_request_file(tmp_path, dgs11):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.json").write_text("{")
    out, done = tmp_path / "job", []
    pack_all(out, tmp_path / "bad", dgs11)
    before = content_of(out)
    assert set(before) == {"run.json", "inputs/00000.jsonl"}
    (out / "requests" / "00000.jsonl").write_text("{}\n")  # from other clips, packed here earlier
    pack_all(out, tmp_path / "bad", dgs11, done)
    assert done == [0] and content_of(out) == before
    assert join_answers(out, tmp_path, tmp_path / "joined.jsonl") == (1, 1)


def test_requests_of_an_earlier_run_are_removed_if_its_inputs_are(packed, tmp_path, samples, dgs11):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(samples / "hallo.json", few)
    before = content_of(packed)
    with pytest.raises(SpoterError, match=r"inputs: found \d+ parts"):
        pack_all(packed, few, dgs11)
    assert content_of(packed) == before
    (packed / "run.json").unlink()
    shutil.rmtree(packed / "inputs")
    pack_all(packed, few, dgs11)
    pack_all(tmp_path / "fresh", few, dgs11)
    assert content_of(packed) == content_of(tmp_path / "fresh")
    assert list(content_of(packed / "requests")) == ["00000.jsonl"]


def test_foreign_file_among_the_requests_is_refused(packed, clips, dgs11):
    (packed / "requests" / "notes.jsonl").write_text("mine")
    with pytest.raises(SpoterError, match=r"requests/notes\.jsonl: "):
        pack_all(packed, clips, dgs11)
    assert (packed / "requests" / "notes.jsonl").read_text() == "mine"


def test_join_does_not_need_the_requests(packed, dgs11, tmp_path):
    answers = run_job(packed, dgs11)
    shutil.rmtree(packed / "requests")
    assert join_answers(packed, answers, tmp_path / "joined.jsonl") == (12, 4)


@pytest.mark.parametrize("kind", ["emptied", "cut", "removed"])
def test_damaged_inputs_are_an_error(packed, dgs11, tmp_path, kind):
    answers, path = run_job(packed, dgs11), packed / "inputs/00001.jsonl"
    path.write_bytes(b"" if kind == "emptied" else path.read_bytes()[:-1])
    if kind == "removed":
        path.unlink()
    with pytest.raises(SpoterError) as error:
        join_answers(packed, answers, tmp_path / "joined.jsonl")
    assert str(packed / "inputs") in str(error.value) and not (tmp_path / "joined.jsonl").exists()


def test_incompletely_packed_folder_is_refused(tmp_path):
    with pytest.raises(SpoterError, match="spoter batch-pack"):
        join_answers(tmp_path, tmp_path, tmp_path / "joined.jsonl")
