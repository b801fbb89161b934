"""Failures of `spoter token`, and clients that read their token from a file; tests/e2e tests it with a server."""

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
    entry = {"key": inference, "expiration time": expires}
    path.write_text(json.dumps({"inference": entry, "management": entry, "API": {"key": "api"}}))
    return path


@pytest.fixture
def double():
    with serving() as double:
        double.answers = [(200, b"\n", {})]
        yield double


@pytest.fixture
def changing(double: Double, keys: Path, monkeypatch):
    """Return a double of TorchServe that writes a new key to the file at each request."""
    real_send, numbers = tokens.send, iter(range(100))

    def send(url: str, token: str | None = None):
        reply = real_send(url, token)
        write_keys(keys, f"new{next(numbers)}")
        return reply

    monkeypatch.setattr(tokens, "send", send)
    return double


def run(monkeypatch, capsys, *options: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["spoter", "token", *map(str, options)])
    with pytest.raises(SystemExit) as end:
        main.main()
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_the_api_key_authorizes_the_request_for_a_new_key(changing, keys):
    assert rotate(changing.url + "/", keys) == "new0"
    assert rotate(changing.url, keys, "management") == "new1"
    assert [request.url.query for request in changing.requests] == ["type=inference", "type=management"]
    assert {request.headers["authorization"] for request in changing.requests} == {"Bearer api"}


def test_failures_are_reported_in_one_line(double, keys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "WRITTEN", 0.05)
    for options, words in (
        (["--keys", tmp_path / "absent.json"], "absent.json"),
        (["--keys", keys, "--management", "http://127.0.0.1:1"], "http://127.0.0.1:1: "),
        (["--keys", keys, "--management", double.url], "inference key"),
        (["--keys", keys, "--kind", "API"], "'API'"),
        (["--keys", keys, "--every", "50m"], "--out"),
        (["--keys", keys, "--every", "soon", "--out", tmp_path / "t"], "'soon'"),
    ):
        status, out, err = run(monkeypatch, capsys, *options)
        assert (status, out) == (2, "") and words in err and err.count("\n") == 1, err
    double.answers = [REFUSED]
    assert "API key" in run(monkeypatch, capsys, "--keys", keys, "--management", double.url)[2]
    assert not (tmp_path / "t").exists()


def test_a_variable_names_the_key_file(changing, keys, monkeypatch, capsys):
    monkeypatch.setenv("SPOTER_KEY_FILE", str(keys))
    assert run(monkeypatch, capsys, "--management", changing.url)[:2] == (0, "new0\n")


def test_keys_are_renewed_until_ctrl_c_and_after_a_failure(changing, keys, tmp_path, monkeypatch, capsys):
    slept: list[float] = []

    def sleep(time: float) -> None:
        slept.append(time)
        changing.answers = [REFUSED if len(slept) == 1 else (200, b"\n", {})]
        if len(slept) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(tokens.time, "sleep", sleep)
    out = tmp_path / "token"
    options = ["--keys", keys, "--management", changing.url, "--out", out, "--every", "50m"]
    status, output, errors = run(monkeypatch, capsys, *options)
    assert status == 130 and slept == [3000, tokens.AGAIN, 3000, 3000]
    assert output.count("new inference key") == 3 and errors.count("30 s") == 1
    assert out.read_text() == "new3\n" and out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key_file.json", "token"]


def test_an_unwritable_path_ends_the_command_only_at_its_start(changing, keys, tmp_path, monkeypatch, capsys):
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
    status, _, errors = run(monkeypatch, capsys, *options)
    assert (status, slept) == (2, []) and f"{folder / 'token'}: No such file" in errors
    folder.mkdir()
    status, _, errors = run(monkeypatch, capsys, *options)
    assert (status, slept) == (130, [3000, tokens.AGAIN, 3000]) and errors.count("30 s") == 1
    assert (folder / "token").read_text() == "new3\n"


def test_an_interval_longer_than_the_life_of_a_key_is_refused(changing, keys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "seconds_left", lambda *_: 3599.0)
    options = ["--keys", keys, "--management", changing.url, "--out", tmp_path / "token", "--every", "1h"]
    status, _, errors = run(monkeypatch, capsys, *options)
    assert status == 2 and "--every" in errors and "3599 s" in errors


def test_the_life_of_a_key_is_read_from_the_file(keys):
    assert seconds_left(keys, "inference") > 1e9
    assert seconds_left(keys, "API") is None and seconds_left(keys.with_name("absent"), "inference") is None


@pytest.mark.parametrize(("text", "expected"), [("50m", 3000), ("90s", 90), ("1h", 3600), ("0.5h", 1800)])
def test_times_with_units_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "50", "m", "-5m", "0m", "5 m", "5d", "1e3s"])
def test_text_without_a_time_is_refused(text):
    with pytest.raises(SpoterError, match=f"'{text}'"):
        seconds(text)


def test_a_client_reads_its_token_from_the_file_for_each_request(double, tmp_path):
    file = tmp_path / "token"
    double.answers = [(200, ANSWER, {})]
    with Client(double.url, token=file, layout=54, retry=QUICK) as client:
        for token in ("first", "second\n"):
            file.write_text(token)
            client.predict(POINTS)
    assert [request.headers["authorization"] for request in double.requests] == ["Bearer first", "Bearer second"]


def test_only_a_refused_token_from_a_file_is_tried_again(double, tmp_path):
    file = tmp_path / "token"
    file.write_text("x")
    double.answers = [REFUSED, REFUSED, (200, ANSWER, {})]
    with Client(double.url, token=file, layout=54, retry=QUICK) as client:
        assert client.predict(POINTS).gloss == "HALLO"
    double.answers = [REFUSED]
    for token, times in ((file, 3), ("x", 1)):
        before = len(double.requests)
        with (
            pytest.raises(RequestError, match="token"),
            Client(double.url, token=token, layout=54, retry=QUICK) as client,
        ):
            client.predict(POINTS)
        assert len(double.requests) - before == times


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "token"), (b" \n", "token"), (b"\xff\xfe", "token"),
     ("naïve".encode(), "Authorization"), (b"a\nb", "Authorization")],
)  # fmt: skip
def test_an_error_about_a_token_file_does_not_quote_it(double, tmp_path, content, words):
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with Client(double.url, token=tmp_path / "token", layout=54) as client, pytest.raises(SpoterError) as error:
        client.predict(POINTS)
    assert words in str(error.value)
    assert double.requests == [] and "naïve" not in str(error.value)
