"""What is judged of a stage: patience, what early ends leave, transitions, train lines."""

import math
import types

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import OPTIMIZER, config

from mdlm_jax.configuration import StageConfig
from mdlm_jax.diffusion import Density
from mdlm_jax.evaluation import judge
from mdlm_jax.train_state import Guard


def stage(patience: int = 0, anneal: bool = False, density: Density = Density()):  # noqa: B008
    made = StageConfig("refinement", 1, (0.1, 0.2), 0.5, "last", patience=patience, anneal=anneal)
    data = types.SimpleNamespace(num_steps=100, tokens=5000)
    return types.SimpleNamespace(
        index=1, config=made, data=data, density=density, directory="2_refinement", name="refinement"
    )


COUNTS = {"examples": 10, "tokens": 4000, "bytes": 9000}
DATASET = types.SimpleNamespace(counts=lambda *_: COUNTS)


@given(st.lists(st.integers(0, 5), min_size=10, max_size=10), st.integers(0, 4), st.booleans())
def test_patience_by_hand(figures: list[int], patience: int, last: bool):
    """A stage ends when the best is so many evaluations ago, and a last one delivers its best."""
    notes, known = judge.NO_NOTES, []
    for i, figure in enumerate(figures, 1):
        known.append(figure)
        notes = notes | {"latest": {"bits_per_byte": figure}}
        notes = judge.judged(stage(patience), 10 * i, last, notes)
        best = known.index(min(known)) + 1
        ended = patience > 0 and i - best >= patience and i < 10
        assert notes["best"] == {"bits_per_byte": min(known), "step": 10 * best}
        assert notes["ended"] == ended
        over = last and patience and (ended or i == 10) and best != i
        assert notes["chosen"] == (10 * best if over else None)
        if ended:
            break
    assert judge.NO_NOTES["best"] == {"step": -1}


def state(step: int, skipped: int = 0):
    return types.SimpleNamespace(step=step, guard=Guard()._replace(skipped=jnp.int32(skipped)))


def test_a_figure_that_is_no_number_is_never_the_best_for_long():
    notes = judge.NO_NOTES
    for step, figure in ((10, math.nan), (20, 3.0), (30, math.nan), (40, 2.0)):
        notes = judge.judged(stage(), step, False, notes | {"latest": {"bits_per_byte": figure}})
    assert (notes["best"]["step"], notes["stale"]) == (40, 0)


def test_what_a_stage_did_counts_its_own_steps():
    """Half a stage is half its tokens and FLOPs; its last rate leaves skipped steps out."""
    before = {"steps": 7, "tokens": 11, "flops": 13.0, "rate": 0.25}
    notes = judge.NO_NOTES | {"before": before}
    plan = config()  # a constant schedule: warm-up over 10 steps, then 0.5
    whole, half = (judge.passed(plan, 1e6, stage(), state(n), notes) for n in (100, 50))
    assert whole == {"steps": 107, "tokens": 5011, "flops": 1e6 + 13, "rate": pytest.approx(0.5)}
    assert (half["steps"], half["tokens"], half["flops"]) == (57, 2511, 5e5 + 13)
    early = judge.passed(plan, 1e6, stage(), state(6, skipped=2), notes)
    assert early["rate"] == pytest.approx(0.5 * 4 / 10)  # four steps of the warm-up
    annealed = judge.rates(plan, stage(anneal=True), notes)
    assert annealed(0) == pytest.approx(0.25) and annealed(9) == pytest.approx(0.5)
    assert annealed(-1) == annealed(0) > judge.rates(plan, stage(), notes)(0) == pytest.approx(0.05)


def test_the_lines_of_a_transition():
    notes = judge.NO_NOTES | {
        "before": judge.NO_NOTES["before"] | {"rate": 0.2},
        "entered": {"bits_per_byte_before": 3.0, "bits_per_byte_after": 3.1},
    }
    old = stage(density=Density(0.75, 0.9, 0.3))
    scalars, lines = judge.changes(config(), DATASET, old, stage(anneal=True), notes)
    assert scalars["mask_rate_before"] == [0.75, 0.9] and scalars["mask_rate_after"] == [0.0, 1.0]
    assert scalars["length_before"] == 400 and scalars["rate_before"] == pytest.approx(0.2 * 0.01)
    assert scalars["rate_after"] == pytest.approx(0.2 * 0.01) and scalars["rate_peak"] == 0.5 * 0.01
    assert "4,000 -> 4,000 tokens" in lines[0] and "0.75-0.9 -> 0-1" in lines[1]
    scalars, told = judge.settled(stage(), 50, notes, {"bits_per_byte": 2.5})
    assert list(scalars.values()) == [3.0, 3.1, 2.5] and "3.100 after it, 2.500 50 steps later" in told


def window(*losses: float) -> list:
    return [{"loss": jnp.float32(x), "clipped": jnp.float32(i), "taken": jnp.isfinite(x)}
            for i, x in enumerate(losses)]  # fmt: skip


def test_a_train_line_is_the_mean_of_the_steps_that_were_taken():
    plan, guard = config(), Guard()._replace(skipped=jnp.int32(3))

    def line(plan=plan, stage=stage(), losses=(1.0, math.nan, 3.0)):  # noqa: B008
        return judge.figures(plan, DATASET, stage, judge.NO_NOTES, 20, window(*losses), guard)

    found = line()
    assert (found["loss"], found["clipped"], found["skipped"]) == (2.0, 1.0, 3)
    assert found["learning_rate"] == pytest.approx(0.5 * 0.01) and found["tokens"] == 1000
    assert found["bits_per_byte"] == pytest.approx(2 / math.log(2) * 4000 / 9000)
    assert "loss_scale" not in found and line(config(precision="float16"))["loss_scale"] == 2**15
    assert math.isnan(line(losses=(math.nan,))["loss"])
    # What is no bound is not given in bits per byte.
    for other in (config(soft_masking=1.0), config(label_smoothing=0.1)):
        assert "bits_per_byte" not in line(other)
    assert "bits_per_byte" not in line(stage=stage(density=Density(0.1, 0.2, 0.3)))


def test_a_diagnosis_names_the_figures():
    metrics = {"loss": math.nan, "gradient_norm": math.inf, "parameter_norm": 12.34}
    told = judge.diagnosis(stage(), 9, metrics)
    assert told == "loss nan, gradient norm inf, parameter norm 12.3 at step 9 of 2_refinement"
    assert OPTIMIZER.schedule == "constant"
