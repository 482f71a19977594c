"""Text to token ids, over the `tokenizers` library, equal to transformers' fast tokenizers."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from submillion.data.cleaning import cleaning_normalizer
from submillion.data.spelling import Spelling
from submillion.data.vocabulary import (
    READERS,
    WHOLE,
    add_tokens,
    files_hash,
    no_tokenizer,
    tokenizer_files,
    too_many_ids,
)
from submillion.errors import BaseModelError

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
    content: "Tokens | None" = None  # the same rows whole, not cut, without special tokens; where n-grams are read

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of_rows(cls, rows: Sequence[np.ndarray]) -> "Tokens":
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.concatenate(rows, dtype=np.int32) if rows else np.zeros(0, np.int32)
        return cls(flat, lengths, np.cumsum(lengths) - lengths)

    @classmethod
    def joined(cls, parts: "Sequence[Tokens]") -> "Tokens":
        """The rows of each part after those of the part before."""
        lengths = [part.lengths for part in parts]
        flats = [part.flat for part in parts]
        starts = [part.starts + sum(map(len, flats[:at])) for at, part in enumerate(parts)]
        contents = [part.content for part in parts if part.content is not None]
        content = cls.joined(contents) if len(contents) == len(parts) else None
        return cls(np.concatenate(flats), np.concatenate(lengths), np.concatenate(starts), content)

    def take(self, rows: np.ndarray) -> "Tokens":
        """These rows, in this order: views into the same array."""
        content = None if self.content is None else self.content.take(rows)
        return Tokens(self.flat, self.lengths[rows], self.starts[rows], content)

    def windows(self, longest: int) -> "tuple[Tokens, np.ndarray]":
        """Rows in windows of at most `longest` tokens, and the row of each window, int64 [windows].

        A longer row's tokens are shared equally among as few windows as hold them, each between the row's own first and
        last token. All others, and all where longest is 0, are as they are; the windows have no content.
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
        """The ids of the rows one after another, without what lies between them: int32 [tokens of these rows]."""
        before = np.cumsum(self.lengths) - self.lengths
        return self.flat[np.repeat(self.starts - before, self.lengths) + np.arange(self.lengths.sum())]

    def row(self, index: int) -> np.ndarray:
        start = self.starts[index]
        return self.flat[start : start + self.lengths[index]]


class Tokenizer:
    """A fast tokenizer without padding. `fingerprint` is the SHA-256 of the files it was read from.

    spelling: corrects each text first. It is no part of `to_str`, for no tokenizer's JSON can hold it. keeps_end: of a
    long text the end is kept, not the beginning.
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
        """From tokenizer.json, or built from vocab.json + merges.txt, or from vocab.txt, and the tokens added to them.

        vocab_size: that of the encoder which reads the ids. Raises BaseModelError where none of these files is whole,
        where added tokens have ids that do not follow on, or where the encoder has no embedding for an id.
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
        """From `to_str`. Raises BaseModelError where it is no tokenizer's JSON."""
        from tokenizers import Tokenizer as Backend

        try:
            backend = Backend.from_str(text)
            return cls(backend, fingerprint, spelling, keeps_end=(backend.truncation or {}).get("direction") == "left")
        except Exception as error:  # `tokenizers` raises bare Exception
            raise BaseModelError(f"the saved tokenizer cannot be read: {error}") from None

    def clean_texts(self) -> None:
        """Cleans every text first from here on, as submillion.data.cleaning says; so does a copy made with `to_str`."""
        from tokenizers import Tokenizer as Backend

        self.backend.normalizer = cleaning_normalizer(self.backend.normalizer)
        state = json.loads(self.backend.to_str())
        for token in state["added_tokens"]:
            # Looked for in cleaned texts, it is cleaned too: <unk>, as a tag, becomes a space and matches every one.
            token["normalized"] = False
        self.backend = Backend.from_str(json.dumps(state))

    def to_str(self) -> str:
        """Returns the tokenizer's JSON. It truncates nothing, but says which end a longer text would lose."""
        if not self.keeps_end:
            return self.backend.to_str()
        return json.dumps(json.loads(self.backend.to_str()) | {"truncation": _KEEPS_END}, ensure_ascii=False)

    def encode(self, texts: Sequence[str], max_length: int, content: bool = False) -> Tokens:
        """Ids with special tokens, each row cut to max_length. Threads are the library's own.

        content: with `Tokens.content` too.
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
        """Each id's own token, as the vocabulary spells it."""
        return [self.backend.id_to_token(int(token)) or "?" for token in ids]


def _cut(encoding: "tokenizers.Encoding", max_length: int, keeps_end: bool) -> np.ndarray:
    """Returns the ids: for a longer row the text's first ones, or its last ones, between what the post-processor put
    around it.

    The library could cut, but as a setting of the tokenizer that several threads may be encoding with.
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
    """bool [tokens]: what the post-processor put around the text; a special token that the text itself holds is not."""
    return _array(encoding.special_tokens_mask) == 1


def _array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)
