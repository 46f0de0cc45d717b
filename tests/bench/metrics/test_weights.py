"""Where weights are taken from. The Hub is out of reach in tests: its cache on the disk stands for it."""

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from alignvid.bench.metrics import Weights
from alignvid.bench.metrics.weights import digest, locate, read_state
from alignvid.errors import InputError

COMMIT = "0" * 40


def needed(default=None, *, has_tensors=True):
    return Weights(name="net", what="the net's net.pth", default=default, has_tensors=has_tensors)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that puts a model with these files into the Hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(*names):
        model = tmp_path / "hub" / "models--owner--model"
        snapshot = model / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(COMMIT)
        for name in names:
            (snapshot / name).write_bytes(name.encode())
        return snapshot

    return put


def test_a_path_goes_before_the_default(tmp_path):
    (tmp_path / "net.pth").touch()
    assert locate(needed("owner/model"), str(tmp_path / "net.pth")) == tmp_path / "net.pth"


def test_a_model_of_the_hub_is_its_folder(hub):
    snapshot = hub("config.json", "model.safetensors")
    assert locate(needed("owner/model"), None) == snapshot


def test_a_file_of_the_hub_is_that_file(hub):
    snapshot = hub("net.pth")
    assert locate(needed(), "owner/model/net.pth") == snapshot / "net.pth"


def test_a_url_is_taken_from_torchs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "net-0123abcd.pth"
    path.touch()
    assert locate(needed("https://example.org/net-0123abcd.pth"), None) == path


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "no path was given"),
        ("nothing", "'nothing' does not exist"),
        ("no/such/net.pth", "'no/such/net.pth' is no path here and could not be fetched"),
        ("owner/unknown", "'owner/unknown' is no path here and could not be fetched"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(source, reason, hub):
    with pytest.raises(InputError) as raised:
        locate(needed(), source)
    assert str(raised.value).startswith(f"Needs the net's net.pth: {reason}")
    assert str(raised.value).endswith("give its path with --weights net=PATH.")
    assert "\n" not in str(raised.value)


def test_a_folders_digest_covers_tensors_and_settings(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    (tmp_path / "config.json").write_bytes(b"{}")
    before = digest(needed(), tmp_path)
    (tmp_path / "README.md").write_bytes(b"nothing that decides a value")
    assert digest(needed(), tmp_path) == before
    (tmp_path / "config.json").write_bytes(b"{ }")
    assert digest(needed(), tmp_path) != before


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folders_digest_covers_tensors_of_either_form(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    before = digest(needed(), tmp_path)
    (tmp_path / name).write_bytes(b"2")
    assert digest(needed(), tmp_path) != before


def test_a_tokenizers_digest_covers_no_tensors(tmp_path):
    (tmp_path / "vocab.json").write_bytes(b"{}")
    before = digest(needed(has_tensors=False), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    assert digest(needed(has_tensors=False), tmp_path) == before


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": {"module.a": s["a"]}}])
def test_a_state_dict_is_found_in_its_wrappings(wrap, tmp_path):
    torch.save(wrap({"a": torch.ones(2)}), tmp_path / "net.pth")
    assert torch.equal(read_state(tmp_path / "net.pth")["a"], torch.ones(2))


def test_safetensors_are_read(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "net.safetensors")
    assert torch.equal(read_state(tmp_path / "net.safetensors")["a"], torch.ones(2))


@pytest.mark.parametrize("content", [{}, {"a": 1}, [torch.ones(1)], 3], ids=["empty", "number", "list", "int"])
def test_a_file_without_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match="hold no tensors"):
        read_state(tmp_path / "net.pth")


def test_a_folder_where_a_file_is_needed_is_refused(tmp_path):
    with pytest.raises(InputError, match="are a folder; give the file in it"):
        read_state(tmp_path)
