"""Prompts files and the outputs of a batch: a bad line is named, an output goes on or stays as it is."""

import pytest

from mdlm_jax.ui import modes
from mdlm_jax.ui.options import read_prompts, settings_of
from mdlm_jax.ui.values import UserError

JOBS = [{"prompt": p, "seed": i} for i, p in enumerate(("The tide", "é👧", "", "x" * 40))]
MARKS = {"model_hash": "cafe"}


def write(job) -> dict:
    return {"text": job["prompt"] * 3} | MARKS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("batch") / "whole"
    modes.batch(JOBS, path, write, MARKS)
    return path.read_bytes()


def test_a_batch_goes_on_wherever_it_was_cut(whole, tmp_path):
    assert whole.count(b"\n") == len(JOBS)
    path = tmp_path / "out.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        made = []
        modes.batch(JOBS, path, lambda job, made=made: (made.append(job), write(job))[1], MARKS)
        assert path.read_bytes() == whole
        assert made == JOBS[whole[:cut].count(b"\n") :]


FOREIGN = [
    b"dear diary",
    b"dear diary\n",
    b"{}\n",
    b"\n",
    b"3\n",
    b"[1]\n",
    b"\xff",
    b"\xff\n",
    b"{}",
    b"[" * 10**5,
]


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_an_output_of_other_things_stays_as_it_is(data, whole, tmp_path):
    path = tmp_path / "out.jsonl"
    for held in (data, whole + data, whole.splitlines(True)[0] + data):
        path.write_bytes(held)
        with pytest.raises(UserError, match="holds other things; name another --output"):
            modes.batch(JOBS, path, lambda job: pytest.fail("it was begun"), MARKS)
        assert path.read_bytes() == held


def test_an_output_of_other_jobs_or_weights_stays_as_it_is(whole, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole)
    other = [job | {"seed": job["seed"] + 1} for job in JOBS]
    for jobs, marks, told in (
        (JOBS[:-1], MARKS, "holds other things"),
        (JOBS[1:], MARKS, "holds text 1 with"),
        (other, MARKS, f"holds text 1 with seed {JOBS[0]['seed']}, not {JOBS[0]['seed'] + 1}"),
        (JOBS, {"model_hash": "beef"}, "holds text 1 with model_hash '.*', not 'beef'"),
    ):
        with pytest.raises(UserError, match=told):
            modes.batch(jobs, path, write, marks)
    assert path.read_bytes() == whole
    more = [*JOBS, {"prompt": "more", "seed": 9}]
    modes.batch(more, path, write, MARKS)
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == len(more)


def test_a_text_that_cannot_be_written_is_named(tmp_path):
    def fail(job) -> dict:
        if job["seed"] == 2:
            raise UserError("no room")
        return write(job)

    with pytest.raises(UserError, match=r"^text 3 of 4: no room$"):
        modes.batch(JOBS, tmp_path / "x", fail, MARKS)
    assert (tmp_path / "x").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "holds no prompts"),
        (b" \n\r\n\n", "holds no prompts"),
        (b"a\n\xff", "is not text in UTF-8"),
        (b"a\n{", "line 2: Expecting"),
        (b"a\n\nb\n{]", "line 4: Expecting"),
        (b'{"a": ' + b"[" * 10**5, "line 1: "),
        (b'{"temprature": 3}', "line 1: there is no option 'temprature'; did you mean temperature?"),
        (b'{"num_samples": 3}', "line 1: there is no option 'num_samples'"),
        (b'a\n{"preset": "creativ"}', "line 2: there is no preset 'creativ'; did you mean creative?"),
        (b'{"preset": 3}', "line 1: there is no preset '3'; there are default, creative"),
        (b'{"length": null}', "line 1: --length must be a whole number"),
        (b'{"length": true}', "line 1: --length must be a whole number"),
        (b'{"prompt": 3}', "line 1: --prompt must be a text"),
        (b'{"seed": {"a": 1}}', "line 1: --seed must be"),
        (b'{"temperature": NaN}', "line 1: --temperature must be"),
        (b'{"temperature": 1e400}', "line 1: --temperature must be"),
        (b'{"sampler": ["greedy"]}', "line 1: --sampler must be"),
        (
            b'{"sampler": "ancestral", "remask": 0.5}',
            "line 1: --remask=0.5 is nothing that ancestral can use",
        ),
        (b'{"\\u001b[2J": 1}', r"line 1: there is no option '\x1b[2J'"),
    ],
)
def test_a_bad_line_is_told_with_file_and_number(tmp_path, data, reason):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_prompts(path, lambda values: settings_of(values, None))
    told = str(caught.value)
    assert told.startswith(str(path)) and "\n" not in told and reason in told and "\x1b" not in told


def test_an_output_that_cannot_be_is_told_before_a_text_is_written(tmp_path):
    with pytest.raises(OSError, match="absent"):
        modes.batch(JOBS, tmp_path / "absent" / "x", lambda job: pytest.fail("it was begun"), MARKS)
