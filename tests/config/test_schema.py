"""The settings: how many there are, and that each is explained to whoever reads the help."""

import re

import pytest

from submillion.config.flags import print_help
from submillion.config.resolve import RunFlags
from submillion.config.schema import Config
from submillion.config.values import flag_name, flat

KEYS = list(flat(Config()))
SECTIONS = ["options", "data", "model", "adapters (LoRA)", "training", "robustness", "output"]


@pytest.fixture
def help_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    print_help("train", "Train.", RunFlags())
    return capsys.readouterr().out


def test_there_are_thirty_settings_at_most() -> None:
    assert len(KEYS) <= 30


def test_each_setting_has_a_short_text_of_its_own(help_text: str) -> None:
    entries = re.findall(
        r"^  (--\S+)[^\n]*?(?: {2,}|\n {10,})(.+?)\(default:", help_text, flags=re.MULTILINE | re.DOTALL
    )
    texts = {name.rstrip(","): " ".join(text.split()) for name, text in entries}
    assert set(texts) == {flag_name(key) for key in [*KEYS, "recipe"]}
    assert len(set(texts.values())) == len(texts)
    assert all(20 < len(text) <= 2 * 120 for text in texts.values())


def test_the_help_has_its_sections_in_the_order_of_the_work(help_text: str) -> None:
    assert re.findall(r"^(\w[^:\n]*):$", help_text, flags=re.MULTILINE) == SECTIONS
    assert help_text.index("--recipe") < help_text.index("--budget") < help_text.index("--data.source")
