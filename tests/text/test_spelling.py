import pickle
import subprocess
import sys

import pytest

from submillion.text.spelling import Spelling, one_edit

KNOWN = ("rices", "company", "about", "prices", "price", "microsoft", "world", "words", "köln")
SPELLING = Spelling(KNOWN)
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def neighbours(word: str) -> set[str]:
    """Every string of small letters at one edit, built letter by letter."""
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    found = {left + right[1:] for left, right in cuts if right}
    found |= {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    found |= {left + letter + right[1:] for left, right in cuts if right for letter in ALPHABET}
    found |= {left + letter + right for left, right in cuts for letter in ALPHABET}
    return found - {word}


@pytest.mark.parametrize("word", ["company", "aabb", "abab", "köln"])
def test_every_edit_of_a_word_is_one_edit_and_is_corrected(word):
    spelling = Spelling([word])
    for other in neighbours(word):
        assert one_edit(word, other) and one_edit(other, word)
        assert spelling.correct(other) == (word if len(other) >= 4 else other)


def test_two_edits_are_not_one():
    one = neighbours("abcd")
    for other in {second for first in one for second in neighbours(first)} - one:
        assert not one_edit("abcd", other)
        assert Spelling(["abcd"]).correct(other) == other


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Microsfot raises its prcies", "Microsoft raises its prices"),
        ("MICROSOFTT", "MICROSOFT"),
        ("wo rld: a compamy.", "wo rld: a company."),
        ("pricee", "prices"),  # the more frequent of two that are near
        ("Comрany", "Company"),  # a Cyrillic letter
        ("KÖLM", "KÖLN"),
        ("\u0440rices", "prices"),  # a Cyrillic letter stands for one, though "rices" is known and more frequent
        ("the compnay's", "the company's"),
    ],
)
def test_an_unknown_word_is_read_as_the_most_frequent_near_it_in_its_own_case(written, read):
    assert SPELLING.correct(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "The COMPANY, about 4 words: price",
        "wrd abuot2 pr1ces x_prices",  # three letters; letters beside digits and underscores
        "&nbsq; quot; &words; abuot;",  # escapes, or what may be one
        "sovereign Aktiengesellschaft Правда",
        "companycompany" * 10_000,
        "wo\u0308rldd com\u00adpany com\u200bpany pricce\u0301",  # marks and what is not seen join the parts of a word
        "prcie't O'Wolrd l’abuot",
        "",
        "\n 12,300 -- !?",
    ],
)
def test_what_is_known_far_from_it_or_no_word_stays(text):
    escapes = Spelling([*KNOWN, "nbsp", "quota"])
    assert SPELLING.correct(text) == text
    assert escapes.correct("&nbsq; quot;") == "&nbsq; quot;" and escapes.correct("nbsq quot") == "nbsp quota"


def test_it_learns_every_word_of_the_texts_by_how_often_it_stands_there_and_leaves_them_alone():
    texts = ["Oil PRICES climb", "oil prices climb", "prices climbed prices fell, quota, sea sea", "climb quota pirces"]
    spelling = Spelling.learned(texts)
    assert spelling.words == ("prices", "climb", "quota", "climbed", "fell", "pirces")
    assert spelling.correct("climbe qouta") == "climb quota"
    assert [spelling.correct(text) for text in texts] == texts
    turkish = ["\u0130stanbul istanbul D\u0130KKAT"]
    assert [Spelling.learned(turkish).correct(text) for text in turkish] == turkish


def test_no_more_words_are_learned_than_a_model_may_hold(monkeypatch):
    monkeypatch.setattr("submillion.text.spelling.MOST_WORDS", 2)
    assert Spelling.learned(["fell climb prices prices climb prices"]).words == ("prices", "climb")


def test_no_words_correct_nothing():
    assert Spelling.learned([]).words == () and Spelling([]).correct("anything wrnog") == "anything wrnog"


def test_hashes_that_differ_between_processes_do_not_show():
    script = (
        "from submillion.text.spelling import Spelling\n"
        "words = [f'{a}{b}oken{c}' for a in 'abcdefgh' for b in 'rstuv' for c in 'xyz']\n"
        "texts = [f'{a}{b}okem{c}' for a in 'abcdefghi' for b in 'rstuvw' for c in 'xyz']\n"
        "import pickle\n"
        "print(pickle.dumps(Spelling(words)).hex())\n"
        "print([Spelling(words).correct(text) for text in texts], 'torch' in __import__('sys').modules)\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    pickled, corrected = found.pop().splitlines()
    assert "'arokenx'" in corrected
    assert pickle.loads(bytes.fromhex(pickled)).correct("arokemx") == "arokenx"


def test_an_unknown_word_is_found_among_hashes_that_collide(monkeypatch):
    monkeypatch.setattr("submillion.text.spelling.hash", lambda form: len(form) % 2, raising=False)
    spelling = Spelling(KNOWN)
    assert spelling.correct("compayn wordz mircosoft unheard") == "company words microsoft unheard"
