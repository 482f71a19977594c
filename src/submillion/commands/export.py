"""The command export: writes a saved classifier in another tool's format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from submillion.commands.flags import EvaluateData, ExportFlags, model_path
from submillion.config.mapping import overlay
from submillion.config.values import flag_name, shown
from submillion.data.formats.options import ReadOptions
from submillion.errors import ConfigError, did_you_mean


def run(values: dict[str, Any], words: list[str]) -> None:
    """Runs `submillion export` with these flags, the model and the folder. Raises ConfigError for flags amiss."""
    flags = overlay(ExportFlags(), values, spell=flag_name)
    if flags.to not in EXPORTS:
        asked = f"found {flags.to!r}{did_you_mean(flags.to, list(EXPORTS))}" if flags.to else "found none"
        raise ConfigError(f"--to: expected one of {', '.join(EXPORTS)}; {asked}")
    if len(words) < 2:
        raise ConfigError(
            f"expected a saved classifier and a folder to write, found {shown(words) or 'neither'}\n"
            f"fix: submillion export best_model --to {flags.to} FOLDER"
        )
    EXPORTS[flags.to](model_path(words[0], "MODEL"), Path(words[1]), flags)


def _to_onnx(model: Path, folder: Path, flags: ExportFlags) -> None:
    from submillion.interop.onnx import export_onnx  # it looks for onnxruntime, which only this format needs

    export_onnx(
        model,
        folder,
        int8=flags.int8,
        source=flags.data.source,
        text_column=flags.data.text_column,
        label_column=flags.data.label_column,
        base=flags.base,
        options=ReadOptions.of(flags.data.reading) if flags.data.reading else None,
    )


def _to_stock(model: Path, folder: Path, flags: ExportFlags) -> None:
    from submillion.interop.exchange import export_model

    if flags.int8 or flags.data != EvaluateData():
        raise ConfigError(f"--int8 and --data.* belong to --to onnx, found --to {flags.to}\nfix: leave them out")
    export_model(model=model, to=flags.to, folder=folder, base=flags.base)


EXPORTS: dict[str, Callable[[Path, Path, ExportFlags], None]] = {  # --to
    "onnx": _to_onnx,
    "peft": _to_stock,
    "transformers": _to_stock,
}
