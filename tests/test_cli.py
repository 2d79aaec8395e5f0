"""What the command lines share: exit codes, one line, - and _ alike."""

import subprocess
import sys

import pytest
from conftest import REPO

from mdlm_jax.ui import cli
from mdlm_jax.ui.values import UserError, nearest, short


class Asked(UserError):
    code = 75


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (UserError("a  b\nc"), 2, "error: a b c\n"),
        (UserError("bad \x1b]0;x\x07 name"), 2, "error: bad ]0;x name\n"),
        (Asked("saved"), 75, "saved\n"),
        (
            OSError(28, "No space left on device", "x"),
            2,
            "error: x: no space left on device; free some and run the same command\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; the rest\n"),
        (ModuleNotFoundError("No module named 'jax'", name="jax.numpy"), 2, "error: jax.numpy is not"),
    ],
)
def test_errors_of_a_person_are_one_line(raised, code, told, capsys):
    def command():
        raise raised

    assert cli.run(command, "the rest") == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(told) and err.count("\n") == 1


@pytest.mark.parametrize("raised", [ZeroDivisionError(), ModuleNotFoundError("x", name="mdlm_jax.x")])
def test_a_bug_is_not_hidden(raised):
    def command():
        raise raised

    with pytest.raises(type(raised)):
        cli.run(command, "")


def test_results_are_exit_codes():
    assert cli.run(lambda: None, "") == 0 and cli.run(lambda: 3, "") == 3


def test_a_reader_that_has_enough_is_no_error():
    code = "from mdlm_jax.ui import cli; import sys; sys.exit(cli.run(lambda: print('x\\n' * 10**6), ''))"
    command = f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.split() == ["x", "1"] and done.stderr == ""


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(child_env):
    code = "from mdlm_jax.ui import cli; import sys; sys.exit(cli.run(lambda: print('a…b'), ''))"
    env = child_env | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a?b\n", "")


@pytest.fixture
def parser():
    p = cli.Parser(prog="x")
    p.add_argument("--num_samples", type=int)
    p.add_argument("--name", default="")
    p.add_argument("place", nargs="?")
    return p


def test_hyphens_and_underscores_are_alike(parser):
    for words in (["--num-samples", "3"], ["--num_samples=3"], ["--num-samples=3"]):
        assert parser.parse_args(words).num_samples == 3
    assert parser.parse_args(["--name", "a-b"]).name == "a-b"
    assert parser.parse_args(["--name=--x-y=z"]).name == "--x-y=z"
    assert parser.parse_args(["--", "--num-samples"]).place == "--num-samples"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--num", "3"], "unknown option --num; did you mean --"),  # no abbreviations
        (["--num-smples=3"], "unknown option --num_smples; did you mean --num_samples?"),
        (["a", "b"], "unexpected argument b"),
        (["--num_samples", "x"], "--num_samples: invalid int value: 'x'"),
        (["--num_samples"], "--num_samples: expected one argument"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(parser, words, told):
    with pytest.raises(cli.UsageError) as caught:
        parser.parse_args(words)
    assert str(caught.value).startswith(told) and "--help" in str(caught.value)


def test_nearest():
    assert nearest("wrkdir", ["book", "workdir"]) == "; did you mean workdir?"
    assert nearest("zzz", ["book", "workdir"]) == "" == nearest("x", [])


def test_a_command_begins_anew_once_with_huge_pages(child_env):
    words = ["-c", "from mdlm_jax.ui import cli; cli.huge_pages(); import os, sys; print(sys.argv[1:])"]
    words[1] += "; print(os.environ['GLIBC_TUNABLES'], os.getpid())"
    for before, after in ((None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.check=0", "glibc.malloc.check=0")):
        env = {k: v for k, v in child_env.items() if k != "GLIBC_TUNABLES"}
        env |= {"GLIBC_TUNABLES": before} if before else {}
        child = subprocess.Popen(
            [sys.executable, *words, "a b", "--c"], env=env, cwd=REPO, stdout=subprocess.PIPE, text=True
        )
        told = child.communicate(timeout=60)[0].splitlines()
        assert child.returncode == 0
        assert told == ["['a b', '--c']", f"{after} {child.pid}"]  # the same process: signals find it


def test_a_perplexity_of_a_text_without_spaces_stays_short():
    assert [short(x) for x in (1518.2, 999_999.4, 1e6, 2.3e139)] == ["1518", "999999", "1.0e+06", "2.3e+139"]
