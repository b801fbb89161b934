"""Checkpoints of every form are read without running code."""

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


def test_a_bare_state_dict_is_read(tmp_path, model):
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


def test_a_training_dict_is_read(tmp_path, model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1).state_dict()
    content = {"epoch": 3, "model_state_dict": model.state_dict(), "loss": 0.5, "optimizer_state_dict": optimizer}
    torch.save(content, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert (checkpoint.kind, checkpoint.notes) == ("training dict", {"epoch": 3, "loss": 0.5})


def test_a_pickled_module_also_gives_the_number_of_heads(tmp_path, model):
    with upstream.as_upstream_module():
        torch.save(model, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert (checkpoint.kind, checkpoint.heads) == ("whole module", 9)
    expected = model.state_dict()
    assert checkpoint.state.keys() == expected.keys()
    assert all(torch.equal(checkpoint.state[name], expected[name]) for name in expected)


def test_files_of_torch_before_1_6_and_data_parallel_names_are_read(tmp_path, model):
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "w.pth").state.keys() == model.state_dict().keys()


class CreatesFolder:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", ["state", "training", "loss", "bare pickle"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, model, form, zipped):
    payload, file = CreatesFolder(tmp_path / "ran"), tmp_path / "w.pth"
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(payload))
    else:
        content = {
            "state": collections.OrderedDict(model.state_dict(), extra=payload),
            "training": {"model_state_dict": payload},
            "loss": {"model_state_dict": model.state_dict(), "loss": payload},
        }[form]
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFolderError, match=r"run code|running code"):
        read_checkpoint(file)
    assert not payload.path.exists()


def test_a_hostile_checkpoint_is_refused_and_the_error_names_its_code(shared_data):
    side_effect = Path("/tmp/PWNED")  # unpickling the file would create this path
    assert not side_effect.exists()
    with pytest.raises(ModelFolderError, match=r"posix\.system"):
        read_checkpoint(shared_data / "reference" / "hostile.pth")
    assert not side_effect.exists()


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda s: s.pop("class_query"), "class_query"),
        (lambda s: s.pop("transformer.encoder.layers.0.norm1.bias"), r"transformer\.encoder\.layers\.0\.norm1\.bias"),
        (lambda s: s.update(extra=torch.zeros(3)), r"\(3,\) as extra"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 7)), r"\(1, 1, 7\) as pos.* \(1, 1, 108\)"),
        (lambda s: s.update(pos=torch.full((1, 1, 108), torch.nan)), "NaN .* pos"),
        (lambda s: s.update({"transformer.encoder.layers.999.x": torch.zeros(1)}), "1000"),
        (lambda s: s.clear(), "state_dict"),
        (lambda s: s.update(pos="here"), "str as pos"),
        (lambda s: s.update({0: torch.zeros(1)}), "state_dict"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, device="meta")), "meta, as pos"),
        (lambda s: s.update(pos=torch.eye(3).to_sparse()), "sparse_coo .* pos"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, dtype=torch.complex64)), "complex64, .* as pos"),
        (lambda s: s.update(pos=torch.zeros(1, 1, 108, dtype=torch.bool)), r"torch\.bool, .* as pos"),
        (lambda s: s.update(class_query=torch.zeros(1, 0)), r"\(1, 0\), as class_query"),
        (lambda s: s.update(pos=torch.zeros(1).expand(60_000, 100_000)), "24001"),
    ],
)
def test_the_error_names_a_parameter_that_does_not_belong_to_spoter(tmp_path, model, change, pattern):
    state = dict(model.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelFolderError, match=pattern):
        read_checkpoint(tmp_path / "w.pth")


def test_other_files_are_refused(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "valid.pth")
    valid = (tmp_path / "valid.pth").read_bytes()
    for content in (b"", b"hello", valid[:1000], valid[: len(valid) // 2], b"PK\x03\x04" + bytes(100)):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"w.pth"):
            read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(ModelFolderError, match=r"absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ModelFolderError, match=r"list.*state_dict"):
        read_checkpoint(tmp_path / "list.pth")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as valid, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as packed:
        for entry in valid.infolist():
            packed.writestr(entry.filename, valid.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFolderError, match=r"bomb\.pth: .*compressed"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_errors_do_not_repeat_torchs_advice_to_run_the_code(tmp_path, model):
    with upstream.as_upstream_module(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(model, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ModelFolderError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value) and "add_safe_globals" not in str(caught.value)


@pytest.mark.parametrize("form", ["state_dict", "training dict", "safetensors"])
def test_a_name_with_and_without_the_data_parallel_prefix_is_refused(tmp_path, model, form):
    state = dict(model.state_dict())
    state["module.class_query"] = torch.zeros_like(state["class_query"])
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state if form == "state_dict" else {"model_state_dict": state}, path)
    with pytest.raises(ModelFolderError, match=r"w\..*class_query and module\.class_query"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_checkpoint_with_a_repeated_entry_is_refused(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "valid.pth")
    with zipfile.ZipFile(tmp_path / "valid.pth") as valid, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for entry in [*valid.infolist(), valid.infolist()[0]]:
            packed.writestr(entry.filename, valid.read(entry))
    with pytest.raises(ModelFolderError, match=r"w\.pth: .*entries"):
        read_checkpoint(tmp_path / "w.pth")


def save_module(tmp_path: Path, change) -> Path:
    """Save a whole module after `change`; return its path."""
    module = upstream.make(layers=(1, 1), classes=3)
    change(module)
    with upstream.as_upstream_module():
        torch.save(module, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("heads", [0, "9", [9], 9.0, True])
def test_an_invalid_number_of_heads_in_a_module_is_ignored(tmp_path, heads):
    def change(module):
        for layer in module.modules():
            if hasattr(layer, "num_heads"):
                layer.num_heads = heads

    assert read_checkpoint(save_module(tmp_path, change)).heads is None


def test_cycles_and_repeated_modules_are_refused(tmp_path):
    def repeat_head(module):
        for _ in range(60):
            outer = torch.nn.ModuleList()
            outer._modules = {"a": module.linear_class, "b": module.linear_class}
            module.linear_class = outer

    def contain_itself(module):
        module._modules["again"] = module

    for change in (repeat_head, contain_itself):
        with pytest.raises(ModelFolderError, match=r"w\.pth: .*module"):
            read_checkpoint(save_module(tmp_path, change))


def test_a_module_with_two_tensors_of_one_name_is_refused(tmp_path):
    def change(module):
        module._buffers["class_query"] = torch.zeros_like(module.class_query)

    with pytest.raises(ModelFolderError, match=r"w\.pth: .*two tensors"):
        read_checkpoint(save_module(tmp_path, change))


def test_a_module_with_invalid_tables_is_refused(tmp_path):
    def change(module):
        module.transformer.__dict__["_modules"] = [1, 2]

    with pytest.raises(ModelFolderError, match="SPOTER"):
        read_checkpoint(save_module(tmp_path, change))


def test_a_truncated_pickle_is_refused(tmp_path, model):
    """torch's reader raises `struct.error` for it."""
    torch.save(model.state_dict(), tmp_path / "valid.pth")
    with zipfile.ZipFile(tmp_path / "valid.pth") as valid, zipfile.ZipFile(tmp_path / "w.pth", "w") as truncated:
        for entry in valid.infolist():
            truncated.writestr(entry, b"\x80\x02X\x05" if entry.filename.endswith("data.pkl") else valid.read(entry))
    with pytest.raises(ModelFolderError, match=r"w\.pth"):
        read_checkpoint(tmp_path / "w.pth")
