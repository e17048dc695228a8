"""Learns a similarity from triplets and keeps it in a folder, which then serves as an embedding model (--embedding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spa_bench.errors import UsageError
from spa_bench.metrics import similarity
from spa_bench.models.learned import is_learned, save_learned
from spa_bench.runs.origins import origins_json
from spa_bench.runs.reopen import load_encoder
from spa_bench.runs.triplets import read_triplets
from spa_bench.support.console import Reporter

if TYPE_CHECKING:
    from spa_bench.models.embed import HFEmbedder

HELD_OUT = 0.2  # of the groups
FEWEST = 10  # groups, of which two are held out


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """How a similarity is learned."""

    encoder: str  # a folder, a hub name, or "embedded"
    dims: int = 8  # coordinates
    seed: int = 0  # decides which groups are held out
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise UsageError(f"--dims is {self.dims}; it must be at least 1")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must be at least 0")


def learn_similarity(
    files: Sequence[Path], out: Path, options: LearnOptions, console: Reporter
) -> tuple[similarity.HeldOut, dict[str, object]]:
    """Learn from the triplets in `files`, write the similarity to `out`, and tell how it does on triplets it has not seen.

    A fifth of the groups is held out and never used for learning. The folder names the problems of all triplets, those that are
    held out too, so that what a run may use does not depend on a seed. Raises DataError, UsageError or ModelError.
    """
    if is_learned(options.encoder):
        raise UsageError(f"--encoder is {options.encoder}, which is a learned similarity itself; give the model below it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out is {out}, which is there already; give a new folder, or remove it")
    read = read_triplets(files)
    console.note(f"triplets: {read.line()}")
    groups = [t.group for t in read.triplets]
    if len(set(groups)) < FEWEST:
        raise UsageError(
            f"the triplets have {len(set(groups))} groups (problems or anchors), and a fifth is held out: "
            f"give at least {FEWEST} (a question counts in one group alone, whoever else was asked it)"
        )
    encoder = load_encoder(options.encoder, device=options.device)
    texts = sorted({text for t in read.triplets for text in (t.anchor, t.near, t.far)})
    vectors = _embedded(encoder, texts, console)
    place = {text: i for i, text in enumerate(texts)}
    triplets = np.array([[place[t.anchor], place[t.near], place[t.far]] for t in read.triplets], dtype=np.int64)
    if options.dims > vectors.shape[1]:
        raise UsageError(f"--dims is {options.dims}, and the embeddings have {vectors.shape[1]} numbers: give at most that")
    stay, aside = similarity.split(groups, share=HELD_OUT, seed=options.seed)
    seen = np.unique(triplets[stay])  # mean and components are of these texts alone
    where = np.full(len(texts), -1)
    where[seen] = np.arange(len(seen))
    with console.stage("learning"):
        projection = similarity.learn(
            vectors[seen], where[triplets[stay]], [groups[i] for i in stay], dims=options.dims, seed=options.seed
        )
    ranges = _ranges(projection.apply(vectors[seen]), options.dims)
    shown = similarity.held_out(projection, vectors, triplets[aside], [groups[i] for i in aside])
    if shared := int((where[triplets[aside]] >= 0).any(1).sum()):
        console.note(
            f"{shared} of the {len(aside)} held-out triplets have a text that was learned from too, so that they may be told "
            "right more often than new texts are: a 'group' in each row names what belongs together"
        )
    about: dict[str, object] = {
        "encoder": encoder.describe(),
        "numerics": encoder.numerics(),
        "dims": options.dims,
        "seed": options.seed,
        "triplets": {"hash": read.hash, "rows": read.rows, "questions": len(read.triplets), "outvoted": read.outvoted}
        | {"even": read.even, "learned_from": len(stay), "unnamed": read.unnamed},
        "origins": origins_json(read.origins),
        "ranges": ranges,
        "held_out": asdict(shown) | {"shared": shared},
    }
    save_learned(out, about, projection.mean, projection.weights)
    return shown, about


def _embedded(encoder: HFEmbedder, texts: Sequence[str], console: Reporter) -> similarity.FloatArray:
    """(N, d) embeddings of N texts."""
    rows = []
    with console.stage("embeddings") as progress:
        for row in encoder.embed(texts):
            rows.append(row)
            progress(len(rows), len(texts))
    return np.stack(rows).astype(np.float64)


def _ranges(coordinates: similarity.FloatArray, dims: int) -> list[list[float]]:
    """Of each of `dims` coordinates, the range that holds 98 % of the texts: the edges of an archive over it.

    Raises UsageError where the texts differ in fewer directions than there are coordinates.
    """
    low, high = np.quantile(coordinates, [0.01, 0.99], axis=0)
    if (told := int((high > low).sum())) < dims:
        advice = f"give at most {told}, or more texts" if told else "give texts that the encoder tells apart"
        raise UsageError(
            f"--dims is {dims}, and the {len(coordinates)} texts that are learned from differ in {told} directions; {advice}"
        )
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
