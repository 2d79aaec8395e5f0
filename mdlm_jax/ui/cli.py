"""What every command line shares: a mistake is one line with the nearest name, and an exit code. No jax."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from mdlm_jax.ui.values import UserError, nearest

INSTALL = "in the checkout: make install, then source .venv/bin/activate"


class UsageError(UserError):
    """A command line that cannot be understood; one line."""


class Terminated(KeyboardInterrupt):
    """A SIGTERM, raised by `terminate`; what cleans up after a Ctrl-C cleans up after it too."""


def terminate(*_: Any) -> NoReturn:
    """A handler for SIGTERM. Raises Terminated."""
    raise Terminated


def huge_pages() -> None:
    """Begins this command anew, once, with a malloc that asks for pages of 2 MB; to be called before imports.

    glibc gives big blocks back at once, so that every step of training on a CPU has its memory cleared page
    by page again: a sixth of a step. glibc reads the setting (GLIBC_TUNABLES) only when a process begins.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Defaults(argparse.HelpFormatter):
    """--help with the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default in (None, argparse.SUPPRESS) or isinstance(action.default, bool)
        return action.help if none else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """argparse without usage dumps or abbreviations: raises UsageError; --num-samples is --num_samples."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options of `args` (default: of this process)."""
        given = sys.argv[1:] if args is None else list(args)
        for i, word in enumerate(given):
            if word == "--":
                break
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                given[i] = "--" + name[2:].replace("-", "_") + equals + value
        options, unknown = self.parse_known_args(given, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            what = "unknown option" if name.startswith("-") else "unexpected argument"
            choices = [c for a in self._actions if isinstance(a.choices, dict) for c in a.choices.values()]
            parsers = [self, *(c for c in choices if isinstance(c, Parser))]
            names = [option for parser in parsers for option in parser._option_string_actions]
            hint = nearest(name, names) if name.startswith("-") else "; a text with spaces needs quotes"
            self.error(f"{what} {name}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message.removeprefix('argument ')} (--help lists the options)")


def run(command: Callable[[], int | None], interrupted: str) -> int:
    """The exit code of `command()`: its own, or after one line on stderr the one its error asks for.

    A UserError or OSError is told as "error: ..."; a Ctrl-C as `interrupted`, with code 130 (SIGTERM: 75).
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no "…" shows "?"
        getattr(stream, "reconfigure", dict)(errors="replace")
    try:
        return command() or 0
    except KeyboardInterrupt as error:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 75 if isinstance(error, Terminated) else 130
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("mdlm_jax", "data_prep", "configs"):
            raise
        print(f"error: {error.name} is not installed in {sys.executable}; {INSTALL}", file=sys.stderr)
        return 2
    except (UserError, OSError) as error:
        code = error.code if isinstance(error, UserError) else 2
        stopped = code in (130, 75)  # as asked, by a signal
        told = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            told = f"{error.filename}: {(error.strerror or '').lower()}"
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            told += "; free some and run the same command" * full
        told = "".join(c for c in " ".join(told.split()) if c.isprintable())  # files may hold anything
        print(("" if stopped else "error: ") + told, file=sys.stderr)
        return code
