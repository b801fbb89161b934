"""The command `spoter`: answers, errors, exit statuses and help."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer

from spoter.cli import main
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import normalize
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests import upstream
from tests.e2e.test_documented_commands import faults
from tests.generate import figure_clip


@pytest.fixture
def spoter(monkeypatch, capsys):
    """Run `spoter ARGUMENTS…`; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spoter", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def clip_file(tmp_path):
    points = figure_clip().points
    body = {"estimator": "mediapipe", "points": np.where(np.isnan(points), None, points.astype(object)).tolist()}
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(body))
    return path


def test_predict_prints_the_bytes_of_the_service(spoter, dgs11, samples):
    recognizer = Recognizer.load(dgs11)
    types = {
        ".json": "application/json",
        ".csv": "text/csv",
        ".npy": "application/x-npy",
        ".jsonl": "application/jsonlines",
    }
    files = sorted(path for path in samples.iterdir() if path.suffix in types)
    assert {path.suffix for path in files} == set(types)
    for path in files:
        (response,), _ = respond(recognizer, [RawRequest(path.read_bytes(), types[path.suffix])])
        code, out, _ = spoter("predict", dgs11, path)
        assert (code, out.rstrip("\n")) == (0, response.body.decode().rstrip("\n"))


def test_predict_takes_options_and_several_files(spoter, dgs11, clip_file):
    code, out, _ = spoter("predict", dgs11, clip_file, clip_file, "--top-k", 2)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(lines) == 2 and len(lines[0]["instances"]) == 2
    code, out, _ = spoter("predict", dgs11, clip_file, "--accept", "text/csv")
    assert out.startswith("clip,rank,gloss,score,index")


def test_predict_answers_the_other_files_after_a_bad_file(spoter, dgs11, clip_file, tmp_path):
    bad, folder, film = tmp_path / "bad.json", tmp_path / "folder", tmp_path / "film.mp4"
    bad.write_text("{")
    folder.mkdir()
    (folder / "a_0_keypoints.json").write_text("{}")
    film.write_bytes(b"")
    code, out, err = spoter("predict", dgs11, bad, folder, film, clip_file)
    *failed, last = map(json.loads, out.splitlines())
    assert [answer["error"]["code"] for answer in failed] == ["invalid_json", "unknown_form", "bad_video"]
    assert (code, last["frames"]) == (2, 20)
    assert err.splitlines()[-3:] == [f"error: {path}: status 400" for path in (bad, folder, film)]


@pytest.mark.parametrize(("layout", "scheme"), [("29", "box"), ("54", "box"), ("71", "none"), ("spoter54", "bohacek")])
def test_features_writes_normalized_landmarks(spoter, clip_file, tmp_path, layout, scheme):
    out = tmp_path / "x.npy"
    code, printed, _ = spoter("features", clip_file, "--layout", layout, "--normalize", scheme, "--out", out)
    assert code == 0
    table, array = load_layout(layout), np.load(out)
    assert array.dtype == np.float32 and array.shape == (20, 2 * len(table))
    assert printed == f"{out}: {array.shape} float32\n"
    np.testing.assert_array_equal(array, normalize(table.select(figure_clip()), table, scheme))


def test_features_equal_the_input_of_the_model(spoter, dgs11, clip_file, tmp_path):
    spoter("features", clip_file, "--out", tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), Recognizer.load(dgs11).compute_features(figure_clip()))


def test_features_of_several_clips_is_an_error(spoter, clip_file, tmp_path):
    (tmp_path / "two.jsonl").write_text(2 * (clip_file.read_text() + "\n"))
    code, _, err = spoter("features", tmp_path / "two.jsonl", "--out", tmp_path / "x.npy")
    assert code == 2 and "two.jsonl: found 2 clips" in err
    assert not (tmp_path / "x.npy").exists()


def test_inspect_a_model_folder(spoter, dgs11):
    code, out, _ = spoter("inspect", dgs11, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["classes"] == len(facts["glosses"]) == 11
    assert facts["layout"] == "54" and facts["positions"] == "per-frame" and facts["bytes"] <= 3_000_000
    assert "HALLO" in spoter("inspect", dgs11)[1]


def test_convert_then_predict(spoter, clip_file, tmp_path):
    torch.save(upstream.make(classes=2).state_dict(), tmp_path / "w.pth")
    (tmp_path / "meaning.json").write_text('{"0": "UNO", "1": "DOS"}')
    code, out, _ = spoter("inspect", tmp_path / "w.pth")
    assert code == 0 and re.search("heads +unknown", out) and re.search("encoder_feedforward +64", out)
    arguments = ["convert", tmp_path / "w.pth", "--out", tmp_path / "m", "--meaning", tmp_path / "meaning.json"]
    code, _, err = spoter(*arguments)
    assert code == 2 and err.startswith("error: ") and "--nhead" in err
    code, out, _ = spoter(*arguments, "--nhead", 9)
    assert code == 0 and "2 glosses, layout 54" in out
    code, out, _ = spoter("predict", tmp_path / "m", clip_file)
    assert code == 0 and {row["gloss"] for row in json.loads(out)["instances"]} == {"UNO", "DOS"}


def test_convert_reports_a_config_that_contradicts_the_weights(spoter, tmp_path):
    torch.save(upstream.make(classes=2).state_dict(), tmp_path / "w.pth")
    (tmp_path / "meaning.json").write_text('{"0": "UNO", "1": "DOS"}')
    (tmp_path / "c.json").write_text('{"hparams": {"nhead": 2, "num_encoder_layers": 6}}')
    arguments = ["convert", tmp_path / "w.pth", "--out", tmp_path / "m", "--meaning", tmp_path / "meaning.json"]
    arguments += ["--config", tmp_path / "c.json"]
    code, _, err = spoter(*arguments)
    assert code == 2 and re.search("num_encoder_layers: 6 .*, 2 .*--nhead", err)
    code, _, err = spoter(*arguments, "--nhead", 9)
    assert code == 0 and re.search(r"c\.json: nhead: 2 .*, 9 ", err)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["predict", "nowhere", "x.json"], "nowhere"),
        (["predict", "{model}", "absent.json"], "absent.json: No such file or directory"),
        (["predict", "{model}", "README.md"], "README.md: found .md"),
        (["inspect", "absent.pth"], "absent.pth: No such file or directory"),
        (["features", "x.json", "--layout", "55", "--out", "x.npy"], "'55'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(spoter, dgs11, monkeypatch, arguments, complaint):
    monkeypatch.chdir(dgs11.parent.parent)
    code, out, err = spoter(*(argument.replace("{model}", str(dgs11)) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and complaint in err and err.count("\n") == 1


def test_help_is_quick_because_it_imports_no_torch():
    probe = "import sys, spoter.cli.main; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", probe], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )


def test_doctor_checks_the_ports_of_make_serve(spoter, monkeypatch, dgs11):
    monkeypatch.setenv("SPOTER_PORT", "28080")
    assert "port 28080" in spoter("doctor", "--model", dgs11)[1]
    monkeypatch.setenv("SPOTER_PORT", "many")
    code, out, err = spoter("doctor", "--model", dgs11)
    assert (code, out) == (2, "") and err.startswith("error: ") and "SPOTER_PORT=many" in err and err.count("\n") == 1


def test_help_keeps_text_in_brackets(spoter, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = spoter("deploy", "--help")
    assert code == 0 and "[default: models/dgs11]" in out


def test_only_the_requested_command_is_imported():
    program = (
        "import sys\n"
        "from spoter.cli.main import main\n"
        "sys.argv[1:] = ['token', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    print([name for name in sys.modules if name.startswith('spoter.cli.') or name == 'numpy'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['spoter.cli.main', 'spoter.cli.token']"


def test_mistyped_command_suggests_a_similar_command(spoter):
    code, _, err = spoter("serv")
    assert code == 2 and "serve" in err


@pytest.mark.parametrize("name", [name for name in main._COMMANDS if name != "deploy"])
def test_help_of_every_command_has_a_short_first_line_and_valid_examples(name):
    context = typer.Context(group := typer.main.get_command(main.app))
    command = group.get_command(context, name)
    commands = command.commands.values() if name == "data" else [command]
    for each in commands:
        assert len(each.help.partition("\n")[0]) < 80
        assert all(not faults(example) for example in each.epilog.splitlines() if example.startswith("spoter "))
        assert all(getattr(parameter, "help", None) for parameter in each.params)
