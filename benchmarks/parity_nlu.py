"""lm-eval's own numbers and those of `spa-bench run`, side by side, for docs/reference/parity.md (MMLU, WinoGrande, BBH).

    python benchmarks/parity_nlu.py [--tasks mmlu,winogrande,bbh,mini-nlu] [--documents 40] [--model FOLDER] [--json]

One greedy member on real rows (SPA_BENCH_DATA, or ../shared/data): the run goes through the command and its run folder, the
reference through `lm_eval.simple_evaluate(model="hf")` with lm-eval's own task definitions over the same files. Without
--model it is a seeded random Llama with a context of 4,096 tokens: it knows nothing, so that equal numbers are equal choices
and texts, not skill. mini-nlu is asked of the embedded model, which knows something. Exit code 1 when a number differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_data import data_folder

from spa_bench.cli import main as cli
from spa_bench.mini.data import MODEL

SUBJECTS = ("anatomy", "astronomy", "high_school_geography", "marketing", "virology")
BBH = ("navigate", "sports_understanding", "boolean_expressions")
CONTEXT = 4096


@dataclass(frozen=True)
class Compared:
    """One card of ours and the same task of lm-eval."""

    shots: int
    definitions: Mapping[str, tuple[str, Mapping[str, str]]]  # task -> (place of lm-eval's YAML, split -> file)
    settings: tuple[str, ...] = ()  # of our card
    metric: str = "acc"
    filter: str = "none"
    reference: Mapping[str, Any] | None = None  # what simple_evaluate is told beside
    changes: Mapping[str, Any] | None = None  # in lm-eval's definitions


COMPARED = {
    "mmlu": Compared(
        5,
        {f"mmlu_{s}": (f"mmlu/default/mmlu_{s}.yaml", {x: f"mmlu/{x}/{s}.jsonl" for x in ("test", "dev")}) for s in SUBJECTS},
        (f"subjects={json.dumps(SUBJECTS)}",),
    ),
    "winogrande": Compared(
        5,
        {"winogrande": ("winogrande/default.yaml", {"validation": "winogrande/validation.jsonl"})},
        changes={"training_split": None},
    ),
    "mini-nlu": Compared(0, {}),
    "bbh": Compared(
        3,
        {f"bbh_cot_fewshot_{s}": (f"bbh/cot_fewshot/{s}.yaml", {"test": f"bbh/{s}.jsonl"}) for s in BBH},
        (f"subjects={json.dumps(BBH)}", "max_gen_toks=32"),
        "exact_match",
        "get-answer",
        {"gen_kwargs": {"max_gen_toks": 32}},
    ),
}


def random_model(folder: Path) -> Path:
    """A seeded random Llama with the embedded tokenizer, as safetensors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": CONTEXT}))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=CONTEXT, initializer_range=0.1, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def ours(name: str, one: Compared, model: str, data: Path, documents: int, work: Path) -> dict[str, float]:
    """The run's own_scores, as `--json` has them: {"TASK,METRIC,FILTER": value}."""
    keys = [f"per_task={documents}", f"fewshot={one.shots}", 'too_long="cut"', *one.settings]
    keys += [f"local={json.dumps([str(data)])}"] if one.definitions else []
    settings = [part for key in keys for part in ("--set", f"task.options.{key}")]
    line = ["run", "--sampler", "base", "--task", name, "--model", model, "--n", "1", "--set", "decoding.temperature=0"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(
            [*line, *settings, "--threads", "1", "--device", "cpu", "--dtype", "float32", "--out", str(work), "--json"]
        )
    if code:
        raise SystemExit(code)
    metrics = json.loads(out.getvalue())[0]["metrics"]
    return {k.removeprefix("own[").removesuffix("]"): v["value"] for k, v in metrics.items() if k.startswith("own[")}


def theirs(name: str, one: Compared, model: Path, data: Path, documents: int, work: Path) -> dict[str, float]:
    """What lm-eval says with its own model class, {"TASK,METRIC,FILTER": value}; standard errors are left out."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    task, folder = name.replace("-", "_"), MODEL.parent / "nlu"
    if one.definitions:
        folder = work / name
        _define(name, one, data, folder, Path(lm_eval.__file__).parent / "tasks")
    with contextlib.redirect_stdout(sys.stderr):
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            device="cpu",
            batch_size=4,
            tasks=[task],
            num_fewshot=one.shots,
            limit=documents,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            **(one.reference or {}),
        )
    rows = ((f"{task},{key}", value) for task, row in found["results"].items() for key, value in row.items())
    return {key: float(value) for key, value in rows if key.count(",") == 2 and "_stderr" not in key}


def _define(name: str, one: Compared, data: Path, folder: Path, shipped: Path) -> None:
    """lm-eval's own tasks over the local files, and the group of them, as JSON, which is YAML too."""
    folder.mkdir()
    for task, (place, files) in one.definitions.items():
        own = {"data_files": {split: str(data / file) for split, file in files.items()}, "cache_dir": str(folder / "cache")}
        content = {"include": str(shipped / place), "task": task, "dataset_path": "json", "dataset_name": None}
        (folder / f"{task}.yaml").write_text(json.dumps({**content, "dataset_kwargs": own, **(one.changes or {})}))
    if name not in one.definitions:
        metric = {"metric": one.metric, "weight_by_size": True, "filter_list": one.filter}
        group = {"group": name, "task": list(one.definitions), "aggregate_metric_list": [metric]}
        (folder / f"{name}.yaml").write_text(json.dumps(group))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tasks", default=",".join(COMPARED), help="with commas (default: %(default)s)")
    parser.add_argument("--documents", type=int, default=40, help="of every single task (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="a folder with a causal LM; default: a seeded random one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args()
    data, found, different = data_folder("mmlu", "winogrande", "bbh"), {}, 0
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        (work / "model").mkdir()
        model = options.model or random_model(work / "model")
        for name in options.tasks.split(","):
            one = COMPARED[name]
            asked = (str(model), model) if one.definitions else ("embedded", MODEL)
            mine = ours(name, one, asked[0], data, options.documents, work / "runs")
            for key, value in theirs(name, one, asked[1], data, options.documents, work).items():
                same = mine.get(key) == value
                different += not same
                found[key] = {"lm_eval": value, "spa_bench": mine.get(key), "shots": one.shots}
                if not options.json:
                    says = "equal" if same else "DIFFERENT"
                    print(f"{key:56} {one.shots}-shot  lm-eval {value!r:20} spa-bench {mine.get(key)!r:20} {says}", flush=True)
    if options.json:
        print(json.dumps(found, indent=1))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
