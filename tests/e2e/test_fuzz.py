"""A short form of `make fuzz` on the session's server: mutated requests, and the worker is still the same one."""

from __future__ import annotations

from stress.http_fuzz import fuzz

REQUESTS = 1500


def test_mutated_requests_are_answered_as_documented(server):
    before = [worker["pid"] for worker in server.describe()["workers"]]
    found = fuzz(server.port, range(REQUESTS), seed=11)
    assert [f"{number} {made.mutations}: {wrong}" for number, made, wrong in found.failures] == []
    assert found.sent == REQUESTS and found.answers[200, "answered"] > REQUESTS / 10
    assert [worker["pid"] for worker in server.describe()["workers"]] == before
