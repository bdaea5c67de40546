"""Compare native.c with the plain engine: equal in float64 up to rounding; in float32 as close to float64 as torch."""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from firstorder.engines.native import compiled
from firstorder.engines.native import engine as native
from firstorder.engines.native.border import Workspace
from firstorder.method import inner_loop
from firstorder.method.algorithms import ALGORITHMS, Group
from firstorder.method.architectures import ARCHITECTURES, architecture_of
from firstorder.method.evaluation import evaluate, evaluation_shape
from firstorder.method.images import Pixels
from firstorder.method.inner_loop import InnerLoop, OptimiserState, Plain
from firstorder.method.networks import make_network
from firstorder.method.tasks import Draws
from firstorder.method.training import Problem, checkpoint_of, classification_loss, outer_step, start
from firstorder.settings import ImageSettings
from tests.method.test_golden import fingerprint
from tests.method.test_training import problem

__all__ = ["problem"]  # a fixture
needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="no C compiler here")
WAY, LANES, BATCH = 7, 2, 6


def case(name: str, dtype: torch.dtype, engine: bool = True) -> tuple[InnerLoop, Tensor, list[tuple[Tensor, Tensor]]]:
    """Return an inner loop, parameters [2, parameters] near an initial state, and three mini-batches."""
    torch.manual_seed(7)
    network, architecture = make_network(name, WAY), ARCHITECTURES[name]
    parameters = torch.stack([network.initial(seed) for seed in range(LANES)]).double()
    parameters += 0.05 * torch.randn_like(parameters)
    size = (LANES, BATCH, architecture.channels, architecture.size, architecture.size)
    batches = [(torch.rand(size), torch.randint(0, WAY, (LANES, BATCH))) for _ in range(3)]
    adapted = None if network.adapted is None else network.adapted.to(dtype)
    made = native.NativeEngine(name, WAY) if engine else Plain()
    loop = InnerLoop(classification_loss(network), "sgd", 0.01, adapted, made)
    return loop, parameters.to(dtype), [(images.to(dtype), labels) for images, labels in batches]


def guarded(*defines: str) -> ctypes.CDLL:
    """Return the library that counts the bytes between arrays that have changed."""
    code = native.library("float", "-DGUARDS=165", *defines)
    assert not isinstance(code, str), code
    code.net_overruns.restype = ctypes.c_long
    return code


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the distance relative to the size of `wanted`, computed in float64."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@needs_compiler
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_hessian_product_and_logits_equal_those_of_autograd(name: str) -> None:
    """In float64, where only a wrong formula makes a difference."""
    loop, parameters, batches = case(name, torch.float64)
    plain, vector = replace(loop, engine=Plain()), torch.randn_like(parameters)
    wanted = inner_loop.gradient(plain, parameters, batches[0])
    assert distance(inner_loop.gradient(loop, parameters, batches[0]), wanted) < 1e-12
    wanted = inner_loop.hessian_product(plain, parameters, batches[0], vector)
    assert distance(inner_loop.hessian_product(loop, parameters, batches[0], vector), wanted) < 1e-12
    wanted = make_network(name, WAY).logits(parameters, batches[0][0])
    assert distance(native.NativeEngine(name, WAY).logits(loop, parameters, batches[0][0]), wanted) < 1e-12


@needs_compiler
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapted_parameters_and_second_moments_equal_the_plain_ones(name: str, optimiser: str) -> None:
    loop, parameters, batches = case(name, torch.float64)
    loop = replace(loop, optimiser=optimiser, learning_rate=1e-3)
    state = OptimiserState(torch.rand_like(parameters) * 0.01, 12)
    wanted, wanted_state = inner_loop.adapt(replace(loop, engine=Plain()), parameters, state, batches)
    found, found_state = inner_loop.adapt(loop, parameters, state, batches)
    assert distance(found - parameters, wanted - parameters) < 1e-11
    assert distance(found_state.second_moments, wanted_state.second_moments) < 1e-11
    assert found_state.steps == wanted_state.steps == (15 if optimiser == "adam" else 12)


@needs_compiler
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_float32_it_is_as_close_to_float64_as_torch(name: str) -> None:
    """Twice torch's distance is allowed, as a near tie of a maximum may be decided differently."""
    exact, parameters, batches = case(name, torch.float64, engine=False)
    wanted = inner_loop.gradient(exact, parameters, batches[0])
    loop, parameters, batches = case(name, torch.float32)
    vectors = replace(loop, engine=native.NativeEngine(name, WAY, tiles=False))
    ours = max(distance(inner_loop.gradient(one, parameters, batches[0]), wanted) for one in (loop, vectors))
    torchs = distance(inner_loop.gradient(replace(loop, engine=Plain()), parameters, batches[0]), wanted)
    assert ours < 2 * torchs + 1e-6


@needs_compiler
@pytest.mark.skipif("avx512_bf16" not in compiled.processor(), reason="no vectors of bfloat16 to split numbers with")
@pytest.mark.parametrize(("name", "size"), [("mini_imagenet", 84), ("mini_imagenet_finn", 45)])
def test_with_emulated_matrix_tiles_gradients_equal_those_with_vectors(name: str, size: int) -> None:
    """The way through tiles.h, on processors without tiles too; their arithmetic is replaced by loops."""
    code = guarded("-DEMULATED_TILES")
    own = architecture_of(name, ImageSettings(size=size, channels=3, filters=32))
    network = make_network(own, WAY)
    parameters = network.initial(0)[None]
    batch = (torch.rand(1, 3, *own.image_shape), torch.randint(0, WAY, (1, 3)))
    found = []
    for tiles, threads in ((False, 1), (True, 1), (True, 2)):
        engine = native.NativeEngine(own, WAY, threads=threads)
        room = Workspace(code, own, WAY, 3, threads, tiles)
        engine.workspaces[torch.float32] = [room]
        loop = InnerLoop(classification_loss(network), "sgd", 0.01, None, engine)
        gradient = inner_loop.gradient(loop, parameters, batch)
        product = inner_loop.hessian_product(loop, parameters, batch, parameters)
        assert torch.equal(inner_loop.gradient(loop, parameters, batch), gradient)
        assert code.net_overruns(room.net) == 0
        found.append((gradient, product))
    assert 0 < distance(found[1][0], found[0][0]) < 1e-2  # not the same way; a near tie may be decided differently
    assert torch.equal(found[1][1], found[0][1])  # tangents are computed with vectors
    assert torch.equal(found[1][0], found[2][0])


@needs_compiler
@pytest.mark.parametrize("algorithm", ["fomaml", "maml", "reptile", "last_step"])
def test_meta_gradients_equal_the_plain_ones(algorithm: str) -> None:
    """MAML's is computed with Hessian products here, and by autograd in the plain engine."""
    loop, parameters, batches = case("omniglot_finn", torch.float64)
    initial, state = parameters[:1], OptimiserState.fresh(parameters[:1])
    query = batches[2] if algorithm in ("fomaml", "maml") else None
    lanes = 1 if query is None else LANES
    groups = [Group([(x[:lanes], y[:lanes]) for x, y in batches[:2]], query)]
    wanted, _ = ALGORITHMS[algorithm](replace(loop, engine=Plain()), initial, state, groups)
    found, _ = ALGORITHMS[algorithm](loop, initial, state, groups)
    assert distance(found, wanted) < 1e-11


@needs_compiler
def test_the_golden_training_is_the_same(problem: Problem) -> None:
    """The engines agree within the tolerance of the golden test, so their records are comparable."""
    settings = problem.settings
    with_engine = replace(problem, engine=native.NativeEngine(settings.network, settings.way))
    wanted, found = fingerprint(problem), fingerprint(with_engine)
    for what in ("size of the change", "second moments"):
        assert found[what] == pytest.approx(wanted[what], rel=1e-3)


@needs_compiler
def test_workspaces_carry_nothing_over() -> None:
    """Maps of an earlier larger mini-batch, or of another lane, do not affect a gradient."""
    loop, parameters, batches = case("mini_imagenet_finn", torch.float32)
    images, labels = batches[0]
    few = (images[:1, :4], labels[:1, :4])
    fresh = native.NativeEngine("mini_imagenet_finn", WAY).gradient(
        loop, parameters[:1], (images[:1, :4], labels[:1, :4])
    )
    both = loop.engine.gradient(loop, parameters, batches[0])
    again = loop.engine.gradient(loop, parameters[:1], few)
    assert torch.equal(again, fresh)
    assert torch.equal(loop.engine.gradient(loop, parameters[1:], (images[1:], labels[1:])), both[1:])


@needs_compiler
@pytest.mark.parametrize("name", ["mini_imagenet", "omniglot_finn"])
def test_a_single_image_has_the_same_gradient_after_a_larger_batch(name: str) -> None:
    """Small maps of several images are computed together, which must not decide how a sum is formed."""
    own = architecture_of(name, ImageSettings(size=28, channels=3, filters=32))
    network = make_network(own, WAY)
    parameters = network.initial(0)[None]
    images, labels = torch.rand(1, 8, *own.image_shape), torch.randint(0, WAY, (1, 8))
    loop = InnerLoop(classification_loss(network), "sgd", 0.01, None, native.NativeEngine(own, WAY, threads=1))
    one = (images[:, :1], labels[:, :1])
    fresh = [inner_loop.gradient(loop, parameters, one), inner_loop.hessian_product(loop, parameters, one, parameters)]
    inner_loop.gradient(loop, parameters, (images, labels))
    assert torch.equal(inner_loop.gradient(loop, parameters, one), fresh[0])
    assert torch.equal(inner_loop.hessian_product(loop, parameters, one, parameters), fresh[1])


@needs_compiler
@pytest.mark.parametrize("sizes", [None, (16, 1, 16), (23, 2, 16), (32, 3, 48), (45, 16, 16), (112, 5, 32)], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_array_is_written_to_beyond_its_end(name: str, sizes: tuple[int, int, int] | None) -> None:
    """Compiled with -DGUARDS, the bytes between arrays have a value, and C counts those that have changed."""
    code = guarded()
    settings = None if sizes is None else ImageSettings(size=sizes[0], channels=sizes[1], filters=sizes[2])
    own = architecture_of(name, settings)
    network = make_network(own, WAY)
    parameters = network.initial(0)[None]
    batch = (torch.rand(1, BATCH, *own.image_shape), torch.randint(0, WAY, (1, BATCH)))
    for threads in (1, 3):
        engine = native.NativeEngine(own, WAY, threads=threads)
        room = Workspace(code, own, WAY, BATCH, threads, engine.tiles)
        engine.workspaces[torch.float32] = [room]
        loop = InnerLoop(classification_loss(network), "adam", 0.01, None, engine)
        inner_loop.adapt(loop, parameters, OptimiserState.fresh(parameters), [batch])
        inner_loop.hessian_product(loop, parameters, batch, parameters)
        engine.logits(loop, parameters, batch[0][:, :1])
        assert code.net_overruns(room.net) == 0


@needs_compiler
@pytest.mark.parametrize("threads", [2, 3, 5, 16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_results_have_the_same_bytes_with_any_number_of_threads(name: str, threads: int) -> None:
    """One lane is shared by all threads. Of two lanes each has half of them; three are computed one or more at once."""
    for lanes in (1, 2, 3):
        found = []
        for count in (1, threads):
            loop, parameters, batches = case(name, torch.float32)
            start = parameters[:1].expand(lanes, -1)
            some = [(x[:1].expand(lanes, -1, -1, -1, -1), y[:1].expand(lanes, -1)) for x, y in batches]
            loop = replace(loop, optimiser="adam", engine=native.NativeEngine(name, WAY, threads=count))
            adapted, state = inner_loop.adapt(loop, start, OptimiserState.fresh(start), some)
            product = inner_loop.hessian_product(loop, adapted, some[0], start)
            logits = loop.engine.logits(loop, adapted, some[0][0])
            found.append((adapted, state.second_moments, product, inner_loop.gradient(loop, adapted, some[1]), logits))
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)


@needs_compiler
@pytest.mark.parametrize("name", ["mini_imagenet", "mini_imagenet_finn"])
def test_where_outputs_of_a_window_are_equal_or_scales_are_not_positive_gradients_equal_those_of_autograd(
    name: str,
) -> None:
    """Of equal outputs the first is passed on. A negative scale turns their order, and with 0 all are equal."""
    loop, parameters, batches = case(name, torch.float64)
    images, labels = batches[0]
    images = images[..., ::12, ::12].repeat_interleave(12, -1).repeat_interleave(12, -2)  # squares of one colour
    if ARCHITECTURES[name].scale:
        for lane in parameters:
            for part, values in make_network(name, WAY).named(lane).items():
                if part.endswith("scale"):
                    values *= torch.tensor([1.0, -1.0, 0.0, 2.0]).double().repeat(len(values) // 4)
    plain, vector = replace(loop, engine=Plain()), torch.randn_like(parameters)
    for function in (inner_loop.gradient, partial(inner_loop.hessian_product, vector=vector)):
        assert (
            distance(function(loop, parameters, (images, labels)), function(plain, parameters, (images, labels)))
            < 1e-12
        )


@needs_compiler
@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("block", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["omniglot", "mini_imagenet"])
def test_overflow_is_propagated(name: str, block: int, tiles: bool) -> None:
    """Overflow must reach the check of the meta-gradient and not disappear in a maximum or a ReLU, nor stay behind."""
    loop, parameters, batches = case(name, torch.float32)
    loop = replace(loop, engine=native.NativeEngine(name, WAY, tiles=tiles))
    wanted = inner_loop.gradient(loop, parameters, batches[0])
    broken = parameters.clone()
    for lane in broken:
        make_network(name, WAY).named(lane)[f"convolution{block}.kernel"][0] = 3e38
    assert not torch.isfinite(inner_loop.gradient(loop, broken, batches[0])).all()
    assert torch.equal(inner_loop.gradient(loop, parameters, batches[0]), wanted)


@needs_compiler
@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_images_as_they_are_stored_give_the_same_bytes_as_converted_ones(name: str, scale: int) -> None:
    loop, parameters, batches = case(name, torch.float32)
    stored = [(Pixels((x * scale).round().to(torch.uint8), scale), y) for x, y in batches]
    converted = [(x.to(torch.float32), y) for x, y in stored]
    state = OptimiserState.fresh(parameters)
    found = [inner_loop.adapt(loop, parameters, state, given)[0] for given in (stored, converted)]
    assert torch.equal(*found)
    found = [inner_loop.hessian_product(loop, parameters, given[0], parameters) for given in (stored, converted)]
    assert torch.equal(*found)


@needs_compiler
def test_second_order_through_adam_takes_images_as_they_are_stored() -> None:
    """It is computed by autograd."""
    loop, parameters, batches = case("omniglot", torch.float64)
    stored = [(Pixels(x.round().to(torch.uint8), 1), y) for x, y in batches[:2]]
    loop = replace(loop, optimiser="adam")
    state = OptimiserState(torch.rand_like(parameters), 3)
    found, wanted = (
        loop.engine.gradient_through(loop, parameters, state, given, batches[2])
        for given in (stored, [(x.to(torch.float64), y) for x, y in stored])
    )
    assert torch.equal(found, wanted)


@needs_compiler
def test_a_whole_evaluation_gives_the_same_answers(problem: Problem) -> None:
    """In both modes. Rounding could change a near tie, but these few tasks have none."""
    state = start(problem)
    for _ in range(3):
        outer_step(problem, problem.inner, state)
    pool = problem.pools["meta-test"]
    shape = evaluation_shape(pool, problem.settings.way, problem.settings.curve)
    draws = Draws(title="", shape=shape, seed=0, purpose="test", step=0, tasks=4)
    checkpoint = checkpoint_of(problem, state, {})
    wanted = evaluate(problem.inner, checkpoint, pool, draws)
    engine = native.NativeEngine(problem.settings.network, problem.settings.way)
    found = evaluate(replace(problem.inner, engine=engine), checkpoint, pool, draws)
    for mode, counts in wanted.items():
        assert (found[mode] == counts).all()


def compiled_by(tmp_path: Path, compiler: str) -> str:
    """Return `reason` in a new process with this compiler and an empty cache."""
    program = "from firstorder.engines.native import engine; print(engine.reason('omniglot'))"
    environment = {**os.environ, "CC": compiler, "FIRSTORDER_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_a_compiler_there_is_a_reason_and_no_engine(tmp_path: Path) -> None:
    assert compiled_by(tmp_path, "/nowhere/cc").startswith("no C compiler found")


def test_a_compiler_that_fails_leaves_no_file(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'unknown option -march=native' >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    assert compiled_by(tmp_path, str(broken)) == f"{broken} cannot compile native.c: unknown option -march=native"
    assert not list((tmp_path / "cache").glob("*"))


@needs_compiler
def test_it_is_compiled_once(tmp_path: Path) -> None:
    command = " ".join(compiled.compiler() or [])
    assert compiled_by(tmp_path, command) == "None"
    made, _ = sorted((tmp_path / "cache").iterdir(), reverse=True)
    assert made.suffix == ".so"
    stamp = made.stat().st_mtime_ns
    assert compiled_by(tmp_path, command) == "None"
    assert made.stat().st_mtime_ns == stamp


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the option is for x86-64")
def test_narrow_vectors_are_not_supported(tmp_path: Path) -> None:
    command = " ".join(compiled.compiler() or [])
    said = compiled_by(tmp_path, f"{command} -mno-avx")
    assert said == "this processor's vectors have 16 bytes, with which PyTorch is faster"


@needs_compiler
def test_filters_that_do_not_fill_a_vector_are_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = replace(ARCHITECTURES["omniglot"], filters=24)
    monkeypatch.setitem(ARCHITECTURES, "omniglot", narrow)
    assert native.reason("omniglot") == "24 filters are no multiple of 16"


# --- Sizes of one's own ---

OWN_SIZES = [(16, 1, 16), (17, 3, 32), (23, 2, 16), (32, 3, 48), (45, 16, 16)]  # size, channels, filters


@needs_compiler
@pytest.mark.parametrize("sizes", OWN_SIZES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_native_agrees_with_plain_on_images_of_any_size(name: str, sizes: tuple[int, int, int]) -> None:
    """Even and odd sizes, one to many channels: in float64 up to rounding, so only a wrong formula would differ."""
    size, channels, filters = sizes
    own = architecture_of(name, ImageSettings(size=size, channels=channels, filters=filters))
    assert own.image_shape == [channels, size, size]
    assert native.reason(own) is None
    loaded = native.library("double")
    assert not isinstance(loaded, str)
    assert native._distance_from_plain(loaded, "double", own) < 1e-12


@needs_compiler
def test_sizes_that_native_cannot_compute_are_named() -> None:
    own = architecture_of("mini_imagenet", ImageSettings(size=20, channels=17, filters=16))
    assert native.reason(own) == "it takes images of at most 16 channels, these have 17"
    own = architecture_of("omniglot", ImageSettings(size=20, channels=1, filters=20))
    assert native.reason(own) == "20 filters are no multiple of 16"


@needs_compiler
def test_a_wrong_gradient_for_a_size_of_ones_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = architecture_of("omniglot", ImageSettings(size=26, channels=1, filters=16))
    monkeypatch.setattr(native, "_distance_from_plain", lambda *_: 0.5)
    assert native.reason(own) == "its gradient for images of 1x26x26 is wrong by 5.0e-01 of the plain one"


# --- What C would not notice ---


@needs_compiler
def test_what_c_would_read_beyond_is_refused_at_the_border() -> None:
    loop, parameters, batches = case("omniglot", torch.float32)
    images, labels = batches[0]
    state = OptimiserState.fresh(parameters)
    wrong = [
        ((images[..., :14, :14], labels), "images have shape"),
        ((images.expand(-1, -1, 3, -1, -1), labels), "images have shape"),
        ((images, labels + WAY), f"labels go from .* of {WAY}"),
        ((images, labels - 1 - labels.max()), "labels go from"),
        ((images, labels.int()), "type torch.int32"),
    ]
    for batch, message in wrong:
        for call in (
            lambda batch=batch: inner_loop.gradient(loop, parameters, batch),
            lambda batch=batch: inner_loop.hessian_product(loop, parameters, batch, parameters),
            lambda batch=batch: inner_loop.adapt(loop, parameters, state, [batch]),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    with pytest.raises(ValueError, match="images have shape"):
        loop.engine.logits(loop, parameters, images[..., :14, :14])
    with pytest.raises(ValueError, match="a vector has shape"):
        inner_loop.hessian_product(loop, parameters, batches[0], parameters[:, :-1])
