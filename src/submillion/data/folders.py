"""Folders whose layout says more than the names of their files: save_to_disk's, and a folder for each label."""

from collections.abc import Callable
from pathlib import Path

from submillion.data.files import read_table
from submillion.data.formats.arrow_files import is_saved_dataset, saved_splits
from submillion.data.formats.class_folders import UNLABELLED, class_folders, read_class_folders
from submillion.data.formats.options import ReadOptions
from submillion.data.split_names import split_of
from submillion.data.tables import Pick, Problems, Table
from submillion.errors import DataError


def layout_splits(folder: Path, pick_of: Callable[[str], Pick], options: ReadOptions) -> dict[str, Table] | None:
    """Returns the splits of a folder that save_to_disk wrote, or that has a folder for each label.

    These may lie below folders named as splits: train/LABEL/*.txt. None for any other folder. Raises DataError.
    """
    if is_saved_dataset(folder):
        return {"train": read_table(folder, pick_of(folder.name), options)}
    if (saved := saved_splits(folder)) is not None:
        return _saved(folder, saved, pick_of, options)
    below = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and split_of(path.name)}
    parts = {split: path for name, path in below.items() if (split := split_of(name)) and class_folders(path)}
    if "train" in parts:
        return {split: _texts(path, options) for split, path in parts.items()}
    labelled = [label for label in class_folders(folder) if label.lower() not in UNLABELLED]
    has_tables = any(path.is_file() and split_of(path.stem) for path in folder.iterdir())
    return {"train": _texts(folder, options)} if len(labelled) > 1 and not has_tables else None


def _texts(folder: Path, options: ReadOptions) -> Table:
    return read_class_folders(folder, Problems(folder.name), options)


def _saved(
    folder: Path, saved: dict[str, Path], pick_of: Callable[[str], Pick], options: ReadOptions
) -> dict[str, Table]:
    splits: dict[str, Table] = {}
    left_out = []
    for name, path in saved.items():
        split = split_of(name)
        if split is None or split in splits:
            left_out.append(name)
        else:
            splits[split] = read_table(path, pick_of(name), options)
    if "train" not in splits:
        raise DataError(f"{folder}: expected a split named train, found {', '.join(saved) or 'none'}")
    if left_out:
        splits["train"].problems.note(f"{folder.name}: the splits {', '.join(left_out)} are not used")
    return splits
