"""Embeddings, prototypes, enrolled glosses, and the detection of unknown signs."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from spoter.errors import ModelFolderError
from spoter.fewshot.prototypes import Prototypes, embedding_size, include_enrolled, read_prototypes
from spoter.landmarks.layouts import load_layout
from spoter.model.folder import CONFIG, PROTOTYPES, load_model_folder
from spoter.model.network import embed
from spoter.serving.recognizer import Recognizer
from spoter.sources.clip_files import read_clips
from tests.generate import figure_clip


def test_the_embedding_of_a_clip_does_not_depend_on_padding():
    first_layer = torch.randn(3, 40, 6)
    lengths = torch.tensor([40, 11, 1])
    together = embed(first_layer, lengths)
    assert together.shape == (3, embedding_size(6))
    for clip, length, row in zip(first_layer, lengths, together, strict=True):
        torch.testing.assert_close(embed(clip[None, :length])[0], row)


def test_the_embedding_holds_the_means_of_the_quarters_and_the_deviation():
    first_layer = torch.arange(8.0)[None, :, None] * torch.tensor([1.0, 10.0])
    row = embed(first_layer)[0]
    assert row[:8].tolist() == [0.5, 5, 2.5, 25, 4.5, 45, 6.5, 65]
    torch.testing.assert_close(row[8:], torch.tensor([1.0, 10.0]) * np.float32(np.std(np.arange(8))))


def test_a_clip_with_fewer_frames_than_quarters_has_a_finite_embedding():
    assert embed(torch.randn(1, 2, 4)).isfinite().all()


def prototypes(rng: np.random.Generator, classes: int = 3, size: int = 5) -> Prototypes:
    directions = rng.normal(size=(classes, size)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Prototypes(np.zeros(size, np.float32), np.eye(size, dtype=np.float32), directions, 8.0, 0.6)


def test_prototypes_survive_a_round_trip(tmp_path):
    written = prototypes(np.random.default_rng(0))
    (tmp_path / "p.npz").write_bytes(written.to_bytes())
    read = read_prototypes(tmp_path / "p.npz", 3, 5)
    for name in ("centre", "whitening", "trained"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.scale == written.scale
    assert written.to_bytes() == prototypes(np.random.default_rng(0)).to_bytes()


def test_prototypes_of_few_clips_are_attenuated():
    rng = np.random.default_rng(0)
    size = 400
    clips = rng.normal(size=(20_000, size)) + 1.2  # the gloss is 1.2 in each direction; the rest is noise
    unit = clips / np.linalg.norm(clips, axis=1, keepdims=True)
    typical = float((unit[:500] @ np.full(size, size**-0.5)).mean())
    space = replace(prototypes(rng), typical=typical)
    for count in (1, 3, 5):
        few = [clips[500 + i * count : 500 + (i + 1) * count].mean(axis=0) for i in range(300)]
        few /= np.linalg.norm(few, axis=1, keepdims=True)
        assert (unit[:300] * few).sum(axis=1).mean() == pytest.approx(typical * space.attenuation(count), abs=0.01)


def test_files_with_prototypes_of_another_model_or_other_content_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    path.write_bytes(prototypes(np.random.default_rng(0)).to_bytes())
    with pytest.raises(ModelFolderError, match=r"shape \(3, 5\), expected \(4, 5\)"):
        read_prototypes(path, 4, 5)
    for content in (b"", b"PK\x03\x04 no zip", b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"p\.npz"):
            read_prototypes(path, 3, 5)
    np.save(tmp_path / "p.npy", np.zeros(3))
    path.write_bytes((tmp_path / "p.npy").read_bytes())
    with pytest.raises(ModelFolderError, match=r"p\.npz"):
        read_prototypes(path, 3, 5)
    np.savez(tmp_path / "valid.npz", **vars(prototypes(np.random.default_rng(0))))
    with zipfile.ZipFile(tmp_path / "valid.npz") as complete, zipfile.ZipFile(path, "w") as invalid:
        for entry in complete.infolist():
            invalid.writestr(entry.filename, b"x" * 30 if entry.filename == "centre.npy" else complete.read(entry))
    with pytest.raises(ModelFolderError, match=r"p\.npz"):  # NumPy returns bytes for an entry that is not an array
        read_prototypes(path, 3, 5)
    np.savez(path, centre=np.array([object()], dtype=object))  # a pickle, which must not be loaded
    with pytest.raises(ModelFolderError, match=r"p\.npz"):
        read_prototypes(path, 3, 5)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_prototypes_with_a_repeated_array_are_refused(tmp_path):
    path, content = tmp_path / "p.npz", io.BytesIO()
    np.savez(path, typical=np.float32(0.1))
    np.save(content, np.float32(0.9))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("typical.npy", content.getvalue())
    with pytest.raises(ModelFolderError, match=r"p\.npz: .*array"):
        read_prototypes(path, 3, 5)


def test_prototypes_that_would_unpack_to_too_many_bytes_are_refused_first(tmp_path):
    path = tmp_path / "p.npz"
    arrays = vars(prototypes(np.random.default_rng(0)))
    np.savez_compressed(path, **arrays)
    np.testing.assert_array_equal(read_prototypes(path, 3, 5).trained, arrays["trained"])
    np.savez_compressed(path, **arrays | {"more": np.zeros(100_000)})
    with pytest.raises(ModelFolderError, match=r"p\.npz: .*188"):
        read_prototypes(path, 3, 5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_prototypes_raise_our_error_or_read_unchanged(tmp_path, save):
    """The readers of zip, deflate and npy raise many errors; a file with correct checksums holds the written data."""
    path = tmp_path / "p.npz"
    written = prototypes(np.random.default_rng(0))
    save(path, **vars(written) | {"scale": np.float32(8.0), "typical": np.float32(0.6)})
    content = path.read_bytes()
    np.testing.assert_array_equal(read_prototypes(path, 3, 5).trained, written.trained)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read = read_prototypes(path, 3, 5)
        except ModelFolderError:
            refused += 1
        else:
            np.testing.assert_array_equal(read.trained, written.trained)
    assert 0 < refused < 400


def test_prototypes_with_a_header_of_a_huge_array_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    for shape in ((10**13,), (10**30,)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("centre.npy", header.getvalue())
        with pytest.raises(ModelFolderError, match=r"p\.npz"):
            read_prototypes(path, 3, 5)


def test_without_enrolled_glosses_probabilities_do_not_change():
    head = np.array([[0.7, 0.2, 0.1]], dtype=np.float32)
    np.testing.assert_allclose(include_enrolled(head, np.array([[0.1, 0.9, 0.0]]), 10.0), head)


def test_an_enrolled_gloss_wins_if_it_is_nearer_than_the_best_trained_gloss():
    head = np.array([[0.7, 0.2, 0.1]] * 2, dtype=np.float32)
    # trained prototype 1 is nearest in both rows, but the head ranks gloss 0 first
    cosines = np.array([[0.1, 0.95, 0.0, 0.8], [0.8, 0.95, 0.0, 0.1]], dtype=np.float32)
    shared = include_enrolled(head, cosines, 10.0)
    np.testing.assert_allclose(shared.sum(axis=1), 1, atol=1e-6)
    assert shared.argmax(axis=1).tolist() == [3, 0]
    np.testing.assert_allclose(shared[:, :3] / shared[:, :3].sum(axis=1, keepdims=True), head, atol=1e-6)


def test_the_bundled_model_detects_noise_as_unknown(dgs11):
    recognizer = Recognizer.load(dgs11)
    clip = figure_clip(frames=60)
    noise = clip.points + np.random.default_rng(0).normal(0, 0.5, clip.points.shape).astype(np.float32)
    (answer,) = recognizer.recognize([type(clip)(noise, clip.names, clip.estimator)])
    assert answer.known is False and answer.similarity < recognizer.config.known_threshold


@pytest.fixture
def model_copy(dgs11, tmp_path):
    return shutil.copytree(dgs11, tmp_path / "model")


def test_known_depends_on_the_best_gloss_not_on_the_nearest_prototype(model_copy, samples):
    clips = read_clips([samples / "hallo.json"], load_layout("54"))
    (answer,) = Recognizer.load(model_copy).recognize(clips)
    assert answer.known is True and answer.similarity >= 0.5
    space = load_model_folder(model_copy).prototypes
    shuffled = replace(
        space, trained=np.roll(space.trained, 1, axis=0)
    )  # each gloss gets the prototype of the gloss before it
    (model_copy / PROTOTYPES).write_bytes(shuffled.to_bytes())
    (other,) = Recognizer.load(model_copy).recognize(clips)
    assert other.glosses == answer.glosses
    assert other.known is False and other.similarity < 0.3


def test_a_known_threshold_without_prototypes_is_an_error(model_copy):
    (model_copy / PROTOTYPES).unlink()
    with pytest.raises(ModelFolderError, match=r"known_threshold .*config\.json .*prototypes\.npz"):
        load_model_folder(model_copy)


def test_known_is_none_for_a_model_without_prototypes(model_copy):
    (model_copy / PROTOTYPES).unlink()
    config = msgspec.json.decode((model_copy / CONFIG).read_bytes())
    del config["known_threshold"]
    (model_copy / CONFIG).write_bytes(msgspec.json.encode(config))
    (answer,) = Recognizer.load(model_copy).recognize([figure_clip()])
    assert answer.known is None and answer.similarity is None


@pytest.mark.parametrize("threshold", [1.5, -2, "high"])
def test_a_known_threshold_that_is_not_a_cosine_is_refused(model_copy, threshold):
    config = msgspec.json.decode((model_copy / CONFIG).read_bytes()) | {"known_threshold": threshold}
    (model_copy / CONFIG).write_bytes(msgspec.json.encode(config))
    with pytest.raises(ModelFolderError, match="known_threshold"):
        load_model_folder(model_copy)
