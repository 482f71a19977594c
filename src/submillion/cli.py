"""Picks a command, reads its flags and runs it.

A command's module is imported when it runs, so that `submillion --help` answers at once.
"""

import gc
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from submillion import __version__
from submillion.commands import flags as texts
from submillion.commands.flags import EvaluateFlags, ExportFlags, ImportFlags, PlanFlags, PredictFlags
from submillion.config.flags import print_help, read_flags
from submillion.config.resolve import RunFlags, combine, recipe_names
from submillion.errors import ConfigError, SubmillionError, did_you_mean, escaped_lines

USAGE = f"""\
submillion {__version__}: fine-tune text classifiers with fewer than a million trainable parameters

usage: submillion COMMAND [FLAGS]

commands
  quickstart train on real news, predict and show the result, in a minute and without the network
  train      train a classifier and save it in best_model/
  predict    label the rows of a file with a saved classifier
  evaluate   measure a saved classifier on labelled rows
  export     write a saved classifier in another tool's format
  import     save a PEFT adapter as a classifier
  plan       count the trainable parameters of a run, without training it

submillion COMMAND --help explains every flag and shows its default.
submillion --version prints the version.

examples
  submillion train --recipe quickstart                      MiniLM on real news, without the network
  submillion train --recipe quickstart --data.source news.csv   your rows
  submillion plan --recipe quickstart --lora.rank 8         what would train, without training it
  submillion predict news.csv --scores                      label names and probabilities in predictions.csv
  submillion predict - < texts.txt | sort | uniq -c         a label a line, as the lines come
  submillion evaluate --data.source labelled.csv            how well best_model/ does on your rows
  submillion evaluate --data.source labelled.csv --robustness   and when they are noisy, shifted, attacked
"""


@dataclass(frozen=True)
class Command:
    """A command: its flags, the text of its help, and the module whose function `run` does its work."""

    flags: type
    text: str
    module: str
    words: tuple[str, ...] = ()  # positional words, in order
    recipe: str = ""  # the default of --recipe

    def help(self, name: str, argv: Sequence[str]) -> None:
        """Prints the help; a recipe among the words sets the defaults that it shows."""
        title, text = " ".join([name, *self.words]), self.text
        if not issubclass(self.flags, RunFlags):
            return print_help(title, text, self.flags())
        recipe = self.recipe
        for word, following in zip(argv, [*argv[1:], ""], strict=True):
            if word == "--recipe" or word.startswith("--recipe="):
                recipe = word.partition("=")[2] or following
        defaults = self.flags(**vars(combine(recipe).config), recipe=recipe)
        print_help(title, text.format(recipes=", ".join(recipe_names())), defaults)

    def run(self, argv: Sequence[str], defaults: Mapping[str, object]) -> None:
        """Reads the flags, imports the command's module and calls its `run` with {dotted key: value} and the words."""
        values, words = read_flags(self.flags, argv, positionals=len(self.words))
        if self.recipe:
            defaults = {"recipe": self.recipe} | dict(defaults)
        with _imports():
            module = import_module(self.module)
        module.run(values, words, **defaults)


COMMANDS = {
    "quickstart": Command(RunFlags, texts.QUICKSTART, "submillion.commands.quickstart", recipe="quickstart"),
    "train": Command(RunFlags, texts.TRAIN, "submillion.commands.train"),
    "predict": Command(PredictFlags, texts.PREDICT, "submillion.commands.predict", ("[INPUT]",)),
    "evaluate": Command(EvaluateFlags, texts.EVALUATE, "submillion.commands.evaluate"),
    "export": Command(ExportFlags, texts.EXPORT, "submillion.commands.export", ("MODEL", "FOLDER")),
    "import": Command(ImportFlags, texts.IMPORT, "submillion.commands.imports", ("FOLDER",)),
    "plan": Command(PlanFlags, texts.PLAN, "submillion.commands.plan"),
}


def main(argv: list[str] | None = None, **defaults: object) -> int:
    """Runs one command and returns its exit code.

    It is 0 for success, 2 if the input is at fault, 130 after Ctrl-C, 141 if the reader of a pipe has gone. argv: the
    words after `submillion`; None takes sys.argv. defaults: further arguments of the command's `run`, for which there
    is no flag.
    """
    _ready_streams()
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv, defaults)
        sys.stdout.flush()  # here, where a closed pipe is caught
        return code
    except SubmillionError as error:
        print(f"submillion: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` has read enough. The interpreter flushes stdout once more at its exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"submillion: error: {escaped_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("submillion: interrupted", file=sys.stderr)
        return 130


def _ready_streams() -> None:
    """Makes printing safe: a closed stream discards what is printed, and characters that the console's encoding lacks
    are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: Sequence[str], defaults: Mapping[str, object]) -> int:
    if not argv:
        print(USAGE, end="", file=sys.stderr)
        return 2
    name, *rest = argv
    if name in ("-h", "--help"):
        print(USAGE, end="")
    elif name == "--version":
        print(f"submillion {__version__}")
    elif name not in COMMANDS:
        hint = did_you_mean(name, list(COMMANDS)) or f"; expected one of: {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command {name!r}{hint}")
    elif "-h" in rest or "--help" in rest:
        COMMANDS[name].help(name, rest)
    else:
        COMMANDS[name].run(rest, defaults)
    return 0


@contextmanager
def _imports() -> Iterator[None]:
    """Keeps what is imported within out of garbage collection, for it lives as long as the process.

    Of the second that importing torch and leaving it take, this saves a quarter.
    """
    if "torch" in sys.modules or not gc.isenabled():  # a caller's process: its garbage is not ours to freeze
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
