"""The command import: saves a PEFT adapter as a classifier, or merged into its base as a checkpoint of transformers."""

from pathlib import Path
from typing import Any

from submillion.commands.flags import ImportFlags
from submillion.config.mapping import overlay
from submillion.config.values import flag_name
from submillion.errors import ConfigError
from submillion.interop.peft_import import import_peft
from submillion.interop.peft_merge import merge_peft


def run(values: dict[str, Any], words: list[str]) -> None:
    """Runs `submillion import` with these flags and the adapter's folder. Raises ConfigError for flags amiss."""
    flags = overlay(ImportFlags(), values, spell=flag_name)
    if not words:
        raise ConfigError("expected the folder of an adapter\nfix: submillion import FOLDER")
    if flags.max_length and flags.max_length < 3:
        raise ConfigError(f"--max-length: expected 0 or at least 3, found {flags.max_length}")
    take = merge_peft if flags.merge else import_peft
    take(words[0], Path(flags.output.dir), flags.base, flags.label_names, flags.max_length)
