"""What the soak calls growth. The soak itself takes a quarter of an hour: `make attack` runs it."""

from __future__ import annotations

import pytest

from stress.soak import COLUMNS, compare_usage

SAMPLES = 30
SAME = dict.fromkeys(COLUMNS, 100)


def judged(memory: dict | None = None, rest: dict | None = None) -> tuple[list[list[str]], list[str]]:
    """Judge a run in which memory grew steadily to what is given, and handles to what is given at rest."""
    grown = {name: to - 100 for name, to in (memory or {}).items()}
    rows = [
        SAME | {name: 100 + more * n / (SAMPLES - 2) for name, more in grown.items()} for n in range(-1, SAMPLES - 1)
    ]
    rows[SAMPLES // 2] = SAME | {"java_rss": 900, "java_handles": 900}
    lines, wrong = compare_usage(SAME, SAME | (rest or {}), rows)
    assert [line[0].replace(" ", "_") for line in lines] == list(COLUMNS)
    assert [line[-1] for line in lines].count("NO") == len(wrong)
    assert next(line[-2] for line in lines if line[0] == "java handles") == "900"
    return lines, wrong


def test_what_stays_what_shrinks_and_what_one_moment_takes_is_no_growth():
    assert judged()[1] == []
    assert judged({"worker_rss": 50, "java_rss": 80}, {"worker_handles": 3})[1] == []


@pytest.mark.parametrize("name", ["worker_rss", "java_rss"])
def test_memory_grows_by_less_than_five_percent(name):
    assert judged({name: 104})[1] == []
    assert judged({name: 107})[1] == [f"{name} grew by 6.7 %"]


@pytest.mark.parametrize("name", ["worker_handles", "java_handles", "worker_threads", "java_threads"])
def test_handles_and_threads_may_be_ten_more(name):
    assert judged(rest={name: 110})[1] == []
    assert judged(rest={name: 111})[1] == [f"{name} grew by 11.0 %"]
