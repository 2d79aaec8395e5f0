"""Values from files and the command line: any field by its name, numbers as people write them."""

import copy
import dataclasses
import typing

import pytest
from conftest import REPO
from hypothesis import example, given
from hypothesis import strategies as st

from configs import three_stage
from mdlm_jax.config_file import as_flags, convert, help_lines, load, load_overrides, override, plain
from mdlm_jax.configuration import ConfigError, fields, flat, resolve, to_dict

BASE = plain(three_stage.get_config())
NAMES = [name for name in flat(BASE) if not name.endswith("]")]
KINDS = fields()


def kind_of(name: str) -> typing.Any:
    return KINDS["stages[0]." + name.partition(".")[2] if name.startswith("stages") else name][0]


def test_every_field_of_the_config_has_a_name_and_every_name_a_field():
    assert {f"stages[0].{n.partition('.')[2]}" if n.startswith("stages") else n for n in flat(BASE)} == {
        *(n for n, (kind, _) in KINDS.items() if typing.get_origin(kind) is not tuple),
        *(f"{n}[{i}]" for n, (kind, _) in KINDS.items() if typing.get_origin(kind) is tuple for i in (0, 1)),
    }


@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_text_sets_the_field_and_nothing_else(name, data):
    kind = kind_of(name)
    value = data.draw(
        {
            bool: st.booleans(),
            int: st.integers(-(2**31), 2**31),
            float: st.floats(allow_nan=False, allow_infinity=False),
            str: st.text(),
        }[kind]
    )
    values = copy.deepcopy(BASE)
    override(values, name, str(value))
    assert flat(values) == flat(BASE) | {name: value}
    assert type(flat(values)[name]) is kind


def test_pairs_as_a_whole_and_by_element():
    for text in ("0.1,0.5", "(0.1, 0.5)", "[.1,5e-1]", " 0.1 , 0.5 "):
        values = copy.deepcopy(BASE)
        override(values, "stages[2].mask_rate", text)
        assert values["stages"][2]["mask_rate"] == [0.1, 0.5] and values["stages"][0] == BASE["stages"][0]
    override(values, "stages[2].mask_rate[1]", "0.75")
    assert values["stages"][2]["mask_rate"] == [0.1, 0.75]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1000", 1000), ("1e3", 1000), ("10k", 10_000), ("2M", 2_000_000), ("1.5k", 1500), ("1_000", 1000),
     ("+7", 7), ("-3", -3), ("2.5e2", 250), ("1b", 10**9), ("0.5K", 500), ("12.0", 12), (" 8 ", 8)],
)  # fmt: skip
def test_whole_numbers_as_people_write_them(text, number):
    made = convert(int, text, "x")
    assert made == number and type(made) is int
    assert convert(float, text, "x") == number


def test_whole_floats_of_an_overrides_file_are_integers():
    assert convert(int, 1e3, "x") == 1000 and type(convert(int, 1e3, "x")) is int
    assert convert(int, 1.5, "x") == 1.5  # `resolve` refuses it


@given(st.text(max_size=12))
@example("1e999999999")
@example("1e-999")
@example("٣")  # a digit elsewhere
@example("0x10")
@example("1__0")
def test_any_text_is_a_number_or_one_line(text):
    for kind in (int, float, bool, tuple[float, float]):
        try:
            made = convert(kind, text, "config.x")
        except ConfigError as error:
            assert "config.x must be" in str(error)
        else:
            assert isinstance(made, list if kind == tuple[float, float] else kind)


@given(st.text(alphabet="abcdelmnos_.[]0123456789", max_size=30))
@example("stages[0]")
@example("stages[99999999999999999999].num_epochs")
@example("stages[0].mask_rate[9]")
@example("seed[0]")
@example("model..d_model")
@example("stages[0].stages[0].num_epochs")
def test_any_name_is_a_field_or_one_line(name):
    values = copy.deepcopy(BASE)
    try:
        override(values, name, "1")
    except ConfigError as error:
        assert "\n" not in str(error)
        assert values == BASE
    else:
        assert name in flat(values)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 40), st.sampled_from("abcxyz"))
def test_a_misspelt_name_finds_its_way_back(name, place, letter):
    at = place % len(name)
    if name[at] in "[].0" or ("." not in name and len(name) < 6):
        return
    wrong = name[:at] + letter + name[at + 1 :]
    if wrong in KINDS:
        return
    with pytest.raises(ConfigError, match="did you mean") as caught:
        override(copy.deepcopy(BASE), wrong, "1")
    found = str(caught.value).rpartition("did you mean ")[2].removesuffix("?")
    assert sum(a != b for a, b in zip(found, wrong, strict=True)) == 1  # it, or one as near as it


def test_flags_of_a_config_make_it_again():
    config = resolve(three_stage.get_config("tiny"))
    config = dataclasses.replace(config, init_from="runs/a b", seed=9)
    values = copy.deepcopy(BASE)
    for flag in as_flags(config):
        name, _, text = flag.removeprefix("--config.").partition("=")
        override(values, name, text)
    assert to_dict(resolve(values)) == to_dict(config)


def test_help_shows_every_field_once():
    lines = help_lines(resolve(BASE))
    assert [line.split("=")[0].strip() for line in lines] == [f"--config.{name}" for name in KINDS]
    assert any("mask_rate=0.75,0.9 " in line and " pair " in line for line in lines)


def test_files(tmp_path):
    assert load(f"{REPO}/configs/three_stage.py") == BASE
    assert load(f"{REPO}/configs/three_stage.py:base") == BASE
    assert load(f"{REPO}/configs/three_stage.py:smoke") != BASE
    (tmp_path / "a:b.py").write_text("def get_config(x='y'):\n    return {'x': x, 'z': (1, {'w': 2})}\n")
    assert load(f"{tmp_path}/a:b.py:q") == {"x": "q", "z": [1, {"w": 2}]}
    assert load(f"{tmp_path}/a:b.py") == {"x": "y", "z": [1, {"w": 2}]}
    (tmp_path / "o.py").write_text("overrides = {'stages[0]': {'mask_rate': (0.1, 0.2)}, 'seed': '1k'}\n")
    assert load_overrides(tmp_path / "o.py") == {
        "stages[0].mask_rate[0]": 0.1,
        "stages[0].mask_rate[1]": 0.2,
        "seed": "1k",
    }
