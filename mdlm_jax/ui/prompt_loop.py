"""The prompt loop of `python -m mdlm_jax.sample --interactive`."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from mdlm_jax.ui.values import UserError, nearest

HELP = """A line is a prompt (____ in it is a gap; an empty line prompts with nothing). Commands:
/again        the last prompt, at the next seed      /history      the prompts so far; /history 2 takes one
/NAME VALUE   changes a setting ({names}, ...)
/NAME         takes it back                          /settings     what was changed, and the next seed
/help         this                                   /quit         ends, as Ctrl-D does"""
COMMANDS = ("again", "history", "settings", "help", "quit")


def recalled(history: list[str], number: str) -> str:
    """The prompt of that number, or the last. Raises UserError."""
    if not history:
        raise UserError("there are no prompts yet")
    if number and not (number.isdecimal() and 1 <= int(number) <= len(history)):
        raise UserError(f"/history takes a number from 1 to {len(history)}, not {number!r}")
    return history[int(number or 0) - 1]


def prompt_loop(
    write: Callable[[dict[str, Any]], str],
    check: Callable[[dict[str, Any]], object],
    names: Collection[str],
    first: int = 0,
    read: Callable[[str], str] = input,
    say: Callable[[str], None] = print,
) -> None:
    """Reads prompts and commands until the end of input; `write` makes a text of named values.

    Every text takes the next seed, from `first` or from what /seed says. A UserError is told in one line: of
    `write`, or of `check` for a changed setting, which then stays as it was. A Ctrl-C ends the text that is
    being written, not the loop.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and recalls them
    values: dict[str, Any] = {}
    history: list[str] = []
    names = [name for name in names if name != "prompt"]
    seed = first
    say(HELP.format(names=", ".join(names[:6])))
    while True:
        try:
            line = read("> ")
            line = f"/{line}" if line in ("quit", "exit", "help") else line
            name, _, value = line[1:].strip().partition(" ")
            value = value.strip()
            if not line.startswith("/"):
                history.append(line)
            elif name in ("quit", "exit"):
                return
            elif name == "again" or (name == "history" and value):
                line = recalled(history, value if name == "history" else "")
            else:
                if name == "history":
                    say("\n".join(f"{i} {old}" for i, old in enumerate(history, 1)) or "no prompts yet")
                elif name == "help":
                    say(HELP.format(names=", ".join(names)))
                elif name == "settings":
                    say(", ".join(f"{k} = {v}" for k, v in [*values.items(), ("seed", seed)]))
                elif name == "seed":
                    if value and not value.isdecimal():
                        raise UserError(f"/seed takes a whole number, not {value!r}")
                    check(values | {"seed": value or first})
                    seed = int(value or first)
                    say(f"seed = {seed}")
                elif name in names:
                    changed = {k: v for k, v in (values | {name: value}).items() if v}
                    check(changed)
                    values = changed
                    say(f"{name} = {value}" if value else f"{name} as it was")
                else:
                    hint = nearest(name, [*COMMANDS, *names]).replace("mean ", "mean /")
                    raise UserError(f"/{name} is no command here{hint or '; /help lists them'}")
                continue
            say(write(values | {"prompt": line, "seed": seed}))
            seed += 1
        except EOFError:
            return
        except KeyboardInterrupt:
            say("stopped; /quit or Ctrl-D ends")
        except UserError as error:
            say(f"error: {error}")
