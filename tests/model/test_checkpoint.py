"""Checkpoints of every form are read, and none of them runs code."""

from __future__ import annotations

import collections
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from spoter.errors import ModelFolderError
from spoter.model.checkpoint import infer_sizes, read_checkpoint
from tests import upstream


@pytest.fixture(scope="module")
def model():
    return upstream.make(layers=(2, 3), feedforward=(48, 16), rows=1024, classes=5)


def test_a_bare_state_dict(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert (checkpoint.kind, checkpoint.heads) == ("state_dict", None)
    sizes = infer_sizes(checkpoint.state, heads=9)
    assert (sizes.encoder_layers, sizes.decoder_layers, sizes.encoder_feedforward, sizes.decoder_feedforward) == (
        2,
        3,
        48,
        16,
    )
    assert (sizes.width, sizes.position_rows, sizes.classes) == (108, 1024, 5)


def test_a_training_dict(tmp_path, model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1).state_dict()
    content = {"epoch": 3, "model_state_dict": model.state_dict(), "loss": 0.5, "optimizer_state_dict": optimizer}
    torch.save(content, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert (checkpoint.kind, checkpoint.notes) == ("training dict", {"epoch": 3, "loss": 0.5})


def test_a_pickled_module_tells_its_heads_too(tmp_path, model):
    with upstream.as_upstream_module():
        torch.save(model, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert (checkpoint.kind, checkpoint.heads) == ("whole module", 9)
    expected = model.state_dict()
    assert checkpoint.state.keys() == expected.keys()
    assert all(torch.equal(checkpoint.state[name], expected[name]) for name in expected)


def test_torchs_form_before_1_6_and_names_of_data_parallel(tmp_path, model):
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "w.pth").state.keys() == model.state_dict().keys()


class Runs:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", ["state", "training", "beside", "bare pickle"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, model, form, zipped):
    mine, trap = Runs(tmp_path / "ran"), tmp_path / "w.pth"
    if form == "bare pickle":
        trap.write_bytes(pickle.dumps(mine))
    else:
        content = {
            "state": collections.OrderedDict(model.state_dict(), extra=mine),
            "training": {"model_state_dict": mine},
            "beside": {"model_state_dict": model.state_dict(), "loss": mine},
        }[form]
        torch.save(content, trap, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFolderError, match=r"run code|running code"):
        read_checkpoint(trap)
    assert not mine.path.exists()


def test_the_hostile_checkpoint_is_refused_and_names_what_it_wanted(shared_data):
    side_effect = Path("/tmp/PWNED")  # what that file's unpickling would make
    assert not side_effect.exists()
    with pytest.raises(
        ModelFolderError, match=r"refused, because reading it would run code: it asks for posix\.system"
    ):
        read_checkpoint(shared_data / "reference" / "hostile.pth")
    assert not side_effect.exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("class_query"), "found nothing as class_query"),
        (
            lambda s: s.pop("transformer.encoder.layers.0.norm1.bias"),
            "found nothing as transformer.encoder.layers.0.norm1",
        ),
        (lambda s: s.update(extra=torch.zeros(3)), r"found \(3,\) as extra, expected no such parameter"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 7)), r"found \(1, 1, 7\) as pos, expected \(1, 1, 108\)"),
        (lambda s: s.update(pos=torch.full((1, 1, 108), torch.nan)), "found NaN or infinity in pos"),
        (lambda s: s.update({"transformer.encoder.layers.999.x": torch.zeros(1)}), "found 1000"),
        (lambda s: s.clear(), "expected a state_dict"),
        (lambda s: s.update(pos="here"), "found a str as pos, expected a tensor"),
        (lambda s: s.update({0: torch.zeros(1)}), "expected a state_dict: names of parameters"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, device="meta")), "strided on meta, as pos"),
        (lambda s: s.update(pos=torch.eye(3).to_sparse()), "sparse_coo on cpu, as pos"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, dtype=torch.complex64)), "found torch.complex64, .* as pos"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, dtype=torch.bool)), "found torch.bool, .* as pos"),
        (lambda s: s.update(class_query=torch.zeros(1, 0)), r"\(1, 0\), as class_query"),
        (lambda s: s.update(pos=torch.zeros(1).expand(60_000, 100_000)), "bytes that claim to be 24001"),
    ],
)
def test_weights_of_something_else_are_named(tmp_path, model, change, complaint):
    state = dict(model.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelFolderError, match=complaint):
        read_checkpoint(tmp_path / "w.pth")


def test_files_that_are_no_checkpoint(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"hello", whole[:1000], whole[: len(whole) // 2], b"PK\x03\x04" + bytes(100)):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"w.pth"):
            read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(ModelFolderError, match="No such file"):
        read_checkpoint(tmp_path / "absent.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ModelFolderError, match="found a list, expected a state_dict"):
        read_checkpoint(tmp_path / "list.pth")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFolderError, match=r"compressed, expected a file that torch.save wrote"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_torchs_advice_to_run_the_code_is_not_passed_on(tmp_path, model):
    with upstream.as_upstream_module(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(model, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ModelFolderError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value) and "add_safe_globals" not in str(caught.value)


@pytest.mark.parametrize("form", ["state_dict", "training dict", "safetensors"])
def test_a_checkpoint_with_a_name_and_its_data_parallel_twin_is_refused(tmp_path, model, form):
    state = dict(model.state_dict())
    state["module.class_query"] = torch.zeros_like(state["class_query"])
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state if form == "state_dict" else {"model_state_dict": state}, path)
    with pytest.raises(ModelFolderError, match=r"w\..*: found both class_query and module\.class_query"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_checkpoint_with_an_entry_twice_is_refused(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for entry in [*whole.infolist(), whole.infolist()[0]]:
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(ModelFolderError, match=r"w\.pth: found an entry twice"):
        read_checkpoint(tmp_path / "w.pth")


def pickled(tmp_path: Path, change) -> Path:
    """A whole module, changed before it is saved."""
    module = upstream.make(layers=(1, 1), classes=3)
    change(module)
    with upstream.as_upstream_module():
        torch.save(module, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("heads", [0, "9", [9], 9.0, True])
def test_a_module_that_tells_no_sane_number_of_heads_tells_none(tmp_path, heads):
    def change(module):
        for layer in module.modules():
            if hasattr(layer, "num_heads"):
                layer.num_heads = heads

    assert read_checkpoint(pickled(tmp_path, change)).heads is None


def test_modules_within_modules_without_end_are_refused(tmp_path):
    def twice(module):
        for _ in range(60):
            outer = torch.nn.ModuleList()
            outer._modules = {"a": module.linear_class, "b": module.linear_class}
            module.linear_class = outer

    def itself(module):
        module._modules["again"] = module

    for change in (twice, itself):
        with pytest.raises(ModelFolderError, match="found a module that holds another twice"):
            read_checkpoint(pickled(tmp_path, change))


def test_a_module_with_two_tensors_of_one_name_is_refused(tmp_path):
    def change(module):
        module._buffers["class_query"] = torch.zeros_like(module.class_query)

    with pytest.raises(ModelFolderError, match=r"w\.pth: found a module with two tensors of one name"):
        read_checkpoint(pickled(tmp_path, change))


def test_a_module_whose_tables_are_none_is_no_spoter(tmp_path):
    def change(module):
        module.transformer.__dict__["_modules"] = [1, 2]

    with pytest.raises(ModelFolderError, match="expected SPOTER"):
        read_checkpoint(pickled(tmp_path, change))


def test_a_pickle_that_ends_within_a_number_is_refused(tmp_path, model):
    """torch's reader raises struct's error for it."""
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "w.pth", "w") as cut:
        for entry in whole.infolist():
            cut.writestr(entry, b"\x80\x02X\x05" if entry.filename.endswith("data.pkl") else whole.read(entry))
    with pytest.raises(ModelFolderError, match=r"w\.pth: cannot be read"):
        read_checkpoint(tmp_path / "w.pth")
