"""CUDA's autocast on a CPU, op by op: against the lists, against native half arithmetic, and as a training sees it.

Not run on a GPU. Each test runs in a process of its own, so that what is registered dies with it.
"""

from __future__ import annotations

import textwrap

import pytest
import torch

from mpaudit.runtime.child.emulate import BANNED, BY_ARGUMENT, FLOAT32, LOWER, PROMOTE, policy
from tests.runtime.child import zygote

HEADER = """
import torch, torch.nn as nn, torch.nn.functional as F
from mpaudit.runtime.child import emulate
from mpaudit.runtime.child.patches import Patches
held = emulate.install(Patches())
torch.manual_seed(0)
LOW = torch.{dtype}
def amp(enabled=True): return torch.autocast("cpu", LOW, enabled=enabled)
def t(*shape, dtype=torch.float32, low=0.2, high=0.8): return torch.empty(shape).uniform_(low, high).to(dtype)
"""


def check(body: str, dtype: str = "float16") -> None:
    done = zygote.run(HEADER.format(dtype=dtype) + textwrap.dedent(body))
    assert done.code == 0, done.stderr


LISTED = sorted(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))


def test_every_op_that_the_running_torch_lists_is_in_a_list_here() -> None:
    assert LISTED and [name for name in LISTED if policy(name) is None] == []


def test_the_lists_do_not_overlap() -> None:
    lists = (LOWER, BY_ARGUMENT, PROMOTE, BANNED, FLOAT32)
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


# by overload as the dispatcher names it; `d` is the dtype of the inputs
LOWER_CALLS = {
    "conv1d": "F.conv1d(t(1, 2, 5, dtype=d), t(3, 2, 2, dtype=d))",
    "conv2d": "F.conv2d(t(1, 2, 5, 5, dtype=d), t(3, 2, 2, 2, dtype=d), t(3, dtype=d))",
    "conv3d": "F.conv3d(t(1, 2, 4, 4, 4, dtype=d), t(3, 2, 2, 2, 2, dtype=d))",
    "convolution": "torch.convolution(t(1, 2, 5, dtype=d), t(3, 2, 2, dtype=d), None, [1], [0], [1], False, [0], 1)",
    "conv_tbc": "torch.conv_tbc(t(5, 1, 2, dtype=d), t(2, 2, 3, dtype=d), t(3, dtype=d), 0)",
    "conv_transpose1d": "F.conv_transpose1d(t(1, 2, 5, dtype=d), t(2, 3, 2, dtype=d))",
    "conv_transpose2d.input": "F.conv_transpose2d(t(1, 2, 5, 5, dtype=d), t(2, 3, 2, 2, dtype=d))",
    "conv_transpose3d.input": "F.conv_transpose3d(t(1, 2, 4, 4, 4, dtype=d), t(2, 3, 2, 2, 2, dtype=d))",
    "prelu": "F.prelu(t(2, 3, dtype=d), t(1, dtype=d))",
    "addmm": "torch.addmm(t(3, dtype=d), t(2, 4, dtype=d), t(4, 3, dtype=d))",
    "addmv": "torch.addmv(t(2, dtype=d), t(2, 4, dtype=d), t(4, dtype=d))",
    "addr": "torch.addr(t(2, 3, dtype=d), t(2, dtype=d), t(3, dtype=d))",
    "matmul": "t(2, 3, 4, dtype=d) @ t(4, 2, dtype=d)",
    "einsum": "torch.einsum('ij,jk->ik', t(2, 3, dtype=d), t(3, 4, dtype=d))",
    "mm": "torch.mm(t(2, 3, dtype=d), t(3, 4, dtype=d))",
    "mv": "torch.mv(t(2, 3, dtype=d), t(3, dtype=d))",
    "linalg_vecdot": "torch.linalg.vecdot(t(2, 3, dtype=d), t(2, 3, dtype=d))",
    "linear": "F.linear(t(2, 3, dtype=d), t(4, 3, dtype=d), t(4, dtype=d))",
    "addbmm": "torch.addbmm(t(2, 3, dtype=d), t(4, 2, 5, dtype=d), t(4, 5, 3, dtype=d))",
    "baddbmm": "torch.baddbmm(t(4, 2, 3, dtype=d), t(4, 2, 5, dtype=d), t(4, 5, 3, dtype=d))",
    "bmm": "torch.bmm(t(4, 2, 5, dtype=d), t(4, 5, 3, dtype=d))",
    "chain_matmul": "torch.ops.aten.chain_matmul([t(2, 3, dtype=d), t(3, 4, dtype=d), t(4, 2, dtype=d)])",
    "linalg_multi_dot": "torch.linalg.multi_dot([t(2, 3, dtype=d), t(3, 4, dtype=d), t(4, 2, dtype=d)])",
    "lstm_cell": "torch.lstm_cell(t(2, 3, dtype=d), [t(2, 4, dtype=d)] * 2, t(16, 3, dtype=d), t(16, 4, dtype=d))[0]",
    "gru_cell": "torch.gru_cell(t(2, 3, dtype=d), t(2, 4, dtype=d), t(12, 3, dtype=d), t(12, 4, dtype=d))",
    "rnn_tanh_cell": "torch.rnn_tanh_cell(t(2, 3, dtype=d), t(2, 4, dtype=d), t(4, 3, dtype=d), t(4, 4, dtype=d))",
    "rnn_relu_cell": "torch.rnn_relu_cell(t(2, 3, dtype=d), t(2, 4, dtype=d), t(4, 3, dtype=d), t(4, 4, dtype=d))",
    "scaled_dot_product_attention": "F.scaled_dot_product_attention(*(t(1, 2, 3, 4, dtype=d) for _ in range(3)))",
}
FLOAT32_CALLS = {
    **{n: f"torch.{n}(t(2, 3, dtype=d))" for n in "acos asin cosh erfinv exp expm1 log log10 log2 log1p".split()},  # noqa: SIM905
    **{n: f"torch.{n}(t(2, 3, dtype=d))" for n in ("reciprocal", "rsqrt", "sinh", "tan")},
    "pow.Tensor_Scalar": "t(2, 3, dtype=d) ** 2",
    "pow.Scalar": "2.0 ** t(2, 3, dtype=d)",
    "pow.Tensor_Tensor": "t(2, 3, dtype=d) ** t(2, 3, dtype=d)",
    "softplus": "F.softplus(t(2, 3, dtype=d))",
    "layer_norm": "F.layer_norm(t(2, 3, dtype=d), (3,), t(3, dtype=d), t(3, dtype=d))",
    "native_layer_norm": "torch.native_layer_norm(t(2, 3, dtype=d), (3,), None, None, 1e-5)[0]",
    "rms_norm": "F.rms_norm(t(2, 3, dtype=d), (3,))",
    "group_norm": "F.group_norm(t(2, 4, 3, dtype=d), 2)",
    "frobenius_norm.dim": "torch.ops.aten.frobenius_norm.dim(t(2, 3, dtype=d), [1])",
    "nuclear_norm": "torch.ops.aten.nuclear_norm(t(2, 3, dtype=d))",
    "cosine_similarity": "F.cosine_similarity(t(2, 3, dtype=d), t(2, 3, dtype=d))",
    "poisson_nll_loss": "F.poisson_nll_loss(t(2, dtype=d), t(2, dtype=d))",
    "cosine_embedding_loss": "F.cosine_embedding_loss(t(2, 3, dtype=d), t(2, 3, dtype=d), torch.ones(2))",
    "nll_loss": "F.nll_loss(t(2, 3, dtype=d), torch.tensor([0, 1]))",
    "nll_loss2d": "F.nll_loss(t(1, 3, 2, 2, dtype=d), torch.zeros(1, 2, 2, dtype=torch.long))",
    "hinge_embedding_loss": "F.hinge_embedding_loss(t(2, dtype=d), torch.ones(2))",
    "kl_div": "F.kl_div(t(2, 3, dtype=d), t(2, 3, dtype=d), reduction='batchmean')",
    **{n: f"F.{n}(t(2, dtype=d), t(2, dtype=d))" for n in ("l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss")},
    "margin_ranking_loss": "F.margin_ranking_loss(t(2, dtype=d), t(2, dtype=d), torch.ones(2))",
    "multilabel_margin_loss": "F.multilabel_margin_loss(t(3, dtype=d), torch.tensor([0, -1, -1]))",
    "soft_margin_loss": "F.soft_margin_loss(t(2, dtype=d), torch.ones(2))",
    "triplet_margin_loss": "F.triplet_margin_loss(t(2, 3, dtype=d), t(2, 3, dtype=d), t(2, 3, dtype=d))",
    "multi_margin_loss": "F.multi_margin_loss(t(2, 3, dtype=d), torch.tensor([0, 1]))",
    "binary_cross_entropy_with_logits": "F.binary_cross_entropy_with_logits(t(2, dtype=d), t(2, dtype=d))",
    "dist": "torch.dist(t(3, dtype=d), t(3, dtype=d))",
    "pdist": "F.pdist(t(3, 2, dtype=d))",
    "cdist": "torch.cdist(t(3, 2, dtype=d), t(3, 2, dtype=d))",
    "renorm": "torch.renorm(t(3, 2, dtype=d), 2, 0, 1.0)",
    "logsumexp": "torch.logsumexp(t(3, 2, dtype=d), 1)",
    "upsample_nearest1d": "F.interpolate(t(1, 2, 3, dtype=d), scale_factor=2)",
    "upsample_nearest2d": "F.interpolate(t(1, 2, 3, 3, dtype=d), scale_factor=2)",
    "upsample_bilinear2d": "F.interpolate(t(1, 2, 3, 3, dtype=d), scale_factor=2, mode='bilinear')",
    "upsample_bicubic2d": "F.interpolate(t(1, 2, 3, 3, dtype=d), scale_factor=2, mode='bicubic')",
    "prod": "t(3, dtype=d).prod()",
    "prod.dim_int": "t(3, 2, dtype=d).prod(1)",
    "softmax.int": "F.softmax(t(3, 2, dtype=d), 1)",
    "log_softmax.int": "F.log_softmax(t(3, 2, dtype=d), 1)",
    "cumprod": "t(3, 2, dtype=d).cumprod(1)",
    "cumsum": "t(3, 2, dtype=d).cumsum(1)",
    "linalg_vector_norm": "torch.linalg.vector_norm(t(3, dtype=d))",
    "linalg_matrix_norm": "torch.linalg.matrix_norm(t(3, 2, dtype=d))",
    "sum": "t(3, dtype=d).sum()",
    "sum.dim_IntList": "t(3, 2, dtype=d).sum(1)",
    "norm.Scalar": "torch.ops.aten.norm.Scalar(t(3, dtype=d))",
    "norm.ScalarOpt_dim": "torch.ops.aten.norm.ScalarOpt_dim(t(3, 2, dtype=d), 2, [1])",
}
PROMOTE_CALLS = {
    "addcdiv": "torch.addcdiv(t(3, dtype=d), t(3, dtype=e), t(3, dtype=d))",
    "addcmul": "torch.addcmul(t(3, dtype=d), t(3, dtype=e), t(3, dtype=d))",
    "atan2": "torch.atan2(t(3, dtype=d), t(3, dtype=e))",
    "bilinear": "F.bilinear(t(2, 3, dtype=d), t(2, 4, dtype=e), t(5, 3, 4, dtype=d))",
    "cross": "torch.cross(t(2, 3, dtype=d), t(2, 3, dtype=e), dim=1)",
    "dot": "torch.dot(t(3, dtype=d), t(3, dtype=e))",
    "vdot": "torch.vdot(t(3, dtype=d), t(3, dtype=e))",
    "grid_sampler": "F.grid_sample(t(1, 1, 3, 3, dtype=d), t(1, 2, 2, 2, dtype=e), align_corners=False)",
    "index_put": "t(3, dtype=d).index_put((torch.tensor([0]),), t(1, dtype=e))",
    "tensordot": "torch.tensordot(t(2, 3, dtype=d), t(3, 2, dtype=e), 1)",
    "scatter_add": "t(3, dtype=d).scatter_add(0, torch.tensor([0]), t(1, dtype=e))",
}
UNLISTED_CALLS = {
    **{
        n: f"{m}.{n}(t(2, 3, dtype=d))"
        for m, names in (
            ("torch", ("sigmoid", "tanh", "relu", "sqrt", "sin", "atan", "erf", "abs", "std", "var", "mean", "median")),
            ("F", ("gelu", "silu", "logsigmoid")),
        )
        for n in names
    },
    "mul": "t(3, dtype=d) * t(3, dtype=d)",
    "div": "t(3, dtype=d) / t(3, dtype=d)",
    "clamp": "t(3, dtype=d).clamp(0, 1)",
    "dropout": "F.dropout(t(3, dtype=d))",
    "batch_norm": "F.batch_norm(t(2, 3, dtype=d), torch.zeros(3), torch.ones(3), training=True)",
    # CPU autocast has these in its float32 list
    "avg_pool3d": "F.avg_pool3d(t(1, 1, 4, 4, 4, dtype=d), 2)",
    "reflection_pad1d": "F.pad(t(1, 1, 4, dtype=d), (1, 1), mode='reflect')",
    "trace": "torch.trace(t(3, 3, dtype=d))",
    "max_pool3d": "F.max_pool3d(t(1, 1, 4, 4, 4, dtype=d), 2)",
    "replication_pad1d": "F.pad(t(1, 1, 4, dtype=d), (1, 1), mode='replicate')",
    "cat": "torch.cat([t(2, dtype=d), t(2, dtype=d)])",
}
NOT_CALLED = {  # what a CPU has no kernel for, and second names of ops that are called
    *("_convolution", "_convolution.deprecated", "cudnn_convolution", "cudnn_convolution_transpose"),
    *("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_scaled_dot_product_flash_attention"),
    *("nuclear_norm.dim", "linalg_matrix_norm.str_ord", "upsample_linear1d", "upsample_nearest3d"),
    *("upsample_trilinear3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "binary_cross_entropy"),
}


def test_every_listed_op_is_called_or_named_as_not_called() -> None:
    called = {*LOWER_CALLS, *FLOAT32_CALLS, *PROMOTE_CALLS, *NOT_CALLED}
    assert {name.removeprefix("aten::") for name in LISTED} - called == set()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_each_op_has_the_dtype_that_the_lists_say(dtype: str) -> None:
    check(
        f"""
        wrong = []
        def with_dtypes(call, expected, d, e=None):
            globals().update(d=d, e=e)
            with amp():
                found = eval(call).dtype
            if found is not expected: wrong.append((call, d, e, found))
        for call in {list(LOWER_CALLS.values())!r}:
            with_dtypes(call, LOW, torch.float32); with_dtypes(call, LOW, LOW)
        for call in {list(FLOAT32_CALLS.values())!r}:
            with_dtypes(call, torch.float32, LOW); with_dtypes(call, torch.float32, torch.float32)
        for call in {list(PROMOTE_CALLS.values())!r}:
            with_dtypes(call, LOW, LOW, LOW)
            with_dtypes(call, torch.float32, LOW, torch.float32)
        for call in {list(UNLISTED_CALLS.values())!r}:
            with_dtypes(call, LOW, LOW); with_dtypes(call, torch.float32, torch.float32)
        assert not wrong, wrong
        """,
        dtype,
    )


def test_what_is_not_eligible_stays() -> None:
    check("""
        with amp():
            assert F.linear(t(2, 3).double(), t(4, 3).double()).dtype is torch.float64
            assert torch.exp(t(2).double()).dtype is torch.float64
            assert t(3).half().sum(dtype=torch.float16).dtype is torch.float16
            assert torch.arange(3).sum().dtype is torch.int64
            with amp(enabled=False):
                assert F.linear(t(2, 3), t(4, 3)).dtype is torch.float32
                assert F.softmax(t(2, 3).half(), 1).dtype is torch.float16
        assert F.linear(t(2, 3), t(4, 3)).dtype is torch.float32
    """)


def test_losses_that_cuda_bans_are_banned() -> None:
    check("""
        try:
            with amp(): F.binary_cross_entropy(t(2), t(2))
        except RuntimeError as error:
            assert "unsafe to autocast" in str(error)
        else:
            raise AssertionError
    """)


def test_cross_entropy_is_taken_apart_with_autocast_in_its_parts() -> None:
    check("""
        with amp():
            assert F.cross_entropy(t(2, 3), torch.tensor([0, 1])).dtype is torch.float32
    """)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("call", "inputs", "units"),
    [
        ("F.linear(*v)", "(3, 5), (4, 5), (4,)", 1),
        ("torch.bmm(*v)", "(2, 3, 5), (2, 5, 4)", 1),
        ("torch.addmm(*v)", "(4,), (3, 5), (5, 4)", 1),
        # the CPU's own half convolution rounds the parts of its gradients, too
        ("F.conv2d(*v)", "(2, 3, 5, 5), (4, 3, 3, 3), (4,)", 2),
    ],
)
def test_products_are_native_half_products_to_the_last_place(call: str, inputs: str, units: int, dtype: str) -> None:
    check(
        f"""
        def run(v, context):
            v = [one.clone().requires_grad_() for one in v]
            with context:
                y = {call}
            y.backward(torch.full_like(y, 0.3))
            return [y.detach(), *(one.grad for one in v)]
        shapes = [{inputs}]
        values = [torch.randn(shape).to(LOW) for shape in shapes]
        native = run(values, amp(enabled=False))
        emulated = run(values, amp())
        for a, b in zip(emulated, native, strict=True):
            assert a.dtype is b.dtype is LOW
            # a unit in the last place at the size of each value, and at the smallest sums that cancel
            unit = torch.finfo(LOW).eps * torch.maximum(b.float().abs(), 0.25 * b.float().abs().max())
            assert ((a.float() - b.float()).abs() <= {units} * unit).all(), (a, b)
        """,
        dtype,
    )


def test_a_product_that_overflows_float16_is_infinite_and_a_gradient_that_underflows_is_zero() -> None:
    check("""
        w = t(1, 4, low=1, high=1).mul(300).requires_grad_()
        with amp():
            assert F.linear(torch.full((1, 4), 300.0), w).isinf().all()
            y = F.linear(torch.full((1, 4), 1e-3), w)
        y.backward(torch.full_like(y, 1e-6))
        assert (w.grad == 0).all() and w.grad.dtype is torch.float32
    """)


def test_a_weight_used_twice_in_a_region_is_cast_once_and_its_gradients_add_up_in_half() -> None:
    check("""
        def gradient(regions):
            w = torch.full((1, 1), 1.0, requires_grad=True)
            total = 0
            for inputs in regions:
                with amp():
                    for x in inputs:
                        total = total + F.linear(torch.tensor([[x]]), w).float().sum()
            total.backward()
            return w.grad.item()
        assert gradient([(1.0, 2.0**-11)]) == 1.0
        assert gradient([(1.0,), (2.0**-11,)]) == 1.0 + 2.0**-11
    """)


def test_a_weight_that_was_first_used_without_gradients_gets_its_gradient() -> None:
    check("""
        w = torch.ones(1, 1, requires_grad=True)
        with amp():
            with torch.no_grad(): F.linear(torch.ones(1, 1), w)
            y = F.linear(torch.ones(1, 1), w)
        y.sum().backward()
        assert w.grad is not None
    """)


def test_weights_that_an_optimizer_moved_are_cast_anew() -> None:
    check("""
        layer = nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        seen = []
        for _ in range(3):
            with amp(): y = layer(torch.ones(1, 1))
            seen.append(y.item()); y.float().sum().backward(); optimizer.step(); optimizer.zero_grad()
        assert len(set(seen)) == 3
    """)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_models_train(dtype: str) -> None:
    check(
        """
        models = [
            (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(2, 5, 16)),
            (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(2, 3, 8, 8)),
            (nn.LSTM(4, 8, batch_first=True), torch.randn(2, 3, 4)),
            (nn.GRU(4, 8, batch_first=True), torch.randn(2, 3, 4)),
        ]
        for model, x in models:
            with amp():
                y = model(x)
                y = y[0] if isinstance(y, tuple) else y
                loss = F.mse_loss(y, torch.zeros_like(y))
            loss.backward()
            assert loss.dtype is torch.float32
            assert all(p.grad.dtype is torch.float32 and p.grad.isfinite().all() for p in model.parameters())
        """,
        dtype,
    )


def test_what_was_changed_is_named() -> None:
    check("""
        patches = Patches(); emulate.install(patches)
        assert any("AutocastCPU" in name for name in patches.names)
    """)
