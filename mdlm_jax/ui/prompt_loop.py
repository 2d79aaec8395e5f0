"""The prompt loop of `python -m mdlm_jax.sample --interactive`."""

from collections.abc import Callable, Collection

HELP = """A line is a prompt (____ in it is a gap; an empty line prompts with nothing). Commands:
/again        the last prompt, at the next seed      /history      the prompts so far; /history 2 takes one
/NAME VALUE   changes a setting ({names}, ...)
/NAME         takes it back                          /settings     what was changed
/help         this                                   /quit         ends, as Ctrl-D does"""


def prompt_loop(
    write: Callable[[dict[str, str]], str],
    names: Collection[str],
    read: Callable[[str], str] = input,
    say: Callable[[str], None] = print,
) -> None:
    """Reads prompts and commands until the end of input; `write` makes a text of named values.

    Every text takes the next seed, from 0 or from what /seed says. A ValueError of `write` is told in one
    line, and a Ctrl-C ends the text that is being written, not the loop.
    """
    values: dict[str, str] = {}
    history: list[str] = []
    seed = 0
    say(HELP.format(names=", ".join(list(names)[:6])))
    while True:
        try:
            line = read("> ")
        except (EOFError, KeyboardInterrupt):
            return
        if line.startswith("/"):
            name, _, value = line[1:].strip().partition(" ")
            number = int(value) if value.strip().isdecimal() else 0
            if name in ("quit", "exit"):
                return
            if name == "help":
                say(HELP.format(names=", ".join(names)))
            elif name == "settings":
                say(", ".join(f"{k} = {v}" for k, v in values.items()) or "nothing was changed")
            elif name == "history" and not value:
                say("\n".join(f"{i} {old}" for i, old in enumerate(history, 1)) or "no prompts yet")
            elif name in names and name not in ("prompt", "seed"):
                values.pop(name, None)
                values |= {name: value.strip()} if value.strip() else {}
            elif name == "seed":
                seed = number
            elif not history or name not in ("again", "history") or number > len(history):
                say(f"/{name} is no command here; /help lists them")
                continue
            if name not in ("again", "history") or (name == "history" and not value):
                continue
            line = history[number - 1] if number else history[-1]
        else:
            history.append(line)
        try:
            say(write({"prompt": line, "seed": str(seed)} | values) + "\n")
        except KeyboardInterrupt:
            say("stopped")
        except ValueError as error:
            say(f"error: {error}")
        seed += 1
