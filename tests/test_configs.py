"""Values from files and the command line: any field by its name, numbers as people write them."""

import dataclasses
import typing

import pytest
from conftest import REPO
from hypothesis import example, given
from hypothesis import strategies as st

from configs import fields, load, load_overrides, merge, three_stage
from mdlm_jax.configuration import resolve
from mdlm_jax.ui.values import ConfigError, flat

BASE = flat(three_stage.get_config())
KINDS = fields()


def read(kind: type, text: typing.Any) -> typing.Any:
    """What a field of this type makes of a value: one without limits, so far as there are any."""
    name = {int: "seed", float: "optimizer.norm_rate", bool: "model.qk_norm", str: "init_from"}[kind]
    return flat(dataclasses.asdict(resolve(merge(BASE, {name: text}))))[name]


def test_every_field_of_the_config_has_a_name_and_every_name_a_field():
    assert {f"stages[0].{n.partition('.')[2]}" if n.startswith("stages") else n for n in BASE} == {
        *(n for n, (kind, _) in KINDS.items() if typing.get_origin(kind) is not tuple),
        *(f"{n}[{i}]" for n, (kind, _) in KINDS.items() if typing.get_origin(kind) is tuple for i in (0, 1)),
    }


@given(st.integers(0, 2**32 - 1))
def test_texts_of_whole_numbers(number):
    assert read(int, str(number)) == number == read(int, f"{number}.0") == read(int, f"{number / 1000!r}k")


@given(st.floats(0, 1e299))
def test_texts_of_numbers(number):
    assert read(float, repr(number)) == number


@given(st.text())
def test_texts_stay_texts(text):
    assert read(str, text) == text


def test_pairs_as_a_whole_and_by_element():
    for text in ("0.1,0.5", "(0.1, 0.5)", "[.1,5e-1]", " 0.1 , 0.5 "):
        config = resolve(merge(BASE, {"stages[2].mask_rate": text}))
        assert config.stages[2].mask_rate == (0.1, 0.5) and config.stages[0].mask_rate == (0.75, 0.9)
    assert resolve(merge(BASE, {"stages[2].mask_rate[1]": "0.75"})).stages[2].mask_rate == (0.05, 0.75)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1000", 1000), ("1e3", 1000), ("10k", 10_000), ("2M", 2_000_000), ("1.5k", 1500), ("1_000", 1000),
     ("+7", 7), ("2.5e2", 250), ("1b", 10**9), ("0.5K", 500), ("12.0", 12), (" 8 ", 8), (1e3, 1000)],
)  # fmt: skip
def test_numbers_as_people_write_them(text, number):
    for kind in (int, float):
        made = read(kind, text)
        assert made == number and type(made) is kind


@given(st.text(max_size=12), st.sampled_from([int, float, bool]))
@example("1e999", int)
@example("1e999", float)
@example("1e-999", int)
@example("nan", float)
@example("\u0663", int)  # a digit elsewhere
@example("0x10", int)
@example("1__0", int)
@example("", bool)
def test_any_text_is_a_value_or_one_line(text, kind):
    try:
        assert type(read(kind, text)) is kind
    except ConfigError as error:
        assert " must be " in str(error)


@given(st.text(alphabet="abcdelmnos_.[]0123456789", max_size=30))
@example("stages[0]")
@example("stages[99999999999999999999].num_epochs")
@example("stages[3].num_epochs")
@example("stages[0].mask_rate[9]")
@example("stages[x].name")
@example("seed[0]")
@example("model..d_model")
@example("")
def test_any_name_is_a_field_or_one_line(name):
    try:
        resolve(merge(BASE, {name: "1"}))
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert name in BASE


@given(st.sampled_from(sorted(BASE)), st.integers(0, 40), st.sampled_from("abcxyz"))
def test_a_misspelt_name_finds_its_way_back(name, place, letter):
    at = place % len(name)
    wrong = name[:at] + letter + name[at + 1 :]
    if name[at] in "[].012" or ("." not in name and len(name) < 6) or wrong in BASE:
        return
    with pytest.raises(ConfigError, match="did you mean") as caught:
        resolve(merge(BASE, {wrong: BASE[name]}))
    found = str(caught.value).rpartition("did you mean ")[2].removesuffix("?")
    assert sum(a != b for a, b in zip(found, wrong, strict=True)) == 1  # it, or one as near as it


def test_files(tmp_path):
    assert load(f"{REPO}/configs/three_stage.py") == BASE
    assert load(f"{REPO}/configs/three_stage.py:base") == BASE
    assert load(f"{REPO}/configs/three_stage.py:smoke") != BASE
    (tmp_path / "a:b.py").write_text("def get_config(x='y'):\n    return {'x': x, 'z': (1, {'w': 2})}\n")
    assert load(f"{tmp_path}/a:b.py:q") == {"x": "q", "z[0]": 1, "z[1].w": 2}
    assert load(f"{tmp_path}/a:b.py") == {"x": "y", "z[0]": 1, "z[1].w": 2}
    (tmp_path / "o.py").write_text("overrides = {'stages[0]': {'mask_rate': (0.1, 0.2)}, 'seed': '1k'}\n")
    assert load_overrides(tmp_path / "o.py") == {
        "stages[0].mask_rate[0]": 0.1,
        "stages[0].mask_rate[1]": 0.2,
        "seed": "1k",
    }
