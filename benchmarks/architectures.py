"""Tiny seeded models of many architectures, each against plain transformers, PEFT and autograd: makes docs/models.md.

`python benchmarks/architectures.py` checks every architecture and writes the page; with names, it prints their lines.
"""

from __future__ import annotations

import argparse
import shutil
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
from torch import Tensor, nn

from spa_bench.cards.training import AttributionCard, LoraCard
from spa_bench.errors import SpaBenchError
from spa_bench.models.hf.model import HFModel, HFOptions
from spa_bench.models.hf.stacked_lora import Adapter, initial_down, write_adapter
from spa_bench.spa.attribution.influence import scores_at
from spa_bench.types import Asked, Decoding, Example, Member, Request

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT / "harness" / "spa_bench" / "mini" / "model"
VOCABULARY, CONTEXT = 1024, 384

# What a config may take, with a small value; a config gets those that it knows.
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": CONTEXT,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 32}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 6,
    "long_factor": [4.0] * 6,
    "original_max_position_embeddings": 128,
}


@dataclass(frozen=True)
class Architecture:
    """One line of the table: a model type of transformers and the settings of its tiny config beside SMALL."""

    name: str
    kind: str
    settings: dict[str, Any]


def _of(kind: str, name: str = "", **settings: Any) -> Architecture:
    return Architecture(name or kind, kind, settings)


_MLA = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12, "head_dim": 4,
    "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}  # fmt: skip
_LINEAR = {"num_hidden_layers": 4, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8}  # fmt: skip
_GEMMA = {"num_hidden_layers": 4, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, **WINDOW}  # fmt: skip
ARCHITECTURES = (
    _of("llama"),
    _of("llama", "llama, dynamic NTK rope", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
    _of("llama", "llama, llama3 rope", rope_parameters={"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    _of("llama", "llama, YaRN rope", rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
        "original_max_position_embeddings": 96}),
    _of("llama", "llama, longrope", rope_parameters={**LONGROPE, "rope_theta": 1e4, "factor": 6.0}),
    _of("llama4_text", attention_chunk_size=32, intermediate_size_mlp=64),
    _of("qwen2"),
    _of("qwen2", "qwen2, sliding windows", use_sliding_window=True, max_window_layers=1, **WINDOW),
    _of("qwen2_moe"),
    _of("qwen3"),
    _of("qwen3_moe"),
    _of("qwen3_next", **_LINEAR),
    _of("qwen3_5_text", **_LINEAR),
    _of("qwen3_5_moe_text", **_LINEAR),
    _of("mistral", **WINDOW),
    _of("mistral", "mistral, without a window", sliding_window=None),
    _of("ministral", **WINDOW),
    _of("ministral3"),
    _of("mixtral"),
    _of("gemma"),
    _of("gemma2", **WINDOW),
    _of("gemma3_text", **WINDOW),
    _of("gemma3n_text", activation_sparsity_pattern=[0.0] * 4, laurel_rank=8, **_GEMMA),
    _of("gemma4_text", global_head_dim=12, **_GEMMA),
    _of("vaultgemma", **WINDOW),
    _of("phi"),
    _of("phi3"),
    _of("phi3", "phi3, longrope", rope_parameters={**LONGROPE, "rope_theta": 1e4}, original_max_position_embeddings=128),
    _of("phimoe"),
    _of("gpt_neox"),
    _of("gpt_neox_japanese"),
    _of("starcoder2"),
    _of("starcoder2", "starcoder2, sliding window", **WINDOW),
    _of("opt", ffn_dim=64, word_embed_proj_dim=48),
    _of("gpt2", **GPT2),
    _of("gpt_bigcode", **GPT2),
    _of("gpt_neo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=32),
    _of("gptj", n_embd=48, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT),
    _of("codegen", n_embd=64, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT, n_ctx=CONTEXT),
    _of("openai-gpt", **GPT2),
    _of("ctrl", n_embd=48, n_layer=2, n_head=4, dff=64, n_positions=CONTEXT),
    _of("bloom", n_layer=2, n_head=4),
    _of("mpt", d_model=48, n_heads=4, n_layers=2, max_seq_len=CONTEXT),
    _of("falcon"),
    _of("falcon", "falcon, ALiBi", alibi=True),
    _of("stablelm", partial_rotary_factor=0.5, head_dim=12, num_key_value_heads=4),
    _of("cohere"),
    _of("cohere2", **WINDOW),
    _of("olmo"),
    _of("olmo2"),
    _of("olmo3", **WINDOW),
    _of("olmoe"),
    _of("granite"),
    _of("granitemoe"),
    _of("smollm3"),
    _of("glm"),
    _of("glm4"),
    _of("helium"),
    _of("nemotron"),
    _of("persimmon"),
    _of("biogpt"),
    _of("xglm", d_model=48, num_layers=2, attention_heads=4, ffn_dim=64),
    _of("deepseek_v2", **_MLA),
    _of("deepseek_v3", **_MLA),
    _of("glm4_moe"),
    _of("ernie4_5_moe"),
    _of("hunyuan_v1_moe"),
    _of("flex_olmo"),
    _of("minimax"),
    _of("arcee"),
    _of("apertus"),
    _of("gpt_oss", **WINDOW),
    _of("exaone4", **WINDOW),
    _of("seed_oss"),
    _of("ernie4_5"),
    _of("hunyuan_v1_dense"),
    _of("jetmoe"),
    _of("diffllama"),
    _of("lfm2"),
    _of("jamba", num_hidden_layers=4, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, mamba_d_state=4,
        mamba_dt_rank=4),
    _of("bamba", mamba_n_heads=6, mamba_d_head=16, mamba_d_state=8, attn_layer_indices=[1], mamba_n_groups=1,
        mamba_chunk_size=16),
    _of("falcon_h1", mamba_d_ssm=48, mamba_n_heads=4, mamba_d_head=12, mamba_d_state=8, mamba_chunk_size=16),
    _of("mamba"),
    _of("mamba2", num_heads=6, head_dim=16, state_size=8, n_groups=1, chunk_size=16),
    _of("falcon_mamba"),
    _of("recurrent_gemma", num_hidden_layers=3, attention_window_size=32, lru_width=48),
    _of("rwkv", attention_hidden_size=48, context_length=CONTEXT),
    _of("xlnet", d_model=48, n_layer=2, n_head=4, d_head=12, d_inner=64),
    _of("bert"),
)  # fmt: skip


def small_network(architecture: Architecture) -> Any:
    """The tiny network of `architecture`, seeded, with weights wide enough for texts to differ."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    made = CONFIG_MAPPING[architecture.kind]
    known = set(made().to_dict()) | set(made.attribute_map)
    settings = architecture.settings
    small = {name: v for name, v in SMALL.items() if name in known and made.attribute_map.get(name) not in settings}
    config = made(**small | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.6 / parameter.shape[-1] ** 0.5 if parameter.shape[-1] > 8 else 0.2)
    return network


def save(architecture: Architecture, folder: Path) -> None:
    """Write the tiny network with the embedded model's tokenizer into `folder`."""
    network = small_network(architecture)
    network.generation_config.eos_token_id = 0
    network.save_pretrained(str(folder))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)


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
    worst = 0.0
    for scored in case.ours.option_scores(asked, [Member("base", None, Decoding())]):
        prompt = PROMPTS[int(scored.problem)]
        for (head, tail), got in zip(
            case.ours._scorer.encoder.pairs([(prompt, t) for t in texts]), scored.logprobs[0], strict=True
        ):
            logprobs = plain_logprobs(case.theirs, [*head, *tail])
            wanted = sum(float(logprobs[len(head) - 1 + k, token]) for k, token in enumerate(tail))
            worst = max(worst, abs(float(got) - wanted))
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
    worst = 0.0
    for (prompt, completion), got in zip(pairs, case.ours.next_token_logprobs(pairs, members), strict=True):
        assert got is not None
        head, tail = case.ours.encode_pair(prompt, completion)
        for mine, network in zip(got, networks, strict=True):
            wanted = plain_logprobs(network, [*head, *tail])[len(head) - 1 : -1]
            worst = max(worst, float((torch.from_numpy(mine) - wanted).abs().max()))
    return "" if worst < TOLERANCE else f"off by {worst:.2g} nats"


def attribution(case: Case) -> str:
    """Influence without curvature at LoRA's start, against products of autograd's gradients, one example at a time."""
    card = AttributionCard(curvature="identity")
    found = scores_at(case.ours, None, PAIRS, PAIRS[:2], card, LORA, seed=1, progress=lambda *_: None)
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
        results, notes = {}, list(case.ours.notes)
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
        page = ROOT / "docs" / "models.md"
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
