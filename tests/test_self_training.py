"""Self-training: what takes the place of which rows, and a run with it that is stopped."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from conftest import indivisible
from hypothesis import given
from hypothesis import strategies as st
from test_train import arrays, last_checkpoints, light, small, written  # noqa: F401  (light is a fixture)

from configs import three_stage
from mdlm_jax import train
from mdlm_jax.configuration import resolve
from mdlm_jax.curriculum import plan
from mdlm_jax.data import RowSource, StageData, open_dataset
from mdlm_jax.self_training import mix, mixed
from mdlm_jax.ui import metrics

SPECIAL = {"pad": 0, "mask": 1, "sep": 2, "eos": 3}


@given(st.integers(1, 60), st.integers(0, 6), st.floats(0, 0.9), st.integers(1, 5), st.integers(0, 9))
def test_a_share_of_the_rows_is_replaced(number, passages, share, epochs, seed):
    rows = [[np.full(3, 10 + i)] for i in range(number)]
    found = [np.full(4, 1000 + i) for i in range(passages)]
    data = StageData(RowSource(rows, 8, SPECIAL), 2)
    mixed, count = mix(data, found, share, epochs, seed)
    assert count == min(round(share * number), epochs * passages)
    assert (len(mixed.source), mixed.num_steps) == (number, data.num_steps)
    firsts = [int(row[0][0]) for row in mixed.source.rows]
    times = Counter(first for first in firsts if first >= 1000)
    assert times.total() == count and max(times.values(), default=0) <= epochs
    assert max(times.values(), default=0) - min((times[1000 + i] for i in range(passages)), default=0) <= 1
    # The others stand where they stood, and the plan itself is as it was.
    assert all(first in (10 + i, *times) for i, first in enumerate(firsts))
    assert [int(row[0][0]) for row in data.source.rows] == [10 + i for i in range(number)]
    again, _ = mix(data, found, share, epochs, seed)
    assert [int(row[0][0]) for row in again.source.rows] == firsts


def test_it_is_said_why_the_others_were_refused(dataset_dir, tmp_path, monkeypatch):
    dataset, said = open_dataset(dataset_dir), []
    verdicts = {"kept": 6, "spare": 0, "too plain": 90, "too odd": 50, "copied": 16}
    info = dataset.info | {"verdicts": verdicts, "made": 162}
    made = dataclasses.replace(dataset, info=info)
    monkeypatch.setattr("mdlm_jax.self_training.shard", lambda *_: made)  # model-written: minutes
    config = small(three_stage)
    stage = plan(config, dataset)[0]
    config_of = dataclasses.replace(stage.config, self_training=0.1)
    _, counts = mixed(config, dataset, tmp_path, dataclasses.replace(stage, config=config_of), said.append)
    assert counts["too_odd"] == 50 and counts["made"] == 162
    [told] = said
    assert told.startswith("self-training: 6 of 162 passages")
    assert told.endswith("; the rest: 0 spare, 90 too plain, 50 too odd, 16 copied")


@indivisible
@pytest.mark.soak
def test_a_run_that_is_stopped_after_its_pseudo_examples_ends_the_same(
    light,  # noqa: F811
    dataset_dir,
    tmp_path,
    monkeypatch,
):
    config, shares = small(three_stage), (0.0, 0.5)
    staged = zip(resolve(three_stage.get_config("smoke")).stages[1:], shares, strict=True)
    stages = tuple(dataclasses.replace(s, num_epochs=2, self_training=share) for s, share in staged)
    config, dataset = (
        dataclasses.replace(config, stages=stages, checkpoint_every=4),
        open_dataset(dataset_dir),
    )
    whole = train.train_and_evaluate(config, dataset, tmp_path / "whole")
    [line] = [line for line in written(tmp_path / "whole") if line["kind"] == "self_training"]
    assert 0 < line["kept"] <= line["made"] and 0 < line["share"] <= 0.5 and line["step"] == 0

    write = metrics.MetricLog.write

    def end(self, kind, stage, step, *rest):
        write(self, kind, stage, step, *rest)
        if (kind, stage, step) in stops:
            stops.remove((kind, stage, step))
            raise KeyboardInterrupt

    # Right after the shard is whole, and in the middle of the stage.
    stops = [("self_training", 1, 0), ("train", 1, 10)]
    monkeypatch.setattr(metrics.MetricLog, "write", end)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train.train_and_evaluate(config, dataset, tmp_path / "run")
    assert train.train_and_evaluate(config, dataset, tmp_path / "run") == whole and not stops
    assert arrays(last_checkpoints(tmp_path / "run")[-1]) == arrays(last_checkpoints(tmp_path / "whole")[-1])
    shards = [(tmp_path / name / "self_training" / "2_refinement.array_record") for name in ("whole", "run")]
    assert shards[0].read_bytes() == shards[1].read_bytes()
