"""The network as it is exported: whole rows to logits, in torch operations alone that torch.export can follow.

A classifier cuts long texts, makes windows and reads n-grams before its network runs. A graph has to do so by itself.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from submillion.model.classifier import TextClassifier
from submillion.model.ngrams import FIRST, PRIME, SECOND, Ngrams


class OnnxModule(nn.Module):
    """A network that takes rows as the exported tokenizer makes them.

    max_length, end_id: if the network has n-grams, the encoder reads a row's first max_length tokens, of which the
    last is then end_id. Without n-grams the tokenizer has cut the rows.
    """

    def __init__(self, network: TextClassifier, max_length: int = 0, end_id: int = 0) -> None:
        super().__init__()
        self.network, self.max_length, self.end_id = network, max_length, end_id

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns logits, fp32 [batch, labels], of input_ids and attention_mask, int64 [batch, length]."""
        network, ids, mask = self.network, input_ids, attention_mask
        if network.ngrams is not None:
            ids, mask = cut(ids, mask, self.max_length, self.end_id)
        if network.window:
            ids, mask, weights = windows(ids, mask, network.window, network.encoder.shape.pad_id)
            logits = weights @ network(ids, mask)
        else:
            logits = network(ids, mask)
        return logits if network.ngrams is None else logits + ngram_logits(network.ngrams, input_ids, attention_mask)


def cut(ids: Tensor, mask: Tensor, max_length: int, end_id: int) -> tuple[Tensor, Tensor]:
    """Returns the first max_length columns of ids and mask, int64 [batch, length]; a cut row ends in end_id."""
    is_cut = mask.sum(dim=1, keepdim=True) > max_length
    places = torch.arange(torch.sym_min(ids.shape[1], max_length), device=ids.device)
    ids, mask = ids.index_select(1, places), mask.index_select(1, places)
    return torch.where(is_cut & (places == max_length - 1), end_id, ids), mask


def windows(ids: Tensor, mask: Tensor, longest: int, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the windows of all rows as `Tokens.windows` makes them: their ids, mask and weights.

    Their ids and mask are int64 [windows, length]. The weights are fp32 [batch, windows]: the rows' logits are the
    means of their windows' logits with these weights.

    ids, mask: int64 [batch, length], padded on the right.
    """
    lengths = mask.sum(dim=1)
    inner = lengths - 2  # tokens between the first and the last
    counts = ((inner + longest - 3) // (longest - 2)).clamp_min(1)  # windows of each row
    numbers = torch.arange(torch.sym_max(1, (ids.shape[1] + longest - 5) // (longest - 2)), device=ids.device)
    row, number = (numbers < counts[:, None]).nonzero().unbind(dim=1)  # [windows]
    each = inner // counts
    more = (inner - each * counts)[row]  # this many windows of a row, its first ones, hold one token more
    start = number * each[row] + torch.minimum(number, more)
    sizes = each[row] + (number < more) + 2
    length = sizes.max().clamp_min(2).item()
    # The exporter has to know that there are windows, and that none is a single token, which would be broadcast.
    torch._check(row.shape[0] >= 1)
    torch._check(length >= 2)
    places = torch.arange(length, device=ids.device)
    is_token = places < sizes[:, None]
    is_end = (places == sizes[:, None] - 1) & (counts[row] > 1)[:, None]
    read = torch.where(is_end, lengths[row, None] - 1, torch.where(places == 0, 0, start[:, None] + places))
    read = read.clamp_max(ids.shape[1] - 1)
    is_of = torch.arange(ids.shape[0], device=ids.device)[:, None] == row
    return torch.where(is_token, ids[row[:, None], read], pad_id), is_token.long(), is_of.float() / counts[:, None]


def ngram_logits(ngrams: Ngrams, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Returns what `Ngrams.forward` gives for each row without its first token and its last, fp32 [batch, labels].

    input_ids, attention_mask: int64 [batch, length], padded on the right.
    """
    ids = F.pad(input_ids + 1, (0, 2))  # a row of one token has no pair
    mask = F.pad(attention_mask, (0, 2))
    singles = FIRST * ids[:, 1:-1]
    pairs = singles[:, :-1] + SECOND * ids[:, 2:-1]
    is_single, is_pair = mask[:, 2:], mask[:, 3:]  # another token follows, or there is none to count
    hashed = torch.cat([singles, pairs], dim=1) % PRIME % len(ngrams.weight)
    is_ngram = torch.cat([is_single, is_pair], dim=1).float()
    sums = torch.einsum("bnl,bn->bl", F.embedding(hashed, ngrams.weight), is_ngram)
    return sums / is_ngram.sum(dim=1, keepdim=True).clamp_min(1).sqrt()
