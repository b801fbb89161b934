"""A short `make fuzz` on the shared server: mutated requests are answered, and the worker stays the same."""

from __future__ import annotations

from stress.http_fuzz import fuzz

REQUESTS = 1500


def test_mutated_requests_are_answered_as_documented(server):
    before = [worker["pid"] for worker in server.describe()["workers"]]
    result = fuzz(server.port, range(REQUESTS), seed=11)
    assert [f"{number} {request.mutations}: {problem}" for number, request, problem in result.failures] == []
    assert result.sent == REQUESTS and result.answers[200, "answered"] > REQUESTS / 10
    assert [worker["pid"] for worker in server.describe()["workers"]] == before
