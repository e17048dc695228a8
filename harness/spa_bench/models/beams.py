"""Diverse beam search (Vijayakumar et al. 2016, arXiv 1610.02424), independent of the network that it searches.

G groups of W beams advance one after the other at every step; a group pays a penalty λ for each time that an earlier group
chose the same token at this step (Hamming diversity). As in the paper the penalties add up along a beam. The paper leaves some
rules open, which are fixed here: scores are divided by length ** power whenever beams are compared; an ended beam keeps its
place until a better one takes it; the search continues until all beams have ended. Ties go to the earlier beam, then to the
smaller token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Groups = tuple[tuple["Beam", ...], ...]


@dataclass(frozen=True)
class BeamSearch:
    """The settings of a search."""

    groups: int  # G
    width: int  # W: beams of a group
    penalty: float  # λ: nats a token that an earlier group chose at the same step
    length_power: float = 1.0  # scores are divided by length ** this; 0: plain sums, which favour short answers


@dataclass(frozen=True)
class Beam:
    """One beam: the tokens of a possible answer."""

    tokens: tuple[int, ...] = ()
    score: float = 0.0  # sum of log-probabilities, in nats, minus penalties
    ended: bool = False
    parent: int = 0  # its place in the group one step before

    def normalised(self, power: float) -> float:
        """The score by which beams are compared."""
        return self.score / float(max(1, len(self.tokens)) ** power)


def start(search: BeamSearch) -> Groups:
    """G groups of one empty beam, which the first step spreads to W."""
    return ((Beam(),),) * search.groups


def candidates_needed(search: BeamSearch) -> int:
    """The number of likeliest tokens of a beam that `advance` needs to be exact: at most (G - 1) · W tokens have penalties."""
    return search.groups * search.width


def advance(groups: Groups, likely: Mapping[tuple[int, int], Sequence[tuple[int, float]]], search: BeamSearch) -> Groups:
    """The groups one step later, each with its best beam first.

    `likely` has (token, log-probability) for each beam that has not ended, by (group, place in the group).
    """
    made = []
    chosen: Counter[int] = Counter()  # tokens of earlier groups at this step
    for g, group in enumerate(groups):
        candidates = []
        for b, beam in enumerate(group):
            if beam.ended:
                candidates.append(Beam(beam.tokens, beam.score, True, b))
                continue
            for token, logprob in likely[g, b]:
                candidates.append(Beam((*beam.tokens, token), beam.score + logprob - search.penalty * chosen[token], False, b))
        candidates.sort(key=lambda beam: (-beam.normalised(search.length_power), beam.parent, beam.tokens))
        kept = tuple(candidates[: search.width])
        chosen.update(beam.tokens[-1] for beam in kept if not beam.ended)
        made.append(kept)
    return tuple(made)
