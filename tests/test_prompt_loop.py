"""The prompt loop: a script of lines goes in, texts and one line about every mistake come out."""

import pytest

from mdlm_jax.ui.options import NAMES, settings_of
from mdlm_jax.ui.prompt_loop import prompt_loop
from mdlm_jax.ui.request import SampleError


def played(script, write=None, first=0):
    """What the loop wrote, as the values asked for, and what it said after its help; `script`: lines, or
    exceptions that reading raises.
    """
    asked, said, lines = [], [], iter(script)

    def read(shown: str) -> str:
        line = next(lines, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    def note(values) -> str:
        asked.append(values)
        return write(values) if write else f"text {values['seed']}"

    prompt_loop(note, lambda values: settings_of(values, None), NAMES, first, read, said.append)
    assert said[0].startswith("A line is a prompt")
    return asked, said[1:]


def test_every_text_takes_the_next_seed():
    asked, said = played(["One", "", "/again", "/history 1", "/seed 40", "Two", "/seed", "/again"], first=7)
    assert [(v["prompt"], v["seed"]) for v in asked] == [
        *[("One", 7), ("", 8), ("", 9), ("One", 10)],
        *[("Two", 40), ("Two", 7)],
    ]
    assert [line for line in said if "=" not in line] == [f"text {v['seed']}" for v in asked]
    assert [line for line in said if "=" in line] == ["seed = 40", "seed = 7"]


def test_settings_come_go_and_are_shown():
    script = [
        "/temperature 0.5",
        "/length  12 ",
        "a",
        "/settings",
        "/temperature",
        "b",
        "/length",
        "/settings",
    ]
    asked, said = played(script)
    assert asked == [
        {"temperature": "0.5", "length": "12", "prompt": "a", "seed": 0},
        {"length": "12", "prompt": "b", "seed": 1},
    ]
    assert said[:2] == ["temperature = 0.5", "length = 12"]
    assert said[2:4] == ["text 0", "temperature = 0.5, length = 12, seed = 1"]
    assert said[4:] == ["temperature as it was", "text 1", "length as it was", "seed = 2"]


def test_history_and_help():
    asked, said = played(["/history", "a b", "c", "/history", "/help"])
    assert said[0] == "no prompts yet" and said[3] == "1 a b\n2 c"
    assert all(name in said[4] for name in NAMES if name != "prompt") and len(asked) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/temprature 3", "/temprature is no command here; did you mean /temperature?"),
        ("/agian", "did you mean /again?"),
        ("/qqqq", "/qqqq is no command here; /help lists them"),
        ("/", "/ is no command here; /help lists them"),
        ("/prompt x", "/prompt is no command here"),
        ("/temperature hot", "--temperature must be a number"),
        ("/temperature -1", "--temperature must be above 0"),
        ("/sampler greed", "did you mean greedy?"),
        ("/preset creativ", "there is no preset 'creativ'; did you mean creative?"),
        ("/preset quick", "there are default, creative, conservative, fast"),
        ("/remask 0.5\x00", "--remask must be"),
        ("/style 3", "--best_of=1 leaves nothing to choose"),
        ("/seed x", "/seed takes a whole number, not 'x'"),
        ("/seed -1", "/seed takes a whole number"),
        ("/seed 99999999999", "--seed must be"),
        ("/history 0", "/history takes a number from 1 to 1, not '0'"),
        ("/history 2", "/history takes a number from 1 to 1, not '2'"),
        ("/history x", "/history takes a number from 1 to 1, not 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(line, reason):
    asked, said = played(["first", line, "/settings", "/again"])
    assert said[1].startswith("error: ") and reason in said[1] and "\n" not in said[1]
    assert said[2:] == ["seed = 1", "text 1"]
    assert asked == [{"prompt": "first", "seed": 0}, {"prompt": "first", "seed": 1}]


def test_nothing_to_take_up_again():
    asked, said = played(["/again", "/history 1"])
    assert said == ["error: there are no prompts yet"] * 2 and asked == []


def test_what_writing_raises_ends_the_text_and_not_the_loop():
    faults = {"stop": KeyboardInterrupt(), "refuse": SampleError("no room")}

    def write(values) -> str:
        if fault := faults.get(values["prompt"]):
            raise fault
        return f"text {values['seed']}"

    script = ["stop", KeyboardInterrupt(), "refuse", "go", "/quit", "never"]
    asked, said = played(script, write)
    assert said == ["stopped; /quit or Ctrl-D ends"] * 2 + ["error: no room", "text 0"]
    assert len(asked) == 3

    def broken(values) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a bug is not hidden
        played(["x"], broken)


@pytest.mark.parametrize("end", [EOFError(), "/quit", "/exit", "quit", "exit"])
def test_the_end(end):
    asked, said = played([end, "never"])
    assert asked == [] and said == []
