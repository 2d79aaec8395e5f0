"""The train step beside a PyTorch twin and beside the matrix products it cannot do without.

    python benchmarks/train_step.py [--repeats 9] [--plan tiny]

The plan `small` with a vocabulary of 128 rows, no dropout and unrolled layers: 10.7M parameters (6 layers x
384 x 6 heads), 256 tokens, batch 16, AdamW. `--plan tiny` is that of the plan, Muon and 1,088 rows, and has
no twin. The twin is the same network, loss and update in plain PyTorch (left out without the extra
`torch-twin`): eager, its fused attention without a segment mask, its fused AdamW, and no weight average,
which ours has.

All candidates take turns, so that other load hits all alike: trust the ratios, which are medians (least to
greatest) of the rounds. A second figure compares processor seconds of all threads, which other processes
disturb less (waiting threads of PyTorch spin, and count). The ceiling is the time of the step's products
alone, operands ready, each as fast as XLA has it: float32, and bfloat16 accumulated in float32. Input and
logging are what train.py does for a step: the next batch, and a line of metrics every `log_every` steps.
All have what launch.py has, a malloc with huge pages; `GLIBC_TUNABLES= python ...` measures without.
"""

import argparse
import dataclasses
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mdlm_jax.ui import cli

if __name__ == "__main__":  # before imports that take their time; GLIBC_TUNABLES= goes without
    cli.huge_pages()

import jax
import jax.numpy as jnp
import numpy as np

from configs import three_stage
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.data import RowSource, StageData
from mdlm_jax.diffusion import Density, capacity
from mdlm_jax.evaluation.estimate import count_parameters, flops_per_token
from mdlm_jax.model import ffn_width
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import Guard, TrainState, forbidden_rows, init_params, make_loss, make_train_step
from mdlm_jax.ui.metrics import MetricLog

SPECIAL = {"pad": 0, "mask": 1, "eos": 2}
ROWS = {"small": 128, "tiny": 1088}  # of vocabulary: characters; what `tiny` has on the built-in book


def plan(name: str, precision: str) -> Config:
    """The complete configuration of a preset, as it runs on a CPU at full speed."""
    values = three_stage.get_config(name)
    values.precision, values.batch_size, values.micro_batch = precision, 16, 16
    values.model.update(layers="unroll", remat="none", dropout=0.0)
    config = resolve(values)
    exact = {"vocab_rows": ROWS[name], "bf16_products": precision == "bf16_products"}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **exact))


def stage_data(config: Config, batches: int) -> StageData:
    """Full windows of random tokens."""
    length, rng = config.model.seq_len, np.random.default_rng(0)
    rows = rng.integers(3, config.model.vocab_rows, (batches * config.batch_size, length - 1))
    return StageData(RowSource([[row] for row in rows], length, SPECIAL), config.batch_size)


def ours(config: Config, batches: Iterator[dict[str, np.ndarray]]) -> Callable[[], None]:
    """One step of train.py, compiled."""
    forbidden = forbidden_rows(config.model, config.model.vocab_rows, SPECIAL)
    loss_fn = make_loss(config, forbidden, SPECIAL["mask"], Density(), 1)
    optimizer = make_optimizer(config.optimizer, 1000)
    train_step = make_train_step(loss_fn, optimizer, config.optimizer.ema_decay, config.micro_batch, 0)
    params = init_params(config.model, 0)
    ema, key = jax.tree.map(jnp.array, params), jax.random.key_data(jax.random.key(0))
    guard = jax.tree.map(jnp.asarray, Guard())
    state = [TrainState(jnp.int32(0), params, ema, jax.jit(optimizer.init)(params), key, guard)]
    compiled = jax.jit(train_step, donate_argnums=0)

    def step() -> None:
        state[0], metrics = compiled(state[0], next(batches))
        assert np.isfinite(float(metrics["loss"]))

    return step


def twin(config: Config, batches: Iterator[dict[str, np.ndarray]], autocast: bool) -> Callable[[], None]:
    """The same step in eager PyTorch, float32 or under bfloat16 autocast."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    c, f = config.model, ffn_width(config.model.d_model)
    width = c.d_model // c.num_heads
    angle = torch.arange(c.seq_len)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def rotate(x: torch.Tensor) -> torch.Tensor:
        a, b = x.float().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(c.d_model), nn.RMSNorm(c.d_model)
            self.q_norm, self.k_norm = nn.RMSNorm(width), nn.RMSNorm(width)
            self.qkv = nn.Linear(c.d_model, 3 * c.d_model, bias=False)
            self.out = nn.Linear(c.d_model, c.d_model, bias=False)
            self.gate_up = nn.Linear(c.d_model, 2 * f, bias=False)
            self.down = nn.Linear(f, c.d_model, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, c.num_heads, width).unbind(2)
            q, k = rotate(self.q_norm(q.float())), rotate(self.k_norm(k.float()))
            q, k, v = (z.to(v.dtype).transpose(1, 2) for z in (q, k, v))
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            x = x + self.out(attended.reshape(x.shape))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    torch.manual_seed(0)
    embed, norm = nn.Embedding(c.vocab_rows, c.d_model), nn.RMSNorm(c.d_model)
    blocks = nn.ModuleList([Block() for _ in range(c.num_layers)])
    with torch.no_grad():
        embed.weight.mul_(c.d_model**-0.5)
        for block in blocks:
            block.out.weight.zero_(), block.down.weight.zero_()
    weights = [*embed.parameters(), *blocks.parameters(), *norm.parameters()]
    assert sum(w.numel() for w in weights) == count_parameters(c)["true"]
    adamw = torch.optim.AdamW(weights, config.optimizer.learning_rate, weight_decay=0.1, fused=True)

    def step() -> None:
        batch = {name: torch.from_numpy(x) for name, x in next(batches).items()}
        tokens, scored = batch["tokens"].long(), batch["scored"]
        rows, n = tokens.shape[0], scored.sum(1, keepdim=True)
        rate = (torch.randperm(rows)[:, None] + torch.rand(rows, 1)) / rows  # stratified, as ours
        k = (n * rate).ceil().clamp(min=1)
        rank = torch.rand(tokens.shape).masked_fill(~scored, 2.0).argsort(1).argsort(1)
        masked = rank < k
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            x = embed(tokens.masked_fill(masked, SPECIAL["mask"])) * c.d_model**0.5
            for block in blocks:
                x = block(x)
            logits = F.linear(norm(x)[masked], embed.weight).float()
            nats = F.cross_entropy(logits, tokens[masked], reduction="none")
            loss = (nats * (n / k).expand_as(tokens)[masked]).sum() / n.sum()
        adamw.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, config.optimizer.clip_norm)
        adamw.step()
        assert np.isfinite(loss.item())

    return step


def products(config: Config) -> list[tuple[int, tuple[int, ...]]]:
    """(how often, (batch, rows, contracted, columns)) of the step's products, forward and backward."""
    c, f, n = config.model, ffn_width(config.model.d_model), config.batch_size * config.model.seq_len
    tokens = config.batch_size * (c.seq_len - 1)
    masked = capacity(tokens, c.seq_len - 1, config.batch_size, Density())
    weights = [(c.num_layers, n, c.d_model, 3 * c.d_model), (c.num_layers, n, c.d_model, c.d_model)]
    weights += [(c.num_layers, n, c.d_model, 2 * f), (c.num_layers, n, f, c.d_model)]
    found = []
    for times, rows, i, o in [*weights, (1, masked, c.d_model, c.vocab_rows)]:
        found += [(times, (1, rows, i, o)), (times, (1, rows, o, i)), (times, (1, i, rows, o))]
    heads, width = config.batch_size * c.num_heads, c.d_model // c.num_heads
    scores, mixes = (heads, c.seq_len, width, c.seq_len), (heads, c.seq_len, c.seq_len, width)
    return [*found, (2 * c.num_layers, scores), (4 * c.num_layers, mixes)]


def ceiling(config: Config, kind: Any) -> Callable[[], float]:
    """Runs each different product once; returns the seconds of all of them together."""
    rng, made = np.random.default_rng(0), []
    for times, (batch, rows, i, o) in products(config):
        shapes = ((batch, rows, i), (batch, i, o)) if batch > 1 else ((rows, i), (i, o))
        operands = [jnp.asarray(rng.normal(size=shape), kind) for shape in shapes]
        axes = ((2,), (1,)), ((0,), (0,))
        dimensions = axes if batch > 1 else (((1,), (0,)), ((), ()))
        product = jax.jit(
            lambda a, b, d=dimensions: jax.lax.dot_general(a, b, d, preferred_element_type=jnp.float32)
        )
        made.append((times, product.lower(*operands).compile(), operands))

    def run() -> float:
        total = 0.0
        for times, product, operands in made:
            begun = time.perf_counter()
            product(*operands).block_until_ready()
            total += times * (time.perf_counter() - begun)
        return total

    return run


def square() -> Callable[[], None]:
    """A float32 product of 1024^3, what `measured_flops` takes the best of."""
    x, product = jax.random.normal(jax.random.key(0), (1024, 1024)), jax.jit(jnp.matmul)
    return lambda: product(x, x).block_until_ready()


def rounds(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds, of the clock and of all the process's threads, of `repeats` turns after one that warms up.

    Work that returns a number is taken at its word for the clock.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, run in work.items():
            clock, used = time.perf_counter(), time.process_time()
            told = run()
            took = time.perf_counter() - clock
            if turn:
                found[name].append((told if isinstance(told, float) else took, time.process_time() - used))
    return found


def spread(values: list[float], form: str = ".2f") -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--plan", choices=sorted(ROWS), default="small")
    a = parser.parse_args()
    plans = {name: plan(a.plan, precision) for name, precision in
             (("ours, float32", "float32"), ("ours, bf16 products", "bf16_products"))}  # fmt: skip
    config = plans["ours, float32"]
    data = stage_data(config, 4 * (a.repeats + 1))
    batches = data.batches()
    work: dict[str, Callable[[], Any]] = {name: ours(c, batches) for name, c in plans.items()}
    there = importlib.util.find_spec("torch") is not None and a.plan == "small"
    twins = ["torch, float32", "torch, bf16 autocast"] if there else []
    for name in twins:
        work[name] = twin(config, batches, "bf16" in name)
    work["products, float32"] = ceiling(config, jnp.float32)
    work["products, bf16"] = ceiling(config, jnp.bfloat16)
    work["float32 1024^3"] = square()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        log = MetricLog(Path(directory), lambda text: None)
        source = data.batches()
        work["next batch"] = lambda: next(source)
        line = {f"scalar_{i}": 0.5 for i in range(10)}
        work["log line"] = lambda: log.write("train", 0, 1, 1, line)
        seconds = rounds(work, a.repeats)
        log.close()
    report(config, seconds, twins)


def report(config: Config, seconds: dict[str, list[tuple[float, float]]], twins: list[str]) -> None:
    """The tables; `seconds` as from `rounds`."""

    def ratios(a: str, b: str, column: int = 0) -> list[float]:
        return [x[column] / y[column] for x, y in zip(seconds[a], seconds[b], strict=True)]

    c, tokens = config.model, config.batch_size * config.model.seq_len
    masked = capacity(tokens - config.batch_size, c.seq_len - 1, config.batch_size, Density())
    flops = tokens * flops_per_token(c, masked / tokens)
    size = f"{count_parameters(c)['true'] / 1e6:.1f}M parameters, {config.batch_size} x {c.seq_len} tokens"
    print(f"{size}, {flops / 1e9:.1f} GFLOP a step, {os.cpu_count()} cores\n")
    print("| | ms | processor ms |\n|---|---|---|")
    for name, found in seconds.items():
        digits = ".0f" if found[0][0] > 0.02 else ".2f"
        columns = [spread([1000 * x[i] for x in found], digits) for i in (0, 1)]
        print(f"| {name} | {columns[0]} | {columns[1]} |")
    print("\n| times as fast (processor time) |" + "".join(f" {name} |" for name in twins), end="")
    print(" share of the products, float32 | of the products, bf16 | of 1024^3 |")
    print("|---|" + "---|" * (len(twins) + 3))
    for name in ("ours, float32", "ours, bf16 products", *twins):
        cells = [f"{spread(ratios(t, name))} ({statistics.median(ratios(t, name, 1)):.2f})" for t in twins]
        cells += [spread(ratios(f"products, {kind}", name)) for kind in ("float32", "bf16")]
        cells.append(spread([x * flops / (2 * 1024**3) for x in ratios("float32 1024^3", name)]))
        print(f"| {name} | " + " | ".join(cells) + " |")
    for name, times in (("next batch", 1.0), ("log line", 1 / config.log_every)):
        share = [100 * times * x for x in ratios(name, "ours, bf16 products")]
        print(f"\n{name}: {spread(share, '.3f')} % of our faster step")


if __name__ == "__main__":
    main()
