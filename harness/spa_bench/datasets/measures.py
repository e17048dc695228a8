"""The table of measures: what each is called, which side of a data set it is of, and what its number means in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Side = Literal["quality", "diversity", "complexity", "similarity"]
Of = Literal["pairs", "m", "all"]
"""What a number is of: the mean over pairs; the set, on subsets of m pairs, the same m for all sets; or all pairs measured."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One column of the tables."""

    side: Side
    head: str  # of the column
    of: Of
    said: str  # what the number means
    digits: int = 3


ORDERS = ("0.1", "0.5", "1", "2", "inf")
KERNELS: Mapping[str, str] = {
    "ngram": "words and pairs of words in a row (prompt and answer)",
    "embedding": "the vector of prompt and answer by the encoder that the head names",
    "gradient": "the gradient of the loss with respect to LoRA's factors, projected to 1,024 numbers: how a pair would train",
}

MEASURES: Mapping[str, Measure] = {
    "code": Measure(side="quality", head="code", of="pairs", said="share of answers that hold a program, by their lines"),
    "parses": Measure(
        side="quality", head="parses", of="pairs", said="of the answers that hold a program, the share that is valid Python"
    ),
    "runs": Measure(
        side="quality",
        head="runs",
        of="pairs",
        said="of these, the share that runs to its end in the sandbox: standard library and numpy, no input, 3 s of CPU time",
    ),
    "passes": Measure(
        side="quality", head="passes", of="pairs", said="of those whose row has tests of its own, the share that passes them"
    ),
    "nats": Measure(
        side="quality",
        head="nats a token",
        of="pairs",
        said="mean loss of an answer's tokens under the model, given the prompt: how little the model expects them",
    ),
    "perplexity": Measure(
        side="quality",
        head="perplexity",
        of="pairs",
        said="e to the power of nats a token: 1 is what the model expects fully",
        digits=2,
    ),
    "judge": Measure(side="quality", head="judge", of="pairs", said="mean rating of the judge model, from 1 to 10", digits=2),
    "vendi[ngram,q=1]": Measure(
        side="diversity", head="Vendi n-gram", of="m", said="effective number of different pairs among m, by n-grams", digits=1
    ),
    "vendi[embedding,q=1]": Measure(
        side="diversity", head="Vendi embedding", of="m", said="the same by the vectors of the encoder", digits=1
    ),
    "vendi[gradient,q=1]": Measure(
        side="diversity",
        head="Vendi gradient",
        of="m",
        said="the same by the pairs' gradients: the effective number of different directions in which they train",
        digits=1,
    ),
    "distinct_1": Measure(side="diversity", head="distinct-1", of="m", said="different words / all words, of m pairs together"),
    "distinct_2": Measure(side="diversity", head="distinct-2", of="m", said="the same of pairs of words in a row"),
    "self_bleu": Measure(
        side="diversity",
        head="self-BLEU",
        of="m",
        said="mean BLEU (sacrebleu's) of each of m pairs against the others, 0 to 1: higher is less diverse",
    ),
    "coverage": Measure(
        side="diversity",
        head="coverage",
        of="m",
        said="share of the clusters that m pairs reach; the head says of whom the clusters are",
    ),
    "clusters": Measure(
        side="diversity",
        head="clusters",
        of="m",
        said="effective number of clusters that m pairs reach, e to the power of the entropy of their shares",
        digits=1,
    ),
    "near_duplicates": Measure(
        side="diversity",
        head="near-duplicates",
        of="m",
        said="share of m pairs that have a twin among them (Jaccard similarity of 5-word shingles of 0.7 or more)",
    ),
    "near_duplicates[all]": Measure(
        side="diversity",
        head="near-duplicates, all",
        of="all",
        said="share of all pairs measured that have an earlier twin: what leaving out would leave out; it grows with the set",
    ),
    "characters": Measure(side="complexity", head="characters", of="pairs", said="of an answer", digits=0),
    "tokens": Measure(
        side="complexity", head="tokens", of="pairs", said="of an answer, by the model's tokenizer, its end counted", digits=1
    ),
    "ast_depth": Measure(
        side="complexity",
        head="AST depth",
        of="pairs",
        said="nodes on the longest way down the syntax tree, of answers that parse",
        digits=2,
    ),
    "ast_kinds": Measure(
        side="complexity",
        head="AST kinds",
        of="pairs",
        said="different kinds of nodes in the syntax tree, of answers that parse",
        digits=2,
    ),
    "loss": Measure(
        side="complexity",
        head="loss",
        of="pairs",
        said="mean over pairs of the answer's nats a token: as training sees it, short answers counting as much",
    ),
    "compression_ratio[pair]": Measure(
        side="complexity",
        head="gzip, pair",
        of="pairs",
        said="bytes of a pair / its bytes after gzip: higher is simpler or more repetitive",
        digits=2,
    ),
    "compression_ratio[set]": Measure(
        side="complexity",
        head="gzip, set",
        of="m",
        said="the same of m pairs joined: what is above the column before is shared between pairs",
        digits=2,
    ),
    "mauve[frontier]": Measure(
        side="similarity",
        head="divergence frontier",
        of="m",
        said="MAUVE's formula on k-means histograms of our vectors (MAUVE itself takes GPT-2's): 1 for equal sets",
    ),
    "mauve[mauve-text]": Measure(
        side="similarity",
        head="MAUVE (mauve-text)",
        of="m",
        said="the package mauve-text on the same vectors: 1 for equal sets",
    ),
    "frechet": Measure(
        side="similarity",
        head="Fréchet",
        of="m",
        said="squared Fréchet distance of the vectors: lower is closer, above 0 for finite sets",
    ),
    "mmd2": Measure(
        side="similarity",
        head="MMD²",
        of="m",
        said="unbiased squared maximum mean discrepancy of the vectors: about 0 for equal sets",
        digits=4,
    ),
    "auc": Measure(
        side="similarity",
        head="classifier AUC",
        of="m",
        said="how well a logistic regression tells the set from the target on pairs it has not seen: 0.5 not at all, 1 always",
    ),
}
"""Name -> measure, in the order of the tables."""
