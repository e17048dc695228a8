"""Tiny seeded models of many architectures, each against plain transformers, PEFT and autograd: makes docs/reference/models.md.

`python benchmarks/architectures.py` checks every architecture and writes the page; with names, it prints their lines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architecture_parts.networks import ARCHITECTURES, ROOT, Architecture, save
from torch import Tensor, nn

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import SpaBenchError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Asked, Decoding, Example, Member, Request

# what each column compares --------------------------------------------------------------------------------------------

PROMPTS = (
    "def f(x):\n",
    'def total(numbers):\n    """Return the sum of the numbers."""\n    result = 0\n    for number in numbers:\n',
    "# one\n" + "x = x + 1\n" * 12,
)
PAIRS = [Example("def f(x):\n", f"    return x + {i}\n" * i) for i in (1, 2, 3, 4)]
LORA = LoraCard(rank=2, alpha=4.0)
NEW = 10  # tokens
TOLERANCE = 1e-3  # of log-probabilities, in nats


class Case:
    """A tiny model in a folder: ours, and as transformers loads it."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForCausalLM

        self.folder = folder
        self.ours = HFModel(str(folder), HFOptions(device="cpu", threads=1), name="tiny")
        self.load: Callable[[], Any] = lambda: AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
        self.theirs = self.load()

    def adapters(self) -> list[Path]:
        """Two random adapters on every linear layer that can be adapted, of different ranks."""
        made = []
        layers = self.ours.lora_layers("all-linear")
        for number, rank in enumerate((4, 2)):
            generator = torch.Generator().manual_seed(number)
            factors = {}
            for path, layer in layers.items():
                low = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
                factors[path] = low, 0.3 * torch.randn(layer.out_features, rank, generator=generator)
            folder = self.folder / f"adapter-{number}"
            write_adapter(Adapter(factors, rank, 2.0 * rank), folder, base_model="tiny", network=self.ours.network)
            made.append(folder)
        return made


@torch.inference_mode()
def plain_logprobs(network: Any, ids: Sequence[int]) -> Tensor:
    """Log-probabilities (T, V) behind each token of one row, without mask or cache."""
    return network(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().log_softmax(-1)


def text(case: Case) -> str:
    """Greedy texts of a ragged batch, against transformers.generate row by row, or plain readings where that fails."""
    decoding = Decoding(max_new_tokens=NEW)
    requests = [
        Request(problem_id=str(i), member=0, draw=0, kind="generate", prompt=p, decoding=decoding, seed=1)
        for i, p in enumerate(PROMPTS)
    ]
    found = {c.key.problem: c.text for c in case.ours.generate(requests, [Member("base", None, decoding)])}
    for number, prompt in enumerate(PROMPTS):
        ids = case.ours.codec.prompt(prompt)
        if found[str(number)] != case.ours.codec.text(generated(case.theirs, ids)):
            return f"text {number} differs"
    return ""


@torch.inference_mode()
def generated(network: Any, ids: Sequence[int]) -> list[int]:
    """The greedy tokens of transformers for one row."""
    try:
        row = torch.tensor([list(ids)])
        whole = network.generate(
            input_ids=row, attention_mask=torch.ones_like(row), do_sample=False, max_new_tokens=NEW, pad_token_id=0
        )
        return list(whole[0, len(ids) :].tolist())
    except (RuntimeError, TypeError, ValueError, AttributeError):  # its own cache does not work for this architecture
        new: list[int] = []
        while len(new) < NEW and 0 not in new:
            new.append(int(plain_logprobs(network, [*ids, *new])[-1].argmax()))
        return new


def options(case: Case) -> str:
    """Log-likelihoods of four options after each prompt, against plain readings."""
    texts = (" A", " number", "    return x + 1\n", " not")
    asked = [Asked(str(i), tuple((p, t) for t in texts), len(texts)) for i, p in enumerate(PROMPTS)]
    found: list[float] = []
    for scored in case.ours.option_scores(asked, [Member("base", None, Decoding())]):
        prompt = PROMPTS[int(scored.problem)]
        for (head, tail), got in zip(case.ours.encoder.pairs([(prompt, t) for t in texts]), scored.logprobs[0], strict=True):
            logprobs = plain_logprobs(case.theirs, [*head, *tail])
            wanted = sum(float(logprobs[len(head) - 1 + k, token]) for k, token in enumerate(tail))
            found.append(abs(float(got) - wanted))
    return off(found)


def off(differences: Sequence[float]) -> str:
    """What is wrong with log-probabilities that are so far from those wanted, in nats; NaN is never near."""
    worst = float(np.max(differences))  # which is NaN where one of them is
    return "" if worst < TOLERANCE else f"off by {worst:.2g} nats"


def forced(case: Case) -> str:
    """Distributions of every next token of two pairs, as divergences need them, against plain readings."""
    return _forced(case, [None], [case.theirs])


def lora(case: Case) -> str:
    """Distributions with two stacked adapters and the base, against PEFT with one at a time, or weights with B A added."""
    from peft import PeftModel

    folders = case.adapters()
    unread = case.ours.peft_differs(folders[0])
    networks = [case.theirs]
    for folder in folders:
        if not unread:
            networks.append(PeftModel.from_pretrained(case.load(), str(folder)).eval())
        else:
            networks.append(_merged(case.load(), folder))
    why = _forced(case, [None, *folders], networks)
    return why or (f"right; PEFT itself cannot read it: {unread}" if unread else "")


def _merged(network: Any, folder: Path) -> Any:
    from spa_bench.models.hf.stacked_lora import read_adapter

    adapter = read_adapter(folder)
    for path, (low, high) in adapter.factors.items():
        network.get_submodule(path).weight.data += adapter.scale * high @ low
    return network


def _forced(case: Case, adapters: Sequence[Path | None], networks: Sequence[Any]) -> str:
    pairs = [(PAIRS[0].prompt, PAIRS[0].completion), (PROMPTS[1], PAIRS[3].completion)]
    members = [Member(str(i), adapter, Decoding()) for i, adapter in enumerate(adapters)]
    found: list[float] = []
    for (prompt, completion), got in zip(pairs, case.ours.next_token_logprobs(pairs, members), strict=True):
        assert got is not None
        head, tail = case.ours.encode_pair(prompt, completion)
        for mine, network in zip(got, networks, strict=True):
            wanted = plain_logprobs(network, [*head, *tail])[len(head) - 1 : -1]
            found.append(float((torch.from_numpy(mine) - wanted).abs().max()))
    return off(found)


def attribution(case: Case) -> str:
    """Influence without curvature at LoRA's start, against products of autograd's gradients, one example at a time."""
    card = AttributionCard(curvature="identity")
    found = scores_at(case.ours, None, PAIRS, queries=PAIRS[:2], card=card, lora=LORA, seed=1, progress=lambda *_: None)
    generator, network = torch.Generator().manual_seed(1), case.load().requires_grad_(False)
    downs = {
        path: initial_down(layer.base.in_features, LORA.rank, generator)
        for path, layer in case.ours.lora_layers("all-linear").items()
    }
    rows = []
    weights = [network.get_submodule(path).weight.requires_grad_() for path in downs]
    for pair in PAIRS:
        head, tail = case.ours.encode_pair(pair.prompt, pair.completion)
        logits = network(input_ids=torch.tensor([head + tail]), use_cache=False).logits[0]
        loss = nn.functional.cross_entropy(logits[len(head) - 1 : -1].float(), torch.tensor(tail))
        gradients = torch.autograd.grad(loss, weights)
        rows.append(torch.cat([(2 * g @ low.T).ravel() for g, low in zip(gradients, downs.values(), strict=True)]).numpy())
    wanted = np.stack(rows) @ np.stack(rows[:2]).T
    worst = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return "" if worst < 2e-3 else f"off by {worst:.2g} of the largest score"


COLUMNS: dict[str, Callable[[Case], str]] = {
    "text": text,
    "options": options,
    "KL": forced,
    "LoRA": lora,
    "attribution": attribution,
}


@dataclass(frozen=True)
class Checked:
    """One line of the table: the result of each column ("" is right), and what is said when the model is loaded."""

    architecture: Architecture
    results: dict[str, str]
    notes: tuple[str, ...]
    same_bytes: bool = False  # the probe found the bytes of a row the same in every batch

    @property
    def right(self) -> bool:
        """Whether every column is right."""
        return not any(self.results.values())


def check(architecture: Architecture, columns: Sequence[str] = tuple(COLUMNS)) -> Checked:
    """Make the tiny model and compare each of `columns`; a refusal is the line that a user gets."""
    with quiet(), tempfile.TemporaryDirectory() as folder:
        save(architecture, Path(folder))
        try:
            case = Case(Path(folder))
        except SpaBenchError as error:
            return Checked(architecture, dict.fromkeys(columns, "refused"), (str(error),))
        # nothing of the tokenizer, which is the embedded model's: some architectures load it as one of another class
        results, notes = {}, [note for note in case.ours.notes if not note.startswith("tokenizer: ")]
        for name in columns:
            try:
                results[name] = COLUMNS[name](case)
            except SpaBenchError as error:
                results[name] = "refused"
                if str(error) not in notes:
                    notes.append(str(error))
        if "LoRA" in columns and results["LoRA"] != "refused" and (note := case.ours.lora_note("all-linear")):
            notes.append(note)
        if results.get("LoRA", "").startswith("right; "):
            notes.append(results["LoRA"].removeprefix("right; "))
            results["LoRA"] = ""
        return Checked(architecture, results, tuple(notes), case.ours.batch_free([("x", 1)]))


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block neither transformers nor PEFT speaks."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# the page -------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Check the architectures that are named, or all of them, and then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="print the lines of these instead of writing the page")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    checked = []
    for architecture in ARCHITECTURES:
        if names and architecture.name not in names and architecture.kind not in names:
            continue
        one = check(architecture)
        checked.append(one)
        print(_line(one), *(f"    {note}" for note in one.notes), sep="\n", flush=True)
    if not names:
        page = ROOT / "docs" / "reference" / "models.md"
        before = page.read_text(encoding="utf-8").partition("<!-- table -->")[0]
        page.write_text(before + "<!-- table -->\n" + table(checked), encoding="utf-8")
    if any("differ" in result or "off by" in result for one in checked for result in one.results.values()):
        sys.exit(1)


def _line(one: Checked) -> str:
    return f"{one.architecture.name}: " + ", ".join(f"{name} {result or 'right'}" for name, result in one.results.items())


def table(checked: Sequence[Checked]) -> str:
    """The table in Markdown, and the lines of what is slower or refused."""
    import transformers

    right = sum(one.right for one in checked)
    lines = [
        f"\n{len(checked)} tiny models, {right} right in every column (transformers {transformers.__version__}, torch "
        f"{torch.__version__.split('+')[0]}, float32, CPU).\n",
        f"| architecture | {' | '.join(COLUMNS)} | same bytes | what is said |",
        "|---|" + "---|" * (len(COLUMNS) + 2),
    ]
    for one in checked:
        cells = [one.results[name] or "right" for name in COLUMNS]
        said = "<br>".join(note.replace("|", "\\|").replace("<", "&lt;") for note in one.notes)
        lines.append(f"| {one.architecture.name} | {' | '.join(cells)} | {'yes' if one.same_bytes else 'no'} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
