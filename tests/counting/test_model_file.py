import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rbcnb.counting.model_file import FORMAT, VERSION, ModelCard, ModelFileError, load_model, save_model
from rbcnb.training.engine import Engine, prepare
from rbcnb.training.models import build_model
from rbcnb.training.normalise import normalise

CLASSES = ("codocyte", "hypochromia", "normal")
CARD = ModelCard("small", CLASSES, 16, finder={"method": "paper"}, temperature=1.5, threshold=0.7, data_card="Ours.")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = build_model("small", 3).eval()
    return network, save_model(network, CARD, tmp_path / "model.safetensors")


def rewrite(path, *, weights=None, **facts):
    """The file at *path* with other text fields or tensors, in a valid safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        before = dict(file.metadata())
    save_file(weights or load_file(path), path, metadata=before | facts)


@pytest.mark.parametrize("architecture", ["small", "resnet18"])
def test_a_model_comes_back_bit_for_bit(tmp_path, architecture):
    network = prepare(build_model(architecture, 3), Engine(torch.device("cpu"))).eval()
    card = replace(CARD, architecture=architecture)
    found = load_model(save_model(network, card, tmp_path / "model.safetensors"))
    assert found.card == card
    images = normalise(torch.randint(0, 255, (5, 32, 32, 3), dtype=torch.uint8))
    with torch.inference_mode():
        assert torch.equal(found.network(images), network(images))
    assert not found.network.training


def test_a_model_whose_network_comes_with_an_extra_names_it(tmp_path, monkeypatch):
    lite = "efficientnet_lite0"
    pytest.importorskip("efficientnet_lite_pytorch", reason="pip install 'rbcnb[pretrained]' to run it")
    network = prepare(build_model(lite, 3), Engine(torch.device("cpu"))).eval()
    path = save_model(network, replace(CARD, architecture=lite), tmp_path / "model.safetensors")
    images = normalise(torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8))
    with torch.inference_mode():
        assert torch.equal(load_model(path).network(images), network(images))
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelFileError, match=r"model.safetensors: efficientnet_lite0 is not installed.*rbcnb\[pretra"):
        load_model(path)


def test_loading_leaves_the_random_numbers_alone(saved):
    torch.manual_seed(3)
    load_model(saved[1])
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_a_newer_version_and_another_format_are_refused_with_the_mend(saved):
    path = saved[1]
    rewrite(path, version=str(VERSION + 1))
    with pytest.raises(ModelFileError, match=rf"model format {VERSION + 1}, this version reads {VERSION}; update"):
        load_model(path)
    rewrite(path, format="another", version=str(VERSION))
    with pytest.raises(ModelFileError, match=f"not in the format {FORMAT}; export"):
        load_model(path)
    save_file(load_file(path), path)
    with pytest.raises(ModelFileError, match="not in the format"):
        load_model(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 2000, 0.5, 0.999])
def test_a_file_cut_short_is_refused(saved, keep):
    path = saved[1]
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ModelFileError, match="copy it again"):
        load_model(path)


def test_one_changed_bit_is_found_wherever_it_is(saved):
    path = saved[1]
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [len(data) - 1, *rng.integers(8 + int.from_bytes(data[:8], "little"), len(data), 10)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelFileError, match="checksum"):
            load_model(path)


def test_an_edited_card_is_found(saved):
    path = saved[1]
    text = path.read_bytes()
    assert b'temperature\\": 1.5' in text
    path.write_bytes(text.replace(b'temperature\\": 1.5', b'temperature\\": 9.5'))
    with pytest.raises(ModelFileError, match="damaged or edited"):
        load_model(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a model file ran code",))


@pytest.mark.parametrize("write", [torch.save, lambda it, path: path.write_bytes(pickle.dumps(it))])
def test_pickles_are_never_opened(tmp_path, write):
    path = tmp_path / "model.safetensors"
    write({"weights": Bomb()}, path)
    with pytest.raises(ModelFileError, match="can run code"):
        load_model(path)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "model.safetensors")
    (tmp_path / "smear.png").write_bytes(b"\x89PNG and so on, for a while")
    with pytest.raises(ModelFileError, match=r"smear\.png: no model file"):
        load_model(tmp_path / "smear.png")


def test_unknown_networks_and_foreign_weights_are_refused(tmp_path):
    path, network = tmp_path / "model.safetensors", build_model("small", 3)
    save_model(network, replace(CARD, architecture="vit"), path)
    with pytest.raises(ModelFileError, match=r"'vit', which this version does not know .*update"):
        load_model(path)
    save_model(network, replace(CARD, classes=("a", "b")), path)
    with pytest.raises(ModelFileError, match="not those of small with 2 classes"):
        load_model(path)


def test_a_diverged_network_is_not_saved(tmp_path):
    network = build_model("small", 3)
    with torch.no_grad():
        network[-1].bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"6\.bias: the fit diverged"):
        save_model(network, CARD, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_cards_of_a_later_version_may_say_more(saved):
    from rbcnb.counting import model_file

    path = saved[1]
    text = json.dumps(json.loads(json.dumps({**CARD.__dict__})) | {"later": 1}, sort_keys=True)
    rewrite(path, card=text, digest=model_file._digest(text, load_file(path)))
    assert load_model(path).card == CARD
