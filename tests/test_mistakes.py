"""The likely mistakes on the command line: each ends with exit code 2 and one line that names what is wrong and the way on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from spa_bench.cli.main import main
from spa_bench.sandbox import SANDBOXES, NoSandbox

RUN = "run --sampler base --task mini-code"

# What the user did, in the words of docs/reference/errors.md -> a mistake; what its line names (the option, the value seen);
# and the ways on, one of which the line gives.
GROUPS: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "Commands": [
        ("", ["COMMAND"], ["--help"]),
        ("runn --sampler base", ["runn"], ["'run'"]),
        ("leaderbord runs", ["leaderbord"], ["'leaderboard'"]),
        ("evaluate", ["evaluate"], ["--help", "'run'"]),
        ("spa", ["STAGE"], ["--help", "'attribute'"]),
        ("spa atribute", ["atribute"], ["'attribute'"]),
        ("spa attribute", ["--sampler"], ["--help"]),
        ("list sampler", ["sampler"], ["'samplers'"]),
        ("study", ["study"], ["--help", "'main'"]),
        ("study maine", ["maine"], ["'main'"]),
        ("study main --pairs-only", ["--pairs-only", "main"], ["synthesize"]),
        ("study synthesize --pairs-only --n 2", ["--pairs-only", "--n"], ["leave one of them out"]),
        ("study synthesize --mixed 0", ["--mixed is 0"], ["one z at least"]),
        ("study synthesize --set skill-mix.pairs=9", ["skill-mix"], ["sample, template, softsrv"]),
        ("study synthesize --set synthesize.options.stepz=9", ["synthesize.options.stepz"], ["'steps'"]),
    ],
    "What is missing, and what is too much": [
        ("run", ["--sampler", "--task"], ["run --help"]),
        ("run --sampler base", ["--task"], ["run --help"]),
        ("run --task mini-code", ["--sampler"], ["run --help"]),
        ("run base mini-code", ["spa-bench"], ["--sampler, --task", "base"]),
        ("run --sampler", ["--sampler", "argument"], ["run --help"]),
        (f"{RUN} --limit", ["--limit", "argument"], ["run --help"]),
        (f"{RUN} --set", ["--set", "argument"], ["run --help"]),
        (f"{RUN} extra", ["extra"], ["--help"]),
        (f"{RUN} --seeds 1 2", [" 2"], ["--help", "--seeds"]),
        (f"{RUN} --set decoding.temperature 1", [" "], ["key=value", "arguments: 1"]),
        ("grade", ["RUN"], ["grade --help"]),
        ("verify", ["RUN"], ["verify --help"]),
        ("leaderboard", ["RUNS"], ["leaderboard --help"]),
        ("compare empty", ["B"], ["compare --help"]),
        ("check empty", ["--against"], ["check --help"]),
        ("export empty", ["--to", "--out"], ["export --help"]),
        ("score", ["--task", "--samples"], ["score --help"]),
        ("log empty", ["--to"], ["log --help"]),
        ("doctor everything", ["everything"], ["--help"]),
        ("power", ["problems"], ["--problems N, --task NAME or --pilot RUN_A RUN_B"]),
    ],
    "Options that are not there": [
        (f"{RUN} --limt 6", ["--limt"], ["--help", "--limit"]),
        (f"{RUN} --temperature 0.8", ["--temperature"], ["--help", "decoding.temperature"]),
        (f"{RUN} --num-samples 4", ["--num-samples"], ["--help"]),
        (f"{RUN} --json=please", ["--json", "please"], ["--help"]),
        (f"{RUN} --seed 1 --seeds 1,2", ["--seed", "--seeds"], ["not allowed", "one of", "both"]),
    ],
    "Names": [
        ("run --sampler basee --task mini-code", ["unknown sampler 'basee'"], ["did you mean 'base'?"]),
        ("run --sampler spa-influance --task mini-code", ["'spa-influance'"], ["did you mean 'spa-influence'?"]),
        ("run --sampler '' --task mini-code", ["unknown sampler ''"], ["known: base, "]),
        ("run --sampler base --task minicode", ["unknown task 'minicode'"], ["did you mean 'mini-code'?"]),
        ("run --sampler nowhere.toml --task mini-code", ["sampler card", "nowhere.toml"], ["no "]),
        ("run --sampler base --task nowhere.toml", ["task card", "nowhere.toml"], ["no "]),
        (f"{RUN} --model /nowhere/model", ["/nowhere/model"], ["no model folder at"]),
        (f"{RUN} --model embeded", ["unknown model 'embeded'"], ["did you mean 'embedded'?"]),
        (f"{RUN} --model smolm2", ["unknown model 'smolm2'"], ["did you mean 'smollm2'?"]),
        (f"{RUN} --model nobody/nothing", ["'nobody/nothing'", "HF_HUB_OFFLINE is set"], ["give a folder"]),
        (f"{RUN} --embedding embeded", ["unknown model 'embeded'"], ["did you mean 'embedded'?"]),
        (f"{RUN} --model embedded --revision abc", ["--revision abc"], ["a version on the hub"]),
        (f"{RUN} --model . --revision abc", ["--revision abc"], ["a version on the hub"]),
        (f"{RUN} --model a.gguf --revision abc", ["--revision abc"], ["a version on the hub"]),
        (f"{RUN} --context 1", ["--context is 1"], ["between 2 and 256"]),
        (f"{RUN} --context 8", ["context of 8 tokens", "the shortest has 18"], ["a larger --context"]),
        (f"{RUN} --sandbox jail", ["unknown sandbox 'jail'"], ["bwrap, docker, landlock"]),
        (f"{RUN} --log tensorboard", ["unknown tracker 'tensorboard'"], ["mlflow, trackio, wandb"]),
        ("log empty --to wandbb", ["unknown tracker 'wandbb'"], ["did you mean 'wandb'?"]),
        (f"{RUN} --sandbox nope", ["unknown sandbox 'nope'"], ["; known are bwrap, docker"]),
        (f"{RUN} --metric os:nothing", ["--metric os:nothing"], ["os has no 'nothing'"]),
        (f"{RUN} --metric vendi", ["--metric", "'vendi'"], ["package.module:METRIC"]),
        (f"{RUN} --device gpu", ["unknown device 'gpu'"], ["auto, cpu or cuda"]),
        (f"{RUN} --dtype fp16", ["unknown dtype 'fp16'"], ["float16"]),
        ("study main --recipe papercode", ["unknown recipe 'papercode'"], ["did you mean 'paper-code'?"]),
        ("study main --samplers singel", ["--samplers", "'singel'"], ["did you mean 'single'?"]),
    ],
    "Choices": [
        (f"{RUN} --until train", ["--until", "'train'"], ["'generate', 'grade'"]),
        (f"{RUN} --noise-floor maybe", ["--noise-floor", "'maybe'"], ["'auto', 'yes', 'no'"]),
        (f"{RUN} --grading strict", ["--grading", "'strict'"], ["'default', 'evalplus'"]),
        ("leaderboard empty --format html", ["--format", "'html'"], ["'md', 'csv', 'json', 'latex'"]),
        ("report empty --problems all", ["--problems", "'all'"], ["'auto', 'load', 'none'"]),
        ("export empty --to json --out there", ["--to", "'json'"], ["'evalplus', 'lm-eval'"]),
    ],
    "Numbers": [
        (f"{RUN} --limit six", ["--limit", "'six'"], ["int", "whole number"]),
        (f"{RUN} --limit 1.5", ["--limit", "'1.5'"], ["int", "whole number"]),
        (f"{RUN} --limit 0", ["limit", "0"], ["at least 1"]),
        (f"{RUN} --n four", ["--n", "'four'"], ["int", "whole number"]),
        (f"{RUN} --n 0", ["n is 0"], ["at least 1"]),
        (f"{RUN} --n -4", ["n is -4"], ["at least 1"]),
        ("run --sampler spa-random --task mini-code --n 6", ["n is 6", "4 members"], ["a multiple of 4"]),
        (f"{RUN} --seed x", ["--seed", "'x'"], ["int", "whole number"]),
        (f"{RUN} --seed -1", ["seed", "-1"], ["0 or more"]),
        (f"{RUN} --seeds '1;2'", ["--seeds", "'1;2'"], ["whole numbers with commas"]),
        (f"{RUN} --seeds 1,1", ["--seeds", "1,1"], ["twice"]),
        (f"{RUN} --seeds ''", ["--seeds", "''"], ["whole numbers with commas"]),
        (f"{RUN} --set decoding.eta_cutoff=3", ["decoding.eta_cutoff is 3"], ["a probability below 1"]),
        (f"{RUN} --set decoding.mirostat_eta=0.5", ["mirostat_eta is 0.5"], ["no effect without decoding.mirostat_tau"]),
        (
            "run --sampler mirostat --task mini-code --set decoding.top_k=9",
            ["mirostat", "decoding.top_k is 9"],
            ["leave one out"],
        ),
        ("run --sampler merge --task mini-code --set options.weight=2", ["options.weight is 2"], ["a share between 0"]),
        ("run --sampler merge --task mini-code --members 3", ["--members"], ["--help"]),
        ("run --sampler soup --task mini-code --set members=2", ["members is 2"], ["set members=1 sources=4"]),
        ("run --sampler merge --task mini-code --engine mock", ["merges weights"], ["use --engine hf"]),
        (
            "run --sampler soup --task mini-code --set 'options.given=[\"nowhere\"]'",
            ["no adapter in nowhere"],
            ["name a folder in PEFT's format"],
        ),
        (f"{RUN} --threads two", ["--threads", "'two'"], ["int", "whole number"]),
        (f"{RUN} --threads 0", ["--threads", "0"], ["at least 1"]),
        (f"{RUN} --workers 0", ["--workers", "0"], ["at least 1"]),
        (f"{RUN} --batch-size many", ["--batch-size", "'many'"], ["auto or a number"]),
        (f"{RUN} --price-per-hour free", ["--price-per-hour", "'free'"], ["float", "number"]),
        (f"{RUN} --price-per-hour -1", ["--price-per-hour", "-1"], ["finite and not negative"]),
        ("study temperature --grid x", ["--grid", "'x'"], ["numbers with commas"]),
        ("view empty --port x", ["--port", "'x'"], ["int", "whole number"]),
        ("describe mini --limit 0", ["--limit is 0"], ["at least 1"]),
        ("describe mini --share 2", ["--share is 2"], ["above 0 and is at most 1"]),
        ("describe mini --limit 5 --share 0.5", ["--limit and --share"], ["give one of them"]),
        ("describe mini --at 1", ["--at is 1"], ["at least 2 pairs"]),
        ("describe mini --model none --no-run --limit 10 --at 9", ["subsets of 9 pairs", "has 10"], ["a smaller --at"]),
        ("describe mini --set lora.rank=2", ["lora.rank"], ["keys of [data]"]),
    ],
    "Keys of cards": [
        (
            f"{RUN} --set decoding.temprature=1",
            ["'decoding.temprature'", "base.toml"],
            ["did you mean 'decoding.temperature'?"],
        ),
        (f"{RUN} --set temperature=1", ["'temperature'", "base.toml"], ["known: ", "'decoding.temperature'"]),
        (f"{RUN} --set task.secnds=1", ["'task.secnds'", "mini-code.toml"], ["did you mean 'task.seconds'?"]),
        (f"{RUN} --set nonsense", ["--set", "'nonsense'"], ["key=value, such as decoding.temperature=0.5"]),
        (f"{RUN} --set =1", ["--set", "'=1'"], ["key=value, such as decoding.temperature=0.5"]),
        (f"{RUN} --set decoding.temperature=hot", ["'decoding.temperature'", "'hot'"], ["must be a number"]),
        (f"{RUN} --set lora.rank=8.5", ["'lora.rank'", "8.5"], ["must be a whole number"]),
    ],
    "Files and folders": [
        (f"{RUN} --out afile", ["--out", "afile"], ["name a folder"]),
        (f"{RUN.replace('base', 'spa-random')} --data nowhere.jsonl", ["examples", "nowhere.jsonl"], ["cannot read"]),
        (f"{RUN} --data nowhere.jsonl", ["--data nowhere.jsonl"], ["there is no such file"]),
        (f"{RUN} --queries nowhere.jsonl", ["--queries nowhere.jsonl"], ["there is no such file"]),
        (
            "run --sampler single --task mini-code --queries nowhere.jsonl",
            ["--queries nowhere.jsonl"],
            ["there is no such file"],
        ),
        ("demo --limit 0", ["limit is 0"], ["at least 1"]),
        ("demo --sandbox jail", ["unknown sandbox 'jail'"], ["bwrap, docker, landlock"]),
        ("grade nowhere", ["nowhere is not there"], ["give a run folder"]),
        ("show empty", ["empty"], ["spec.json is missing"]),
        ("rerun nowhere", ["nowhere is not there"], ["give a run folder"]),
        ("report nowhere", ["nowhere is not there"], ["give a run folder"]),
        ("leaderboard nowhere", ["nowhere is not there"], ["give a run folder"]),
        ("verify nowhere", ["nowhere is not there"], ["give a run folder"]),
        ("show nowhere", ["nowhere is not there"], ["give a run folder"]),
        *((f"{words} afile", ["afile is a file"], ["give a run folder"]) for words in ("grade", "show", "rerun", "verify")),
        *((f"{words} afile", ["afile is a file"], ["or a result .json"]) for words in ("leaderboard", "report")),
        ("verify empty", ["empty: spec.json is missing"], ["give a run folder"]),
        ("leaderboard empty", ["empty"], ["no runs and no results in"]),
        ("leaderboard bad.json", ["bad.json"], ["cannot read the result"]),
        ("leaderboard --submit empty", ["empty"], ["--submit checks result files"]),
        ("compare nowhere elsewhere", ["nowhere"], ["give a run folder, a result file"]),
        ("check nowhere --against elsewhere", ["nowhere is not there"], ["give a run folder, a result file"]),
        ("power nowhere", ["got 1: nowhere"], ["RUN_A RUN_B"]),
        ("view nowhere", ["nowhere"], ["name a folder of runs"]),
        ("export nowhere --to evalplus --out there", ["nowhere is not there"], ["give a run folder"]),
        ("spa describe nowhere", ["nowhere"], ["`spa-bench spa partition` prints one"]),
        ("describe nowhere.jsonl", ["there is no file nowhere.jsonl"], ["a file, hub:NAME, mini or mini-nlu"]),
        ("describe mini --target minni", ["there is no file minni"], ["did you mean 'mini'?"]),
        ("describe afile", ["afile, line 1"], ["not valid JSON"]),
        ("describe mini --parts nowhere", ["nowhere"], ["labels"]),
        ("describe mini mini-nlu --parts nowhere", ["--parts", "2 are named"], ["one source"]),
        ("describe mini --out data.txt", ["--out is data.txt"], ["name a file that ends in .html, .md"]),
    ],
}
LOADING = (  # these are seen when a model is loaded: tests/test_mistakes_loading.py
    f"{RUN} --context 1",
    f"{RUN} --context 8",
    "run --sampler soup --task mini-code --set 'options.given=[\"nowhere\"]'",
    "describe mini --parts nowhere",
)
MISTAKES = [mistake for group in GROUPS.values() for mistake in group if mistake[0] not in LOADING]


@pytest.mark.parametrize(("line", "named", "ways"), MISTAKES, ids=[line or "nothing" for line, *_ in MISTAKES])
def test_a_mistake_is_one_line_that_names_it_and_the_way_on(
    line: str,
    named: list[str],
    ways: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SANDBOXES, next(iter(SANDBOXES)), NoSandbox)  # the one that is tried first works, without a trial
    make_mistake(line, named, ways, capsys)


def make_mistake(line: str, named: list[str], ways: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In the current folder."""
    folder = Path.cwd()
    (folder / "empty").mkdir()
    (folder / "afile").write_text("x\n")
    (folder / "bad.json").write_text("{")
    before = sorted(folder.rglob("*"))
    try:
        code: object = main(shlex.split(line))
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert err.startswith("spa-bench: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in named:
        assert word in err
    assert any(way in err for way in ways), f"{err!r} has none of {ways}"
    assert [path for path in sorted(folder.rglob("*")) if "cache" not in path.parts] == before
