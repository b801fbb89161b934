"""The soak's definition of growth. `make attack` runs the soak, which takes 15 minutes."""

from __future__ import annotations

import pytest

from stress.soak import COLUMNS, compare_usage

SAMPLES = 30
SAME = dict.fromkeys(COLUMNS, 100)


def find_problems(memory: dict | None = None, rest: dict | None = None) -> list[str]:
    """Return the problems of a run from 100 of everything: `memory` is reached steadily, `rest` at the end."""
    added = {name: final - 100 for name, final in (memory or {}).items()}
    rows = [
        SAME | {name: 100 + more * n / (SAMPLES - 2) for name, more in added.items()} for n in range(-1, SAMPLES - 1)
    ]
    rows[SAMPLES // 2] = SAME | {"java_rss": 900, "java_handles": 900}
    lines, problems = compare_usage(SAME, SAME | (rest or {}), rows)
    assert [line[0].replace(" ", "_") for line in lines] == list(COLUMNS)
    assert [line[-1] for line in lines].count("NO") == len(problems)
    assert next(line[-2] for line in lines if line[0] == "java handles") == "900"
    return problems


def test_constant_shrinking_and_briefly_high_usage_is_no_growth():
    assert find_problems() == []
    assert find_problems({"worker_rss": 50, "java_rss": 80}, {"worker_handles": 3}) == []


@pytest.mark.parametrize("name", ["worker_rss", "java_rss"])
def test_memory_may_grow_by_five_percent(name):
    assert find_problems({name: 104}) == []
    [problem] = find_problems({name: 107})
    assert name in problem and "6.7 %" in problem


@pytest.mark.parametrize("name", ["worker_handles", "java_handles", "worker_threads", "java_threads"])
def test_ten_more_handles_or_threads_are_allowed(name):
    assert find_problems(rest={name: 110}) == []
    [problem] = find_problems(rest={name: 111})
    assert name in problem and "11.0 %" in problem
