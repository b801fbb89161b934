"""A small model's files, of each kind and form, that are read without an error: fuzzing of files begins with them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from spoter.fewshot.prototypes import Prototypes
    from spoter.model.network import Spoter

SMALL = {
    "width": 4, "heads": 1, "encoder_layers": 1, "decoder_layers": 1, "encoder_feedforward": 2,
    "decoder_feedforward": 2, "position_rows": 2, "classes": 2,
}  # fmt: skip
"""Sizes of the model whose files are mutated."""


def _small_model() -> Spoter:
    from spoter.model.config import Sizes
    from spoter.model.network import Spoter

    model = Spoter(Sizes(**SMALL))
    for value in model.state_dict().values():
        value.fill_(0.5)
    return model


def checkpoints() -> list[bytes]:
    """Return a small SPOTER in torch's two forms, as a training dict, and packed."""
    import torch

    state, made = _small_model().state_dict(), []
    for content, options in (
        (state, {}),
        ({"model_state_dict": state, "epoch": 1, "loss": 0.5}, {}),
        (state, {"_use_new_zipfile_serialization": False}),
    ):
        stream = io.BytesIO()
        torch.save(content, stream, **options)
        made.append(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made[0])) as plain, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    return [*made, stream.getvalue()]


def safetensors() -> list[bytes]:
    """Return a small SPOTER's safetensors, with and without a training's notes."""
    from safetensors.torch import save

    state = _small_model().state_dict()
    return [save(state), save(state, {"format": "pt"})]


def graphs() -> list[bytes]:
    """Return a small SPOTER's graph, plain and with the note of its weights that `spoter export` leaves."""
    from spoter.runtime.onnx_graph import build_graph
    from spoter.runtime.onnx_runtime import WEIGHTS_SHA256

    graph = build_graph(_small_model())
    plain = graph.SerializeToString(deterministic=True)
    graph.metadata_props.add(key=WEIGHTS_SHA256, value="0" * 64)
    return [plain, graph.SerializeToString(deterministic=True)]


def small_prototypes() -> Prototypes:
    """Return prototypes of two glosses in three dimensions."""
    from spoter.fewshot.prototypes import Prototypes

    identity = np.eye(3, dtype=np.float32)
    return Prototypes(np.zeros(3, np.float32), identity, identity[:2], 10.0, 0.5)


def enrolled() -> list[bytes]:
    """Return an enrolled gloss for `small_prototypes`."""
    glosses = [{"gloss": "C", "clips": 2, "prototype": [0.0, 0.6, 0.8]}]
    return [json.dumps({"space": small_prototypes().space, "glosses": glosses}).encode()]


def archives() -> list[bytes]:
    """Return a .mar and a model.tar.gz of a few entries, one of them with a name that is not ASCII."""
    entries = {"config.json": b"{}", "spoter/landmarks/clip.py": b"x" * 50, "ä.csv": b"1,2\n" * 20}
    mar, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(mar, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return [mar.getvalue(), gzip.compress(packed.getvalue(), mtime=0)]
