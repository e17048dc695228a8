"""What benchmarks of several contenders share: a model of fixed answer length, peers, random adapters, turns, ratios."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spa_bench.errors import SpaBenchError
from spa_bench.models.engine import Draw, Drawn
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.products import least_rows
from spa_bench.models.hf.stacked_lora import Adapter, target_modules, write_adapter
from spa_bench.types import Decoding, Key, Member, Request


def write_random_adapters(
    network: torch.nn.Module, folder: Path, *, members: int, rank: int, seed: int, model: str
) -> list[Path]:
    """Folders of seeded random adapters of `network`, that of `model`, on all linear layers, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    folders = []
    for member in range(members):
        factors = {}
        for path in target_modules(network):
            layer: Any = network.get_submodule(path)
            down = torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
            factors[path] = down, torch.randn(layer.out_features, rank, generator=generator) * 0.02
        folders.append(folder / f"member-{member}")
        write_adapter(Adapter(factors, rank, 2.0 * rank), folders[-1], base_model=model)
    return folders


class FixedLength(HFModel):
    """HFModel that takes end tokens for ordinary ones, and keeps the tokens of its answers."""

    def __init__(self, path: str, options: HFOptions):
        super().__init__(path, options)
        self.drawn: dict[Key, list[int]] = {}
        # no public way: ending early is what everybody else wants
        self.codec.ends = frozenset()
        draw = self.hf.draw

        def keep(draws: Sequence[Draw]) -> Iterator[Drawn]:
            for drawn in draw(draws):
                self.drawn[drawn.key] = list(drawn.tokens)
                yield drawn

        self.hf.draw = keep  # type: ignore[method-assign]

    def answer(self, texts: Sequence[str], adapters: Sequence[Path | None], new_tokens: int) -> list[list[int]]:
        """The greedy new tokens of each text; adapter i has the i-th part of the texts, all parts of one size."""
        decoding = Decoding(temperature=0.0, max_new_tokens=new_tokens)
        members = [Member(f"m{i}", adapter, decoding) for i, adapter in enumerate(adapters)]
        requests = [
            Request(
                problem_id=f"row-{i}",
                member=i * len(members) // len(texts),
                draw=0,
                kind="generate",
                prompt=text,
                decoding=decoding,
                seed=i,
            )
            for i, text in enumerate(texts)
        ]
        for _ in self.generate(requests, members):
            pass
        return [self.drawn[request.key] for request in requests]


class Peer:
    """A network of transformers or PEFT, driven by generate(), which never ends early either."""

    def __init__(self, network: Any, tokenizer: Any, new_tokens: int):
        self.network = network.eval()
        self._tokenizer = tokenizer
        self._new_tokens = new_tokens
        inner = network.get_base_model() if hasattr(network, "get_base_model") else network
        inner.generation_config.eos_token_id = None

    @torch.inference_mode()
    def generate(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """New tokens of each row, text to text."""
        batch = self._tokenizer(list(texts), return_tensors="pt", padding=True).to(self.network.device)
        length, pad = batch["input_ids"].shape[1], self._tokenizer.pad_token_id
        out = self.network.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self._new_tokens,
            do_sample=False,
            pad_token_id=pad,
            **options,
        )
        new: list[list[int]] = out[:, length:].tolist()
        self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return new


def peers(model: str, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Callable[[Sequence[Path]], Any]]:
    """The tokenizer, padding on the left, and what loads a network with some adapters (m0, m1, ...), or none."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def load(folders: Sequence[Path]) -> Any:
        network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(device)
        if not folders:
            return network
        network = PeftModel.from_pretrained(network, str(folders[0]), adapter_name="m0")
        for i, folder in enumerate(folders[1:], 1):
            network.load_adapter(str(folder), adapter_name=f"m{i}")
        return network

    return tokenizer, load


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds by `clock` of each contender in each round; every round begins with the next contender."""
    order = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(rounds):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one contender's seconds over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def versions(*packages: str) -> dict[str, str]:
    """Those of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def add_rows(parser: argparse.ArgumentParser, usual: int) -> None:
    """Add the option --rows to `parser`; `usual` is its value where it is not given and the members need no more rows."""
    help_ = f"rows of the batch (default: {usual}, or more where the members need them on this CPU)"
    parser.add_argument("--rows", type=int, help=help_)


def check_counts(parser: argparse.ArgumentParser, options: dict[str, Any], names: Sequence[str], *, usual: int) -> None:
    """Fill in the rows, of which `usual` is the usual number, where none are given.

    End with the parser's error unless the options `names` and the rows are 1 or more and the rows divide over the members.
    """
    least = least_rows(torch.device("cpu"))
    if options["rows"] is None and options["members"] > 0:
        options["rows"] = options["members"] * max(-(-usual // options["members"]), least)
    for name in ("members", "rows", *names):
        if options[name] < 1:
            parser.error(f"--{name.replace('_', '-')} {options[name]} is too small; give 1 or more")
    rows, members = options["rows"], options["members"]
    if rows % members or rows // members < least:
        parser.error(f"--rows {rows} must be a multiple of --members {members}, at least {least} a member")


def reported(run: Callable[[], dict[str, Any]], table: Callable[[dict[str, Any]], str] | None) -> dict[str, Any] | None:
    """The result of `run`, printed by `table` or as JSON; None, and one line on stderr, where it cannot run."""
    try:
        result = run()
    except SpaBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return None
    print(json.dumps(result, indent=2) if table is None else table(result))
    return result
