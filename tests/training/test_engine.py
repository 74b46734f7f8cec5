"""The arithmetic of a fit: number formats, batches in parts, and what a device without memory does."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.learner import Recorder
from fastai.vision.all import Transform
from torch import nn

from rbcnb.columns import CLASSES
from rbcnb.study.runner import at_precision
from rbcnb.training import engine as engine_module, learner as learner_module
from rbcnb.training.dataloaders import CellDataLoaders, CellDataset, CellDL
from rbcnb.training.engine import Engine, bare_model, choose_engine, out_of_memory, prepare, processor_kind
from rbcnb.training.fit import run_trial
from rbcnb.training.learner import build_learner, fit_trial
from rbcnb.training.models import build_model
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

CPU = choose_engine("cpu", precision="float32")
FAST = Trial(epochs=2, precision="float32")


@pytest.fixture
def split_data(data):
    cells, crops = data
    return assign_splits(cells, protocol="paper", seed=0), crops


def loaders(n: int, *, batch_size: int, part_size: int | None = None, n_valid: int = 0) -> CellDataLoaders:
    crops = torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    cells = crops, np.arange(n) % 3
    held_out = crops[:n_valid], np.arange(n_valid) % 3
    return CellDataLoaders.from_crops(cells, held_out, vocab=CLASSES, bs=batch_size, part_size=part_size)


def test_precision_is_asked_of_the_device_or_given():
    assert choose_engine("cpu").precision in ("float32", "bf16")
    assert choose_engine("cpu", precision="bf16") == Engine(torch.device("cpu"), "bf16")
    with pytest.raises(ValueError, match="precision must be one of auto, float32, bf16, got 'fp8'"):
        choose_engine(precision="fp8")


@pytest.mark.parametrize("answer", [lambda: False, None])
def test_a_processor_without_bfloat16_is_never_given_it(monkeypatch, answer):
    """There autocast would take ten times as long as float32; nor where torch no longer answers the question."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if answer is None:
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, answer, raising=False)
    assert choose_engine("cpu").precision == "float32"


def test_depthwise_networks_stay_in_float32_unless_told_otherwise():
    auto = Trial(architecture="efficientnet_lite0")
    assert auto.wanted_precision == "float32"
    assert dataclasses.replace(auto, precision="bf16").wanted_precision == "bf16"
    assert Trial(architecture="resnet50").wanted_precision == "auto"
    at = at_precision([auto, Trial(), Trial(precision="float32")], "bf16")
    assert [trial.precision for trial in at] == ["float32", "bf16", "float32"]


def test_bfloat16_multiplies_and_float32_remembers():
    torch.manual_seed(0)
    bare = build_model("small", 3)
    model = prepare(bare, choose_engine("cpu", precision="bf16")).eval()
    images = torch.randn(8, 3, 32, 32)
    seen = []
    bare[0][0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    logits = model(images)
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32
    assert bare_model(model) is bare
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():
        exact = bare(images)
    assert seen[1] == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, atol=0.02, rtol=0.02)


def test_a_batch_in_parts_has_the_same_cells_and_parts_of_even_size():
    whole, parts = loaders(70, batch_size=32).train, loaders(70, batch_size=32, part_size=20).train
    assert [len(y) for _, y in parts] == [16, 16, 16, 16, 6]
    assert [part.last for part in parts.parts] == [False, True, False, True, True]
    served = [torch.cat([y for _, y in served_by]) for served_by in (whole, parts)]
    assert len(whole) == 3
    assert served[0].shape == served[1].shape == (70,)


def test_no_part_is_a_single_cell():
    """Batch norm over a single value per channel raises: at 32 px a ResNet's last layers see 1 x 1 px."""
    for n in range(2, 70):
        cells = CellDataset(torch.zeros(n, 1, 1, 3, dtype=torch.uint8), torch.zeros(n).long(), CLASSES, split_idx=0)
        for part_size in range(2, 33):
            sizes = [part.size for part in CellDL(cells, bs=32, shuffle=True, part_size=part_size).parts]
            assert min(sizes) >= 2
            assert max(sizes) <= max(part_size, 3)


class InDouble(Transform):
    order = 99

    def encodes(self, images: torch.Tensor) -> torch.Tensor:
        return images.double() if images.is_floating_point() else images


def test_gradients_of_parts_add_up_to_the_step_of_the_whole_batch(monkeypatch):
    """With a net that treats each cell by itself, two epochs end at the same weights."""

    def net(*_args, **_kwargs):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))

    monkeypatch.setattr(learner_module, "build_model", net)
    weights, curves = [], []
    for part_size in (None, 8):
        torch.manual_seed(0)
        dls = loaders(70, batch_size=32, part_size=part_size, n_valid=5)
        fitted = build_learner(Trial(learning_rate=1e-2), dls, engine=CPU)
        fitted.model.double()
        fitted.remove_cb(Recorder)  # its average is float32
        for loader in (dls.train, dls.valid):
            loader.after_batch.add(InDouble())
        fit_trial(fitted, Trial(learning_rate=1e-2, epochs=2))
        weights.append(torch.cat([p.detach().flatten() for p in fitted.model.parameters()]))
        curves.append(fitted.curve.table)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(curves[0], curves[1], rtol=1e-9)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(monkeypatch, split_data):
    forward = nn.Sequential.forward

    def cramped(self, images):
        if self.training and len(images) > 10:
            raise torch.OutOfMemoryError("tried to allocate more than there is")
        return forward(self, images)

    whole = run_trial(FAST, *split_data)
    assert whole.part_size == FAST.batch_size == 32
    monkeypatch.setattr(nn.Sequential, "forward", cramped)
    halved = run_trial(FAST, *split_data)
    assert halved.part_size == 8
    assert len(halved.curves) == 2
    assert len(halved.predictions) == len(whole.predictions)
    np.testing.assert_allclose(halved.curves["train_ce"][0], whole.curves["train_ce"][0], rtol=0.2)


@pytest.mark.slow
def test_no_memory_at_all_is_said_and_other_errors_pass(monkeypatch, split_data):
    def none(_self, _images):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(nn.Sequential, "forward", none)
    with pytest.raises(MemoryError, match="cpu has no memory for two cells at once"):
        run_trial(FAST, *split_data)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    for words in ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"):
        assert out_of_memory(RuntimeError(words))


def test_the_engine_is_recorded_and_part_of_the_trial(split_data):
    assert str(CPU) == "cpu float32"
    fit = run_trial(dataclasses.replace(FAST, precision="bf16", epochs=1), *split_data, device="cpu")
    assert fit.engine == "cpu bf16"
    assert dataclasses.replace(FAST, precision="bf16").key("d") != FAST.key("d")


@pytest.mark.parametrize("fast", [True, False])
def test_the_kind_of_processor_tells_what_numbers_depend_on(monkeypatch, fast):
    monkeypatch.setattr(engine_module, "_fast_precision", lambda _: "bf16" if fast else "float32")
    kind = processor_kind("cpu")
    assert torch.backends.cpu.get_cpu_capability() in kind
    assert kind.endswith("bfloat16") == fast
    assert kind == processor_kind(torch.device("cpu"))
