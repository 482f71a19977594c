"""Text to token ids, over the `tokenizers` library, equal to transformers' fast tokenizers."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from submillion.errors import BaseModelError
from submillion.text.cleaning import cleaning_normalizer
from submillion.text.spelling import Spelling
from submillion.text.vocabulary import (
    READERS,
    WHOLE,
    add_tokens,
    files_hash,
    no_tokenizer,
    tokenizer_files,
    too_many_ids,
)

if TYPE_CHECKING:
    import tokenizers

# The library has no way to name a side without a length.
_KEEPS_END = {"direction": "Left", "max_length": 2**31 - 1, "strategy": "LongestFirst", "stride": 0}
_BATCH_ROWS = 2048  # encodings kept at once: each holds far more than its ids


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids, ragged, in one flat array."""

    flat: np.ndarray  # int32 [tokens of all rows]
    lengths: np.ndarray  # int64 [rows]
    starts: np.ndarray  # int64 [rows]
    content: "Tokens | None" = None  # the same rows whole, not cut, without special tokens; n-grams are read from it

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of_rows(cls, rows: Sequence[np.ndarray]) -> "Tokens":
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.concatenate(rows, dtype=np.int32) if rows else np.zeros(0, np.int32)
        return cls(flat, lengths, np.cumsum(lengths) - lengths)

    @classmethod
    def joined(cls, parts: "Sequence[Tokens]") -> "Tokens":
        """Returns the rows of all parts, one part after the other. They have content if all parts do."""
        lengths = [part.lengths for part in parts]
        flats = [part.flat for part in parts]
        starts = [part.starts + sum(map(len, flats[:at])) for at, part in enumerate(parts)]
        contents = [part.content for part in parts if part.content is not None]
        content = cls.joined(contents) if len(contents) == len(parts) else None
        return cls(np.concatenate(flats), np.concatenate(lengths), np.concatenate(starts), content)

    def take(self, rows: np.ndarray) -> "Tokens":
        """Returns these rows, int64 [some], in this order, without copying their ids."""
        content = None if self.content is None else self.content.take(rows)
        return Tokens(self.flat, self.lengths[rows], self.starts[rows], content)

    def windows(self, longest: int) -> "tuple[Tokens, np.ndarray]":
        """Returns the rows cut into windows of at most `longest` tokens, and the row of each window, int64 [windows].

        A longer row's tokens are shared equally among as few windows as hold them, each between the row's own first and
        last token. All other rows stay whole, and so do all rows if longest is 0. The windows have no content.
        """
        is_long = (self.lengths > longest) & (longest > 0)
        short, long = np.flatnonzero(~is_long), np.flatnonzero(is_long)
        cut: list[np.ndarray] = []
        counts = -(-(self.lengths[long] - 2) // max(1, longest - 2))
        for index, count in zip(long.tolist(), counts.tolist(), strict=True):
            row = self.row(index)
            cut += [np.concatenate([row[:1], window, row[-1:]]) for window in np.array_split(row[1:-1], count)]
        whole = replace(self.take(short), content=None)
        joined = Tokens.joined([whole, Tokens.of_rows(cut)]) if cut else whole
        return joined, np.concatenate([short, np.repeat(long, counts)])

    def packed(self) -> np.ndarray:
        """Returns the ids of these rows alone, one row after another: int32 [tokens of these rows]."""
        before = np.cumsum(self.lengths) - self.lengths
        return self.flat[np.repeat(self.starts - before, self.lengths) + np.arange(self.lengths.sum())]

    def row(self, index: int) -> np.ndarray:
        start = self.starts[index]
        return self.flat[start : start + self.lengths[index]]


class Tokenizer:
    """A fast tokenizer without padding. `fingerprint` is the SHA-256 of the files it was read from.

    spelling: corrects each text first. `to_str` leaves it out, because no tokenizer's JSON can hold it. keeps_end: if a
    text is too long, its end is kept, not its beginning.
    """

    def __init__(
        self,
        backend: "tokenizers.Tokenizer",
        fingerprint: str,
        spelling: Spelling | None = None,
        keeps_end: bool = False,
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.fingerprint = fingerprint
        self.spelling = spelling
        self.keeps_end = keeps_end

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int | None = None) -> "Tokenizer":
        """Reads tokenizer.json, or builds the tokenizer from vocab.json + merges.txt, or vocab.txt, and added tokens.

        vocab_size: the vocabulary size of the encoder that reads the ids. Raises BaseModelError if none of these sets
        of files is complete, if a file cannot be read, if the ids of added tokens do not follow on, or if the encoder
        has no embedding for an id.
        """
        names = tokenizer_files(folder)
        if not names:
            raise BaseModelError(no_tokenizer(folder))
        try:
            backend = READERS[names](folder)
            if names != WHOLE:
                add_tokens(backend, folder)
        except Exception as error:  # `tokenizers` raises bare Exception for anything it cannot read
            raise BaseModelError(f"the tokenizer in {folder} ({' + '.join(names)}) cannot be read: {error}") from None
        ids = max(backend.get_vocab().values(), default=-1) + 1
        if vocab_size is not None and ids > vocab_size:
            raise BaseModelError(too_many_ids(folder, ids, vocab_size))
        return cls(backend, files_hash(folder))

    @classmethod
    def from_str(cls, text: str, fingerprint: str, spelling: Spelling | None = None) -> "Tokenizer":
        """Makes a tokenizer from what `to_str` returned. Raises BaseModelError if it is not a tokenizer's JSON."""
        from tokenizers import Tokenizer as Backend

        try:
            backend = Backend.from_str(text)
            return cls(backend, fingerprint, spelling, keeps_end=(backend.truncation or {}).get("direction") == "left")
        except Exception as error:  # `tokenizers` raises bare Exception
            raise BaseModelError(f"the saved tokenizer cannot be read: {error}") from None

    def clean_texts(self) -> None:
        """Cleans every text from here on, as `submillion.text.cleaning` does; so will a copy made with `to_str`."""
        from tokenizers import Tokenizer as Backend

        self.backend.normalizer = cleaning_normalizer(self.backend.normalizer)
        state = json.loads(self.backend.to_str())
        for token in state["added_tokens"]:
            # A normalized token is cleaned too: <unk>, read as a tag, becomes a space, and would match every space.
            token["normalized"] = False
        self.backend = Backend.from_str(json.dumps(state))

    def to_str(self) -> str:
        """Returns the tokenizer's JSON. It truncates nothing, but records which end of a longer text is cut."""
        if not self.keeps_end:
            return self.backend.to_str()
        return json.dumps(json.loads(self.backend.to_str()) | {"truncation": _KEEPS_END}, ensure_ascii=False)

    def encode(self, texts: Sequence[str], max_length: int, content: bool = False) -> Tokens:
        """Returns the ids with special tokens, each row cut to max_length tokens. Threads are the library's own.

        content: whether `Tokens.content` is filled too.
        """
        rows: list[np.ndarray] = []
        contents: list[np.ndarray] = []
        for start in range(0, len(texts), _BATCH_ROWS):
            chunk = list(texts[start : start + _BATCH_ROWS])
            if self.spelling is not None:
                chunk = [self.spelling.correct(text) for text in chunk]
            encodings = self.backend.encode_batch_fast(chunk)
            rows += [_cut(encoding, max_length, self.keeps_end) for encoding in encodings]
            contents += [_array(encoding.ids)[~_added(encoding)] for encoding in encodings if content]
        return replace(Tokens.of_rows(rows), content=Tokens.of_rows(contents) if content else None)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id, as the vocabulary spells it; "?" for an unknown id."""
        return [self.backend.id_to_token(int(token)) or "?" for token in ids]


def _cut(encoding: "tokenizers.Encoding", max_length: int, keeps_end: bool) -> np.ndarray:
    """Returns the ids, int32, cut to max_length: the text's first ones, or its last ones if keeps_end.

    The tokens that the post-processor put around the text stay. The library could cut too, but by a setting of the
    tokenizer, which several threads may be using.
    """
    ids = _array(encoding.ids)
    if len(ids) <= max_length:
        return ids
    added = _added(encoding)
    of_text, room = np.flatnonzero(~added), max_length - int(added.sum())
    kept = added.copy()
    kept[of_text[max(0, len(of_text) - room) :] if keeps_end else of_text[:room]] = True
    return ids[kept]


def _added(encoding: "tokenizers.Encoding") -> np.ndarray:
    """Returns which tokens the post-processor put around the text, bool [tokens].

    A special token that the text itself holds is not one of them.
    """
    return _array(encoding.special_tokens_mask) == 1


def _array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)
