"""Batch transform as in SageMaker: SAGEMAKER_BATCH is set, each line is a request, and the answers are joined.

These tests use the entry point handler; tests/torchserve/test_handler.py tests code/inference.py.
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


def test_each_line_gets_one_answer_line_in_order(job):
    """SplitType Line, BatchStrategy SingleRecord, AssembleWith None."""
    valid = (ROOT / "samples" / "ich-welt.jsonl").read_bytes().splitlines()
    lines = [valid[0], b"{nonsense", valid[1], b"{}", b"\xff", valid[0]]
    client = runtime_client(job)
    answers = [invoke(client, line, "application/jsonlines") for line in lines]
    assert {status for status, *_ in answers} == {200}
    joined = [json.loads(line) for line in b"".join(body for *_, body in answers).decode().split("\n")[:-1]]
    assert len(joined) == len(lines)
    results = [document.get("error", {}).get("code") or document["instances"][0]["gloss"] for document in joined]
    assert results == ["ICH", "invalid_json", "WELT", "unknown_form", "invalid_json", "ICH"]


def test_packed_clips_get_the_answers_of_predict(job, tmp_path, dgs11, samples):
    plan = plan_shards(tmp_path, dgs11, samples, 16)
    packer = ShardPacker(dgs11)
    pack_clips(plan, lambda shards: ((shard.number, packer(shard.sources)) for shard in shards))
    client = runtime_client(job)
    for path in (tmp_path / REQUESTS).iterdir():
        answers = [invoke(client, line, "application/jsonlines") for line in path.read_bytes().splitlines()]
        assert {status for status, *_ in answers} == {200}
        (tmp_path / f"{path.name}.out").write_bytes(b"".join(body for *_, body in answers))
    clips, _ = join_answers(tmp_path, tmp_path, tmp_path / "joined.jsonl")
    expected = b"".join(ShardPredictor(dgs11)(shard.sources) for shard in iterate_shards([samples], 16))
    assert (tmp_path / "joined.jsonl").read_bytes() == expected and expected.count(b"\n") == clips > 5


def test_job_with_another_content_type_fails(job):
    status, _, answer = invoke(runtime_client(job), b"{}", "text/plain")
    assert status == 415 and json.loads(answer)["error"]["code"] == "unsupported_content_type"
