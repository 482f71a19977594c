import subprocess
import sys
import unicodedata

import pytest
from tokenizers import normalizers

from submillion.data.confusables import LOOKALIKES
from submillion.text.cleaning import cleaning_normalizer
from submillion.text.tokenizer import Tokenizer

PLAIN = cleaning_normalizer(None)
LOWERED = cleaning_normalizer(normalizers.BertNormalizer(lowercase=True))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Оіl рrісеs сlimb", "Oil prices climb"),
        ("ѕсоrе Ваnk Νеws", "score Bank News"),
        ("ｆｕｌｌ 𝗯𝗼𝗹𝗱 𝑖𝑡𝑎𝑙𝑖𝑐", "full bold italic"),
        ("ze\u200bro wi\u00addth\ufeff", "zero width"),
        ("Diyarbakır", "Diyarbakir"),
        ("о" * 40 + "k", "o" * 40 + "k"),
    ],
)
def test_what_looks_latin_within_a_latin_word_is_read_as_latin(written, read):
    assert PLAIN.normalize_str(written) == read and LOWERED.normalize_str(written) == read.lower()


@pytest.mark.parametrize("text", ["Правда, Москва: она со мной", "Αθήνα και ο κόσμος", "Հայաստան", "naïve café", "а"])
def test_words_of_other_scripts_and_accents_stay(text):
    assert PLAIN.normalize_str(text) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("one of the team #39;s founders", "one of the team's founders"),
        ("the team&#39;s, the team&#039;s", "the team's, the team's"),
        ("over Guinea  #39;plot #39; Ministers", "over Guinea 'plot' Ministers"),
        ("a consumer, quot; says he. quot;The rest", 'a consumer," says he."The rest'),
        (r"worth \$35.7 billion or #36;2", "worth $35.7 billion or $2"),
        ("Apple #146;s G5, &#8220;fast&#8221;", 'Apple\'s G5, "fast"'),
        ("if x<y then z>w, mail <bob@example.com>", "if x<y then z>w, mail <bob@example.com>"),
        ('<A HREF="http://x.y">it</A> <br /> <font size=1>', " it     "),
        ('Corp. &lt;A HREF="http://x.y/z?a=b&c"&gt;ORCL.O&lt;/A&gt; up', "Corp.  ORCL.O  up"),
        ("<b>Bold</b><br/>new", " Bold  new"),
        ("this\\\\that", "this that"),
        (r"\\\$5, a\\\b \$\\$ \\", "$5, a b $$  "),
        ("AT&amp;T, AT&T, R&D", "AT&T, AT&T, R&D"),
        ("&amp;lt; is an escape", "&lt; is an escape"),
        ("1 &lt; 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("dash #151; dash &#8212; &mdash; end", "dash   dash     end"),
        ("We're #1; he quoted; item 39; a #news", "We're #1; he quoted; item 39; a #news"),
    ],
)
def test_html_is_read_as_it_would_be_shown(written, read):
    assert PLAIN.normalize_str(written) == read and LOWERED.normalize_str(written) == read.lower()


@pytest.mark.parametrize("run", ["а", "Αο", "\\", "<a", "&lt;a", "#0", " ", "&", "\u200b"])
def test_a_long_run_of_anything_is_read_at_all(run):
    """From each character to the run's end, this would take an hour."""
    code = (
        "import sys; from submillion.text.cleaning import cleaning_normalizer;"
        "print(ascii(cleaning_normalizer(None).normalize_str(sys.argv[1] * 300_000)[:8]))"
    )
    done = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ascii(PLAIN.normalize_str(run * 300)[:8])


def test_every_lookalike_is_one_letter_of_another_alphabet_and_stands_once():
    everything = "".join(LOOKALIKES.values())
    assert len(set(everything)) == len(everything) > 100
    for letter, others in LOOKALIKES.items():
        assert letter.isascii() and letter.isalpha()
        for other in others:
            assert other.isalpha() and not other.isascii() and unicodedata.normalize("NFKC", other) == other
            assert PLAIN.normalize_str(f"x{other}x") == f"x{letter}x"
            assert LOWERED.normalize_str(f"x{other}x") == f"x{letter}x".lower()


def test_a_special_token_that_looks_like_a_tag_is_no_space() -> None:
    """MPNet's <unk> is looked for in normalized texts, and cleaning would make a space of it."""
    from tokenizers import AddedToken, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.WordLevel({"<unk>": 0, "oil": 1, "prices": 2, "rise": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([AddedToken("<unk>", normalized=True, special=True)])
    tokenizer = Tokenizer(backend, "")
    tokenizer.clean_texts()
    for read in (tokenizer, Tokenizer.from_str(tokenizer.to_str(), "")):
        assert read.encode(["oil prices <b>rise</b>", "oil gas"], 8).flat.tolist() == [1, 2, 3, 1, 0]
