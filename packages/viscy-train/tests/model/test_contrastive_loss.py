"""The contrastive loss in value and gradient, against other implementations, over ranks, and in half precision."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from viscy_sampling_testkit import spawn_ranks
from viscy_train.model import contrastive_loss as module
from viscy_train.model.contrastive_loss import contrastive_loss

DRAWS = settings(deadline=None, max_examples=60)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_projections(n, seed=0, dtype=torch.float64, length=6):
    return torch.randn(n, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def differentiate(loss, projections, temperature):
    """Return a loss and its gradients by the projections and by the temperature, which it is called with."""
    projections = projections.clone().requires_grad_()
    dtype = torch.promote_types(projections.dtype, torch.float32)
    temperature = torch.tensor(temperature, dtype=dtype, requires_grad=True)
    value = loss(projections, temperature)
    value.backward()
    return value.detach(), projections.grad, temperature.grad


def ours(labels, **options):
    return lambda projections, temperature: contrastive_loss(projections, labels, temperature, **options)


def supcon(labels):
    return lambda projections, temperature: SupConLoss(temperature=temperature)(projections, labels)


def naive(labels, hardness):
    """Return the formula in the docstring of the module, row by row."""

    def loss(projections, temperature):
        z = normalize(projections)
        logits, losses = z @ z.T / temperature, []
        for i in range(len(z)):
            others = torch.arange(len(z)) != i
            positives, negatives = logits[i][others & (labels == labels[i])], logits[i][labels != labels[i]]
            if len(positives) and len(negatives):
                weights = torch.softmax(hardness * negatives, dim=0)
                hard = len(negatives) * (weights * negatives.exp()).sum()
                losses.append((positives.exp().sum() + hard).log() - positives.mean())
        return torch.stack(losses).mean() if losses else 0 * (projections.sum() + temperature)

    return loss


def hard_nt_xent(hardness):
    """Return the loss of Robinson et al. 2021 for tau_plus 0, of pairs (i, i + n)."""

    def loss(projections, temperature):
        z = normalize(projections)
        n = len(z) // 2
        partner = torch.arange(2 * n).roll(n)
        similarity = (z @ z.T / temperature).exp()
        is_negative = ~torch.eye(2 * n, dtype=torch.bool)
        is_negative[torch.arange(2 * n), partner] = False
        negative = similarity[is_negative].view(2 * n, -1)
        importance = negative**hardness
        hard = (importance * negative).sum(dim=1) / importance.mean(dim=1)
        positive = similarity[torch.arange(2 * n), partner]
        return -(positive / (positive + hard)).log().mean()

    return loss


def assert_equal(actual, expected, rtol=1e-9, atol=1e-12):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol, check_dtype=False)


LABELS = st.lists(st.integers(0, 5), min_size=2, max_size=24).map(torch.tensor)


@given(LABELS, st.floats(0.1, 2.0), st.integers(0, 99))
@DRAWS
def test_without_hardness_it_is_supcon_in_value_and_gradient(labels, temperature, seed):
    projections = make_projections(len(labels), seed)
    expected = differentiate(supcon(labels), projections, temperature)
    expected = *expected[:2], torch.zeros(()) if expected[2] is None else expected[2]
    assert_equal(differentiate(ours(labels), projections, temperature), expected)


@given(st.integers(2, 20), st.floats(0.1, 2.0), st.integers(0, 99))
@DRAWS
def test_of_pairs_it_is_nt_xent_in_value_and_gradient(n_pairs, temperature, seed):
    projections, labels = make_projections(2 * n_pairs, seed), torch.arange(n_pairs).repeat(2)
    expected = differentiate(lambda z, t: NTXentLoss(temperature=t)(z, labels), projections, temperature)
    assert_equal(differentiate(ours(labels), projections, temperature), expected)


@given(st.integers(2, 20), st.floats(0.0, 4.0), st.floats(0.1, 2.0), st.integers(0, 99))
@DRAWS
def test_of_pairs_with_hardness_it_is_hard_negative_nt_xent(n_pairs, hardness, temperature, seed):
    projections, labels = make_projections(2 * n_pairs, seed), torch.arange(n_pairs).repeat(2)
    expected = differentiate(hard_nt_xent(hardness), projections, temperature)
    assert_equal(differentiate(ours(labels, hardness=hardness), projections, temperature), expected)


@given(LABELS, st.floats(0.0, 4.0), st.floats(0.1, 2.0), st.integers(0, 99))
@DRAWS
def test_with_several_positives_and_hardness_it_is_the_formula_stated(labels, hardness, temperature, seed):
    projections = make_projections(len(labels), seed)
    expected = differentiate(naive(labels, hardness), projections, temperature)
    assert_equal(differentiate(ours(labels, hardness=hardness), projections, temperature), expected)


def test_negatives_close_to_the_anchor_count_more_with_more_hardness():
    angles = torch.tensor([0.0, 0.5, 2.5, 0.0, 0.5, 2.5], dtype=torch.float64)
    projections, labels = torch.stack([angles.cos(), angles.sin()], dim=1), torch.arange(3).repeat(2)
    losses = [float(contrastive_loss(projections, labels, 0.5, hardness)) for hardness in (0.0, 0.5, 2.0, 50.0)]
    assert losses == sorted(losses)
    assert losses[-1] == pytest.approx(np.log1p([4 * np.exp((np.cos(x) - 1) / 0.5) for x in (0.5, 0.5, 2.0)]).mean())


@pytest.mark.parametrize("hardness", [0.0, 1.5])
def test_single_precision_is_as_exact_as_its_logits(hardness):
    # The rounding errors of logits of at most 20 are about 1e-6, and so are the relative errors of their exponentials.
    projections, labels = make_projections(200), torch.arange(50).repeat(4)
    exact = differentiate(ours(labels, hardness=hardness), projections, 0.05)
    single = differentiate(ours(labels, hardness=hardness), projections.float(), 0.05)
    for one, other in zip(single, exact, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def test_the_loss_of_a_pair_far_from_all_others_is_not_rounded_to_0():
    angles = torch.tensor([0.0, 1.5, 0.0, 1.5])
    projections = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 1, 0, 1])
    exact = contrastive_loss(projections.double(), labels, 0.02)
    assert float(exact) < 1e-18
    torch.testing.assert_close(contrastive_loss(projections, labels, 0.02).double(), exact, rtol=1e-4, atol=0)


EXTREMES = {
    "random": make_projections(40, length=3),
    "collapsed": torch.ones(40, 3),
    "opposite": torch.tensor([1.0, -1.0]).repeat(20)[:, None] * torch.ones(3),
    "zero": torch.zeros(40, 3),
    "large": 1e4 * make_projections(40, length=3),
    "tiny": 1e-6 * make_projections(40, length=3),
}


@pytest.mark.parametrize("hardness", [0.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_logits_give_finite_losses_and_gradients(name, dtype, hardness):
    projections, labels = EXTREMES[name].to(dtype), torch.arange(20) // 2
    loss = ours(labels.repeat(2), hardness=hardness)
    # The logits, times 1 + hardness, are at most 9000; the rounding errors of their sums in float32 are below 5e-3.
    value, *gradients = differentiate(loss, projections, 0.001)
    exact, *exact_gradients = differentiate(loss, projections.double(), 0.001)
    for gradient, expected in zip(gradients, exact_gradients, strict=True):
        # float16 ends at 65504; the gradient by a tiny projection is larger.
        assert torch.isfinite(gradient[torch.isfinite(expected.to(gradient.dtype))]).all()
        assert not torch.isnan(gradient).any()
    assert float(value) == pytest.approx(float(exact), rel=1e-5, abs=5e-3)


def test_half_precision_and_autocast_do_not_change_how_the_loss_is_computed():
    projections, labels = make_projections(64, dtype=torch.bfloat16), torch.arange(16).repeat(4)
    loss = ours(labels, hardness=1.0)
    value, by_projection, by_temperature = differentiate(loss, projections, 0.1)
    expected, expected_by_projection, expected_by_temperature = differentiate(loss, projections.float(), 0.1)
    assert value == expected
    assert by_temperature == expected_by_temperature
    # The gradient itself is rounded to the eight bits of bfloat16.
    torch.testing.assert_close(by_projection.float(), expected_by_projection, rtol=2**-8, atol=1e-8)
    with torch.autocast("cpu", torch.bfloat16):
        again = differentiate(loss, projections.float(), 0.1)
    assert_equal(again, (expected, expected_by_projection, expected_by_temperature), rtol=0, atol=0)


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0], [0, 0, 0], [0, 1, 2, 3]])
def test_a_batch_without_positives_or_without_negatives_has_loss_0_and_gradient_0(labels):
    labels = torch.tensor(labels)
    value, by_projection, by_temperature = differentiate(ours(labels), make_projections(len(labels)), 0.2)
    assert value == 0
    assert not by_projection.any()
    assert by_temperature == 0


def test_a_crop_without_a_positive_repels_the_others_but_does_not_count_in_the_mean():
    projections, labels = make_projections(5), torch.tensor([0, 0, 1, 1, 2])
    loss = contrastive_loss(projections, labels, 0.5)
    assert float(loss) == pytest.approx(float(SupConLoss(temperature=0.5)(projections, labels)), rel=1e-12)
    without = contrastive_loss(projections[:4], labels[:4], 0.5)
    assert loss > without


def test_a_projection_that_is_not_a_number_gives_a_loss_that_is_not_a_number():
    projections, labels = make_projections(8), torch.arange(4).repeat(2)
    projections[3, 0] = float("nan")
    assert torch.isnan(contrastive_loss(projections, labels, 0.5))


def run_ranks(n_ranks, function):
    """Call a function of (rank, gather) in a thread for each rank, and return the results."""
    barrier, parts = threading.Barrier(n_ranks, timeout=600), {}

    def gather(rank, tensor):
        parts[rank] = tensor
        barrier.wait()
        gathered = torch.stack([parts[other] for other in range(n_ranks)])
        barrier.wait()
        return gathered

    with ThreadPoolExecutor(n_ranks) as pool:
        return list(pool.map(lambda rank: function(rank, partial(gather, rank)), range(n_ranks)))


def average_over_ranks(n_ranks, projections, labels, temperature, hardness):
    """Return the losses of the ranks, and the gradients of all projections and of the temperature, averaged."""

    def step(rank, gather):
        own = slice(rank * len(labels) // n_ranks, (rank + 1) * len(labels) // n_ranks)
        loss = ours(labels[own], hardness=hardness, gather=gather, rank=rank)
        return differentiate(loss, projections[own], temperature)

    losses, by_projection, by_temperature = zip(*run_ranks(n_ranks, step), strict=True)
    # Each projection depends on the parameters of one rank, and DDP averages over all.
    return torch.stack(losses), torch.cat(by_projection) / n_ranks, torch.stack(by_temperature).mean()


@pytest.mark.parametrize("n_ranks", [1, 2, 4, 8])
@given(seed=st.integers(0, 99), hardness=st.sampled_from([0.0, 1.0]), n_labels=st.integers(1, 40))
@settings(DRAWS, max_examples=15)
def test_ranks_that_share_a_batch_have_the_loss_and_gradient_of_one_rank(n_ranks, seed, hardness, n_labels):
    labels = torch.randint(n_labels, (32,), generator=torch.Generator().manual_seed(seed))
    projections = make_projections(32, seed)
    losses, *gradients = average_over_ranks(n_ranks, projections, labels, 0.3, hardness)
    assert (losses == losses[0]).all()
    assert_equal((losses[0], *gradients), differentiate(ours(labels, hardness=hardness), projections, 0.3))


@pytest.mark.parametrize("size", [1, 7, 40, 41, 400, 2000])
def test_the_size_of_the_blocks_does_not_matter(monkeypatch, size):
    projections, labels = make_projections(40), torch.arange(10).repeat(4)
    expected = differentiate(naive(labels, 1.0), projections, 0.3)
    monkeypatch.setattr(module, "_BLOCK", size)
    assert_equal(differentiate(ours(labels, hardness=1.0), projections, 0.3), expected)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return result


@pytest.mark.parametrize("n_ranks", [1, 4, 16])
def test_no_tensor_is_larger_than_a_block_or_the_projections_of_all_ranks(monkeypatch, n_ranks):
    n_own, length = 64, 6
    monkeypatch.setattr(module, "_BLOCK", 2048)
    others = make_projections(n_own * n_ranks, length=length).view(n_ranks, n_own, length)

    def gather(tensor):
        return others if tensor.shape == others.shape[1:] else tensor[None].expand(n_ranks, *tensor.shape)

    recorder = LargestTensor()
    with recorder:
        differentiate(ours(torch.arange(32).repeat(2), gather=gather, rank=1 % n_ranks), others[1 % n_ranks], 0.2)
    assert recorder.largest <= max(2048, n_own * n_ranks * length)
    assert recorder.largest < n_own * n_own * n_ranks


def step_of_rank(rank, n_ranks):
    """Return the loss of a rank and the averaged gradients of a linear layer and of the temperature, by precision."""
    return {dtype: _step_of_rank(rank, n_ranks, dtype) for dtype in (torch.float64, torch.float32)}


def _step_of_rank(rank, n_ranks, dtype):
    import torch.distributed as dist

    def gather(tensor):
        parts = [torch.empty_like(tensor) for _ in range(n_ranks)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    own = slice(rank * 48 // n_ranks, (rank + 1) * 48 // n_ranks)
    weights = make_projections(6, seed=1, dtype=dtype).requires_grad_()
    temperature = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    labels = (torch.arange(48) * 7 % 11)[own]
    crops = make_projections(48, seed=2, dtype=dtype)[own]
    options = {"gather": gather, "rank": rank} if n_ranks > 1 else {}
    loss = contrastive_loss(crops @ weights, labels, temperature, 0.5, **options)
    loss.backward()
    for gradient in (weights.grad, temperature.grad) if n_ranks > 1 else ():
        dist.all_reduce(gradient)
    return float(loss.detach()), (weights.grad / n_ranks).numpy(), float(temperature.grad) / n_ranks


@pytest.mark.slow
def test_processes_that_share_a_batch_have_the_loss_and_gradient_of_one_process():
    expected = _step_of_rank(0, 1, torch.float64)
    for steps in spawn_ranks(step_of_rank, 4, deadline=1800):
        for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            loss, by_weight, by_temperature = steps[dtype]
            assert loss == pytest.approx(expected[0], rel=rtol)
            np.testing.assert_allclose(by_weight, expected[1], rtol=0, atol=rtol * np.abs(expected[1]).max())
            assert by_temperature == pytest.approx(expected[2], rel=rtol)
