"""docs/settings.md lists every setting with its default."""

from __future__ import annotations

import re

import msgspec
import yaml

from spoter.model.config import ModelConfig
from tests import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\bSPOTER_[A-Z]+(?:_[A-Z]+)*\b")
SOURCES = ("spoter", "handler", "docker", "benchmarks", "stress", "scripts", "tests", "Makefile", "docs/tutorial.py")
# Set by a test for itself.
INTERNAL = {"SPOTER_TRAP"}


def find_variables(name: str) -> set[str]:
    root = ROOT / name
    files = [root] if root.is_file() else [path for path in root.rglob("*") if path.suffix not in (".pyc", ".png")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file())
    return {variable for text in texts for variable in VARIABLE.findall(text)}


def read_table(heading: str) -> dict[str, str]:
    """Return the default of each key in the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {key: default.strip() for keys, default in rows for key in re.findall(r"`([^`]+)`", keys)}


def test_every_variable_is_listed_and_no_other():
    assert set(VARIABLE.findall(PAGE)) == set().union(*map(find_variables, SOURCES)) - INTERNAL


def test_every_key_of_config_json_is_listed_with_its_default():
    for field in msgspec.structs.fields(ModelConfig):
        required = field.default is msgspec.NODEFAULT
        default = "required" if required else msgspec.json.encode(field.default).decode()
        assert read_table("A model's config.json").pop(field.name) == default, field.name


def test_every_key_of_model_config_yaml_is_listed_with_its_value():
    config = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_text(encoding="utf-8"))
    config |= {f"handler.{name}": value for name, value in config.pop("handler").items()}
    listed = read_table("handler/model-config.yaml")
    assert config.items() == {key: int(listed[key]) for key in listed if listed[key] != "not set"}.items()


def test_every_key_of_config_properties_is_listed_with_its_value():
    lines = re.findall(r"^(# )?([a-z_]+)=(.*)$", (ROOT / "config.properties").read_text("utf-8"), re.MULTILINE)
    listed = read_table("config.properties")
    assert {key for _, key, _ in lines} <= set(listed)
    for disabled, key, value in lines:
        assert value in listed[key] or listed[key].startswith("not set" if disabled else "see the file"), key
