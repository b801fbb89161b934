"""Batch transform, as SageMaker runs it: SAGEMAKER_BATCH is set, each line is a request, all bodies are joined.

Of the archive as it is; code/inference.py answers a job's records as that does: tests/torchserve/test_handler.py.
"""

from __future__ import annotations

import json

import pytest

from spoter.aws.local.endpoint import LocalEndpoint
from spoter.batch.inputs import iterate_shards
from spoter.batch.predictor import ShardPredictor
from spoter.batch.sagemaker_jobs import REQUESTS, ShardPacker, join_answers, pack_clips
from tests import ROOT
from tests.aws.local.fixtures import invoke, runtime_client
from tests.batch.clips import plan_shards

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def job(archive):
    # The variables that https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html lists.
    environ = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
    }
    with LocalEndpoint(archive, workers=1, environ=environ) as endpoint:
        yield endpoint


def test_each_line_is_answered_by_a_line_in_order(job):
    """SplitType Line, BatchStrategy SingleRecord, AssembleWith None."""
    good = (ROOT / "samples" / "ich-welt.jsonl").read_bytes().splitlines()
    lines = [good[0], b"{nonsense", good[1], b"{}", b"\xff", good[0]]
    client = runtime_client(job)
    answers = [invoke(client, line, "application/jsonlines") for line in lines]
    assert {status for status, *_ in answers} == {200}
    joined = [json.loads(line) for line in b"".join(body for *_, body in answers).decode().split("\n")[:-1]]
    assert len(joined) == len(lines)
    found = [document.get("error", {}).get("code") or document["instances"][0]["gloss"] for document in joined]
    assert found == ["ICH", "invalid_json", "WELT", "unknown_form", "invalid_json", "ICH"]


def test_packed_clips_are_answered_as_predict_answers_them(job, tmp_path, dgs11, samples):
    plan = plan_shards(tmp_path, dgs11, samples, 16)
    work = ShardPacker(dgs11)
    pack_clips(plan, lambda rest: ((shard.number, work(shard.sources)) for shard in rest))
    client = runtime_client(job)
    for path in (tmp_path / REQUESTS).iterdir():
        answers = [invoke(client, line, "application/jsonlines") for line in path.read_bytes().splitlines()]
        assert {status for status, *_ in answers} == {200}
        (tmp_path / f"{path.name}.out").write_bytes(b"".join(body for *_, body in answers))
    clips, _ = join_answers(tmp_path, tmp_path, tmp_path / "joined.jsonl")
    directly = b"".join(ShardPredictor(dgs11)(shard.sources) for shard in iterate_shards([samples], 16))
    assert (tmp_path / "joined.jsonl").read_bytes() == directly and directly.count(b"\n") == clips > 5


def test_a_job_that_sends_something_else_fails(job):
    status, _, answer = invoke(runtime_client(job), b"{}", "text/plain")
    assert status == 415 and json.loads(answer)["error"]["code"] == "unsupported_content_type"
