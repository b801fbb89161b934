"""`spoter token` where something is wrong, and clients that read their token from a file; tests/e2e has the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from spoter.cli import main
from spoter.client import Client, RequestError, Retry
from spoter.errors import SpoterError
from spoter.ops import tokens
from spoter.ops.tokens import rotate, seconds, seconds_left
from tests.http_double import ANSWER, Double, serving

POINTS = np.full((3, 54, 2), 0.5)
REFUSED = (400, {"code": 400, "type": "InvalidKeyException", "message": "expired"}, {})
QUICK = Retry(attempts=3, first=0.0, longest=0.1)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "key_file.json", "old")


def write_keys(path: Path, inference: str, expires: str = "2999-01-01T00:00:00.123456789Z") -> Path:
    told = {"key": inference, "expiration time": expires}
    path.write_text(json.dumps({"inference": told, "management": told, "API": {"key": "api"}}))
    return path


@pytest.fixture
def double():
    with serving() as double:
        double.answers = [(200, b"\n", {})]
        yield double


@pytest.fixture
def changing(double: Double, keys: Path, monkeypatch):
    """TorchServe's part: each request for a key leaves a new one in the file."""
    sent, numbers = tokens.send, iter(range(100))

    def send(url: str, token: str | None = None):
        reply = sent(url, token)
        write_keys(keys, f"new{next(numbers)}")
        return reply

    monkeypatch.setattr(tokens, "send", send)
    return double


def run(monkeypatch, capsys, *options: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["spoter", "token", *map(str, options)])
    with pytest.raises(SystemExit) as end:
        main.main()
    said = capsys.readouterr()
    return end.value.code or 0, said.out, said.err


def test_the_api_key_asks_and_the_new_key_comes_back(changing, keys):
    assert rotate(changing.url + "/", keys) == "new0"
    assert rotate(changing.url, keys, "management") == "new1"
    assert [request.url.query for request in changing.asked] == ["type=inference", "type=management"]
    assert {request.headers["authorization"] for request in changing.asked} == {"Bearer api"}


def test_what_is_wrong_is_said_in_a_line(double, keys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "WRITTEN", 0.05)
    for options, words in (
        (["--keys", tmp_path / "absent.json"], "found no API key"),
        (["--keys", keys, "--management", "http://127.0.0.1:1"], "nobody listens"),
        (["--keys", keys, "--management", double.url], "found no new inference key"),
        (["--keys", keys, "--kind", "API"], "found the kind 'API' of key"),
        (["--keys", keys, "--every", "50m"], "--out"),
        (["--keys", keys, "--every", "soon", "--out", tmp_path / "t"], "found 'soon', expected a time such as 50m"),
    ):
        status, out, err = run(monkeypatch, capsys, *options)
        assert (status, out) == (2, "") and words in err and err.count("\n") == 1, err
    double.answers = [REFUSED]
    assert "refused the API key" in run(monkeypatch, capsys, "--keys", keys, "--management", double.url)[2]
    assert not (tmp_path / "t").exists()


def test_it_goes_on_until_it_is_stopped_and_after_a_failure(changing, keys, tmp_path, monkeypatch, capsys):
    slept: list[float] = []

    def sleep(time: float) -> None:
        slept.append(time)
        changing.answers = [REFUSED if len(slept) == 1 else (200, b"\n", {})]
        if len(slept) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(tokens.time, "sleep", sleep)
    out = tmp_path / "token"
    options = ["--keys", keys, "--management", changing.url, "--out", out, "--every", "50m"]
    status, said, errors = run(monkeypatch, capsys, *options)
    assert status == 130 and slept == [3000, tokens.AGAIN, 3000, 3000]
    assert said.count("new inference key") == 3 and errors.count("30 s") == 1
    assert out.read_text() == "new3\n" and out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key_file.json", "token"]


def test_a_place_that_cannot_be_written_ends_it_at_first_only(changing, keys, tmp_path, monkeypatch, capsys):
    folder, away = tmp_path / "tokens", tmp_path / "away"
    slept: list[float] = []

    def sleep(time: float) -> None:
        slept.append(time)
        if len(slept) == 3:
            raise KeyboardInterrupt
        moved = (folder, away) if len(slept) == 1 else (away, folder)
        moved[0].rename(moved[1])

    monkeypatch.setattr(tokens.time, "sleep", sleep)
    options = ["--keys", keys, "--management", changing.url, "--out", folder / "token", "--every", "50m"]
    status, _, said = run(monkeypatch, capsys, *options)
    assert (status, slept) == (2, []) and f"{folder / 'token'}: No such file" in said
    folder.mkdir()
    status, _, said = run(monkeypatch, capsys, *options)
    assert (status, slept) == (130, [3000, tokens.AGAIN, 3000]) and said.count("the next attempt") == 1
    assert (folder / "token").read_text() == "new3\n"


def test_a_wait_longer_than_keys_hold_is_refused(changing, keys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "seconds_left", lambda *_: 3599.0)
    options = ["--keys", keys, "--management", changing.url, "--out", tmp_path / "token", "--every", "1h"]
    status, _, said = run(monkeypatch, capsys, *options)
    assert status == 2 and "--every" in said and "3599 s" in said


def test_how_long_a_key_holds_is_read_from_the_file(keys):
    assert seconds_left(keys, "inference") > 1e9
    assert seconds_left(keys, "API") is None and seconds_left(keys.with_name("absent"), "inference") is None


@pytest.mark.parametrize(("text", "expected"), [("50m", 3000), ("90s", 90), ("1h", 3600), ("0.5h", 1800)])
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "50", "m", "-5m", "0m", "5 m", "5d", "1e3s"])
def test_what_is_no_time(text):
    with pytest.raises(SpoterError, match="expected a time such as"):
        seconds(text)


def test_a_client_reads_its_token_anew_for_each_request(double, tmp_path):
    file = tmp_path / "token"
    double.answers = [(200, ANSWER, {})]
    with Client(double.url, token=file, layout=54, retry=QUICK) as client:
        for token in ("first", "second\n"):
            file.write_text(token)
            client.predict(POINTS)
    assert [request.headers["authorization"] for request in double.asked] == ["Bearer first", "Bearer second"]


def test_a_refused_token_of_a_file_is_tried_again_and_one_that_was_given_is_not(double, tmp_path):
    file = tmp_path / "token"
    file.write_text("x")
    double.answers = [REFUSED, REFUSED, (200, ANSWER, {})]
    with Client(double.url, token=file, layout=54, retry=QUICK) as client:
        assert client.predict(POINTS).gloss == "HALLO"
    double.answers = [REFUSED]
    for token, times in ((file, 3), ("x", 1)):
        asked = len(double.asked)
        with (
            pytest.raises(RequestError, match="token"),
            Client(double.url, token=token, layout=54, retry=QUICK) as client,
        ):
            client.predict(POINTS)
        assert len(double.asked) - asked == times


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "token"), (b" \n", "found no token"), (b"\xff\xfe", "found no token"),
     ("naïve".encode(), "Authorization"), (b"a\nb", "Authorization")],
)  # fmt: skip
def test_a_file_without_a_token_is_said_without_its_content(double, tmp_path, content, words):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with Client(double.url, token=tmp_path / "token", layout=54) as client, pytest.raises(SpoterError) as error:
        client.predict(POINTS)
    assert words in str(error.value)
    assert double.asked == [] and "naïve" not in str(error.value)
