"""Clips in, ranked glosses out, independent of the other clips in a batch; and the same for requests."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.landmarks.clip import make_clip
from spoter.messages import RawRequest
from spoter.runtime.base import MAX_FRAMES_PER_BATCH, batch_by_length
from spoter.serving.recognizer import Recognizer, Timings
from spoter.serving.service import respond
from tests.generate import figure_clip


@pytest.fixture(scope="module")
def recognizer(dgs11) -> Recognizer:
    return Recognizer.load(dgs11)


def body(clip, **more) -> bytes:
    points = np.where(np.isnan(clip.points), None, clip.points.astype(object)).tolist()
    return json.dumps({"estimator": clip.estimator, "points": points, **more}).encode()


def test_answers_are_probabilities_best_first(recognizer):
    (answer,) = recognizer.recognize([figure_clip()], top_k=99)
    scores = [ranked.score for ranked in answer.glosses]
    assert all(a >= b for a, b in pairwise(scores)) and sum(scores) == pytest.approx(1, abs=1e-5)
    assert sorted(ranked.index for ranked in answer.glosses) == list(range(len(recognizer.glosses)))
    assert all(recognizer.glosses[ranked.index] == ranked.gloss for ranked in answer.glosses)
    assert (answer.frames, answer.model.name) == (20, recognizer.config.name)


def test_batch_equals_single_clips_and_keeps_its_order(recognizer):
    clips = [figure_clip(frames=frames, seed=frames) for frames in (90, 20, 55, 20, 3)]
    together = recognizer.recognize(clips, top_k=3)
    for clip, answer in zip(clips, together, strict=True):
        (single,) = recognizer.recognize([clip], top_k=3)
        assert [ranked.gloss for ranked in single.glosses] == [ranked.gloss for ranked in answer.glosses]
        np.testing.assert_allclose(
            [ranked.score for ranked in single.glosses], [ranked.score for ranked in answer.glosses], atol=1e-5
        )


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_scores_of_single_requests_and_of_a_batch_differ_only_by_rounding(dgs11, runtime):
    """docs/formats.md states this for `score`."""
    recognizer = Recognizer.load(dgs11, runtime=runtime)
    requests = [
        RawRequest(body(figure_clip(frames=8 + seed % 53, seed=seed), top_k=11), "application/json")
        for seed in range(32)
    ]
    together = respond(recognizer, requests)[0]
    for request, answer in zip(requests, together, strict=True):
        [single] = respond(recognizer, [request])[0]
        scores, expected = (
            {ranked["gloss"]: ranked["score"] for ranked in json.loads(response.body)["instances"]}
            for response in (answer, single)
        )
        assert scores == pytest.approx(expected, abs=1.01e-4)


def test_bad_clip_does_not_affect_the_others(recognizer):
    empty = make_clip(np.full((4, 543, 2), np.nan), figure_clip().names, "mediapipe")
    decoding_error = InputError(ErrorCode.WRONG_TYPE, "from decoding")
    long = figure_clip(frames=recognizer.config.max_frames + 1)
    clips = [figure_clip(), empty, decoding_error, long, figure_clip()]
    good, no_frames, passed_through, too_long, also_good = recognizer.recognize(clips)
    assert [ranked.gloss for ranked in good.glosses] == [ranked.gloss for ranked in also_good.glosses]
    assert (no_frames.code, too_long.code) == ("no_usable_frames", "too_many_frames")
    assert passed_through is decoding_error


def test_empty_batch_has_no_predictions(recognizer):
    timings = Timings()
    assert recognizer.recognize([], timings=timings) == []
    assert (timings.frames, timings.clips) == (0, 0)


def test_timings_accumulate(recognizer):
    timings = Timings()
    for _ in range(2):
        recognizer.recognize([figure_clip()], timings=timings)
    assert (timings.frames, timings.clips) == (40, 2)
    assert timings.normalize_ms > 0 and timings.forward_ms > 0


@pytest.mark.parametrize("shortest", [0, 0.8])
def test_long_batches_are_split_into_bounded_forward_passes(shortest):
    lengths = [512] * 40 + [10] * 30 + [9, 7]
    batches = list(batch_by_length(lengths, shortest))
    assert sorted(i for batch in batches for i in batch) == list(range(72))
    assert len(batches) > 1
    assert all(len(batch) * max(lengths[i] for i in batch) <= MAX_FRAMES_PER_BATCH for batch in batches)
    assert all(lengths[batch[0]] >= shortest * lengths[batch[-1]] for batch in batches)
    assert len(batches[0]) == (1 if shortest else 32)
    assert list(batch_by_length([MAX_FRAMES_PER_BATCH * 2], shortest)) == [[0]]


def test_clips_of_every_estimator_are_recognized(recognizer):
    answers = recognizer.recognize([figure_clip(name) for name in ("mediapipe", "openpose", "wholepose")])
    assert all(answer.frames == 20 for answer in answers)


def test_each_request_of_a_mixed_batch_gets_its_response(recognizer):
    clip = figure_clip()
    raw = [
        RawRequest(body(clip), "application/json"),
        RawRequest(b"{", "application/json"),
        RawRequest(body(clip), "application/json", attributes="top_k=2"),
        RawRequest(body(clip), "image/png"),
        RawRequest(body(clip), "application/json", accept="image/png"),
        RawRequest(body(clip), "application/json", attributes="top_k=none"),
        RawRequest(json.dumps({"clips": [json.loads(body(clip)), {"points": 3}]}).encode(), "application/json"),
        RawRequest(json.dumps({"clips": [{"points": 3}]}).encode(), "application/json"),
    ]
    responses, timings = respond(recognizer, raw)
    assert [response.status for response in responses] == [200, 400, 200, 415, 406, 400, 200, 400]
    assert [response.error_code for response in responses][:6] == [
        None, "invalid_json", None, "unsupported_content_type", "not_acceptable", "bad_attributes",
    ]  # fmt: skip
    answers = [json.loads(response.body) for response in responses]
    assert len(answers[0]["instances"]) == 5 and len(answers[2]["instances"]) == 2
    assert answers[0]["instances"][:2] == answers[2]["instances"]
    assert set(answers[1]["error"]) == {"code", "message", "where"}
    assert answers[6]["answers"][0] == answers[0]
    assert "error" in answers[6]["answers"][1]
    assert "error" in answers[7]["answers"][0]
    assert (timings.clips, timings.bad_inputs) == (5, 6)  # only clips of requests that could be parsed
    assert timings.decode_ms > 0


def test_all_response_types_hold_the_same_prediction(recognizer):
    content = body(figure_clip())
    types = ("application/json", "application/jsonlines", "text/csv")
    responses, _ = respond(recognizer, [RawRequest(content, "application/json", accept=kind) for kind in types])
    assert [response.content_type for response in responses] == list(types)
    as_json, as_lines, as_csv = (response.body for response in responses)
    assert json.loads(as_json) == json.loads(as_lines)
    assert as_lines.endswith(b"\n")
    assert as_csv.splitlines()[1].split(b",")[2].decode() == json.loads(as_json)["instances"][0]["gloss"]
