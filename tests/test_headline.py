"""The headline command: SPA by influence with any causal LM on real HumanEval prompts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spa_bench.cli import main as cli
from spa_bench.models.hf.model import HFModel
from spa_bench.tasks.code import read_problems

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.jsonl"
    bodies = ["    return sum(nums)\n", "    return [n for n in nums if n > 3]\n", "    return text.upper()\n"]
    rows = [{"prompt": f"def f{i}(nums):\n", "completion": bodies[i % 3]} for i in range(50)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def command(
    data: Path,
    pairs: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs `spa-bench run --sampler spa-influence --task humaneval`, small, with further arguments."""
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))

    def run(*arguments: str) -> tuple[int, str, str]:
        line = f"run --sampler spa-influence --task humaneval --limit 5 --first --model {tiny_folder} --data {pairs}"
        settings = ["members=2", "lora.steps=2", "lora.rank=4", "task.max_new_tokens=16", "partition.method=balanced"]
        options = [part for s in settings for part in ("--set", s)]
        capsys.readouterr()
        options += ["--threads", "1", "--device", "cpu"]
        code = cli.main([*line.split(), *options, "--out", str(tmp_path / "runs"), *arguments])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.fixture
def sandboxed(command: Command, bwrap: str) -> Command:
    return lambda *arguments: command("--sandbox", bwrap, *arguments)


def only_run(tmp_path: Path) -> Path:
    [path] = (tmp_path / "runs").iterdir()
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_spa_by_influence_runs_on_real_prompts_from_end_to_end(sandboxed: Command, tmp_path: Path, tiny_folder: Path):
    code, out, said = sandboxed("--json")
    assert code == 0, said
    [row] = json.loads(out)
    assert (row["task"], row["sampler"], row["n"], row["k"]) == ("humaneval", "spa-influence", 4, 2)
    assert row["metrics"]["average_kl[i<j]"]["value"] > 0
    assert row["metrics"]["pass@1"]["problems"] == 5
    assert "task: humaneval base, 5 of 164 problems, the first ones, found: " in said

    run = only_run(tmp_path)
    files = {"spec.json", "records.jsonl", "grades.jsonl", "divergence.jsonl", "metrics.json", "timings.json"}
    assert files <= {p.name for p in run.iterdir()}
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    keys = {(r["problem"], r["member"], r["draw"]) for r in records}
    assert keys == {(f"HumanEval/{i}", m, d) for i in range(5) for m in (0, 1) for d in (0, 1)}
    assert all(0 < r["tokens"] <= 16 for r in records)
    spec = json.loads((run / "spec.json").read_text())
    assert spec["data"]["examples_n"] == 50
    assert spec["sampler"]["lora"]["steps"] == 2

    # draws of a greedy member are equal, and members differ
    texts: dict[tuple[str, int], set[str]] = {}
    for r in records:
        texts.setdefault((r["problem"], r["member"]), set()).add(r["raw"])
    assert all(len(t) == 1 for t in texts.values())
    assert any(texts[f"HumanEval/{i}", 0] != texts[f"HumanEval/{i}", 1] for i in range(5))
    check_adapters(tmp_path / "cache" / "stages", tiny_folder)

    before, cached = snapshot(run), snapshot(tmp_path / "cache")
    code, again, said = sandboxed("--json")
    assert code == 0
    done_now = said.split("run folder:")[1]
    assert not any(f"\n{stage}: " in done_now for stage in ("attribution", "training", "generation", "divergence", "grading"))
    after = snapshot(run)
    assert {name for name in before if before[name] != after[name]} <= {"timings.json"}
    assert snapshot(tmp_path / "cache") == cached
    [later] = json.loads(again)
    assert {**later, "seconds": 0} == {**row, "seconds": 0}


def check_adapters(stages: Path, base: Path) -> None:
    """Both adapters load in PEFT and change what the base says."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(1, 30)[None]
    [folder] = stages.glob("adapters-*")
    network: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).eval()
    with torch.inference_mode():
        bare = network(input_ids=ids).logits
        said = []
        for name in ("member-0", "member-1"):
            model = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32), str(folder / name)
            )
            assert model.peft_config["default"].r == 4
            said.append(model.eval()(input_ids=ids).logits)
    assert (said[0] - bare).abs().max() > 1e-4
    assert (said[0] - said[1]).abs().max() > 1e-4


@pytest.mark.slow
def test_generating_and_grading_apart_gives_what_one_command_gives(
    sandboxed: Command, command: Command, bwrap: str, tmp_path: Path, capsys
):
    code, out, said = command("--until", "generate", "--n", "2")
    assert code == 0, said
    run = Path(out.strip())
    assert run == only_run(tmp_path)
    assert f"spa-bench grade {run}" in said
    assert not (run / "metrics.json").exists()
    assert cli.main(["grade", str(run), "--sandbox", bwrap, "--json"]) == 0
    graded = json.loads(capsys.readouterr().out)
    code, out, said = sandboxed("--n", "2", "--json")
    assert code == 0, said
    assert [{**r, "seconds": 0} for r in json.loads(out)] == [{**r, "seconds": 0} for r in graded]

    assert cli.main(["show", str(run)]) == 0
    listing = capsys.readouterr().out
    assert all(f"HumanEval/{i} " in listing for i in range(5))
    assert cli.main(["show", str(run), "--problem", "HumanEval/3"]) == 0
    shown = capsys.readouterr().out
    assert "def below_zero" in shown
    assert "member 1, draw 0: " in shown


def test_prompts_that_do_not_fit_are_counted_and_said(
    sandboxed: Command, tiny_model: HFModel, tiny_folder: Path, data: Path, tmp_path: Path
):
    prompts = [p.prompt for p in read_problems(data / "humaneval" / "HumanEval.jsonl.gz")[:5]]
    lengths = sorted(len(tiny_model.codec.prompt(p)) for p in prompts)
    small = tmp_path / "small"
    small.mkdir()
    for file in tiny_folder.iterdir():
        (small / file.name).write_bytes(file.read_bytes())
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "max_position_embeddings": lengths[2] + 1}))
    code, out, said = sandboxed("--model", str(small), "--sampler", "base", "--set", "members=1", "--n", "1")
    assert code == 0, said
    records = [json.loads(line) for line in (only_run(tmp_path) / "records.jsonl").read_text().splitlines()]
    skipped = [r for r in records if r["finish"] == "skipped"]
    assert len(skipped) == 2
    assert all(r["raw"] == "" for r in skipped)
    assert "2 without an answer: the prompt leaves no room in the context of" in out
    grades = [json.loads(line) for line in (only_run(tmp_path) / "grades.jsonl").read_text().splitlines()]
    why = {g["problem"]: (g["verdict"], g["message"]) for g in grades}
    assert {why[r["problem"]] for r in skipped} == {("refused", r["failure"]) for r in skipped}
    assert all("leaves no room in the context of" in r["failure"] for r in skipped)
