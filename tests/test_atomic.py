"""Files appear whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from submillion.atomic import (
    check_output,
    check_replaceable,
    write_atomically,
    write_folder_atomically,
    write_together,
)
from submillion.errors import ConfigError


@pytest.mark.parametrize(("mode", "content"), [("w", "naïve\r\nline\n"), ("wb", b"\x00\r\n\xff")])
def test_content_is_written_as_it_is(mode: str, content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with write_atomically(path, mode) as file:
        file.write(content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_else(
    error: type[BaseException], existed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if existed:
        path.write_text("old")
    with pytest.raises(error), write_atomically(path) as file:
        file.write("half of the new")
        raise error
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == ([("file", "old")] if existed else [])


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with write_atomically(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with write_atomically(path) as file:
        file.write("x")
    assert path.read_text() == "x"


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for content in ("new", "newer"):  # there is nothing at first
        with write_atomically(link) as file:
            file.write(content)
        assert link.is_symlink() and target.read_text() == content


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    with write_atomically(pipe) as file:
        file.write("naïve")
    reader.join(timeout=30)
    assert found == ["naïve"] and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_files_that_belong_together_change_together(tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    write_together({first: "naïve", last: b"\x00"})
    assert first.read_text(encoding="utf-8") == "naïve" and last.read_bytes() == b"\x00"
    (tmp_path / "a folder").mkdir()
    for contents in ({first: "new", last: "\ud800"}, {first: "new", tmp_path / "a folder": b"x"}):
        with pytest.raises((UnicodeEncodeError, OSError)):
            write_together({last: b"new"} | contents)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a folder", "first", "last"]


def test_an_output_is_no_folder_and_nothing_that_must_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text")
    check_output(tmp_path / "new", {"the input": path, "the model": tmp_path / "none"})
    with pytest.raises(ConfigError, match="expected a file to write, found a folder"):
        check_output(tmp_path, {})
    with pytest.raises(ConfigError, match="is the input, which would be lost"):
        check_output(tmp_path / ".." / tmp_path.name / "rows.csv", {"the input": path})


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_are_those_of_an_ordinary_file(umask: int, expected: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "file") as file:
            file.write("x")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_a_target_that_is_a_folder_leaves_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError), write_atomically(tmp_path / "file") as file:
        file.write("x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Folders


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_appears_whole(existed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    if existed:
        folder.mkdir(parents=True)
        (folder / "a").write_text("old")
        (folder / "b").write_text("old")
    with write_folder_atomically(folder, ["a", "b"]) as part:
        (part / "a").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["a"] and list(folder.parent.iterdir()) == [folder]
    (folder.parent / "ordinary").mkdir()
    assert folder.stat().st_mode == (folder.parent / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_the_folder_as_it_was(error: type[BaseException], existed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if existed:
        folder.mkdir()
        (folder / "a").write_text("old")
    with pytest.raises(error), write_folder_atomically(folder, ["a"]) as part:
        (part / "a").write_text("half of the new")
        raise error
    assert list(tmp_path.iterdir()) == ([folder] if existed else [])
    assert not existed or (folder / "a").read_text() == "old"


def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ConfigError, match="name another one"):
            check_replaceable(path, ["a"])
    check_replaceable(tmp_path, ["thesis.txt"])
    with pytest.raises(ConfigError, match=r"found thesis\.txt in it"):
        check_replaceable(tmp_path, ["model.onnx", "thesis.txt"])  # nothing that we wrote
    check_replaceable(tmp_path / "new", [])
