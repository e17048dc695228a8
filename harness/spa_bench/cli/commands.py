"""The table of commands: the place of each command's function, its heading in the help, and what it does."""

from __future__ import annotations

from cyclopts import Group

MAKE = Group("Make runs", sort_key=1)
LOOK = Group("Look at runs", sort_key=2)
COMPARE = Group("Compare runs", sort_key=3)
CHECK = Group("Check runs, move them, look around", sort_key=4)
# name -> (the place of its function, its group, what it does), in the order of messages
COMMANDS: dict[str, tuple[str, Group, str]] = {
    "run": ("run:run", MAKE, "draw samples with a sampler on a task, grade and measure them"),
    "grade": ("grade:grade", MAKE, "grade runs that were generated elsewhere"),
    "score": ("score:score", MAKE, "score answers in files of evalplus, bigcode, lm-eval or Inspect"),
    "show": ("show:show", LOOK, "the samples of a run with their verdicts"),
    "list": ("list:show_list", CHECK, "what there is: samplers, tasks, metrics, models, engines"),
    "leaderboard": ("leaderboard:leaderboard", COMPARE, "a table of runs, seeds pooled, with paired differences"),
    "compare": (
        "gate:compare",
        COMPARE,
        "two samplers or two versions of one, paired by problem, and what differs in their specs",
    ),
    "check": ("gate:check", COMPARE, "runs against a baseline: exit code 1 when a metric fell"),
    "log": ("log:log", CHECK, "give finished or stopped runs to wandb, mlflow or trackio"),
    "view": ("view:view", LOOK, "runs in the browser, on this machine alone, while they grow"),
    "doctor": ("doctor:doctor", CHECK, "what this machine has, and the command for what it lacks"),
    "verify": ("verify:verify", CHECK, "check every byte of a run: checksums, seeds, texts, metrics"),
    "audit": ("audit:audit", CHECK, "training pairs that overlap a task's problems"),
    "synthesize": ("synthesize:synthesize", MAKE, "make training pairs from a few examples of what is wanted, and filter them"),
    "describe": ("describe:describe", CHECK, "how good, diverse and complex data sets are, and how like a target"),
    "rerun": ("rerun:rerun", MAKE, "do a run again from its spec and say what came out otherwise"),
    "export": (
        "export:export",
        CHECK,
        "runs as files for other tools: tables, the hub, Every Eval Ever, Inspect, lm-eval, evalplus",
    ),
    "study": ("study:study", MAKE, "the SPA paper's Table 1 and Figures 2, 4 and 6, with intervals and a verdict"),
    "power": ("power:power", COMPARE, "what difference between two samplers N problems can show"),
    "report": ("report:report", LOOK, "a page of runs or results that works offline, with pictures; or a site of leaderboards"),
    "demo": ("demo:demo", MAKE, "six samplers with the embedded model on mini-code, their leaderboard and a page of them"),
    "real": ("real:real", MAKE, "base, single and SPA on HumanEval with a real model, their leaderboard and a page of them"),
    "model": ("model:model", CHECK, "get a model that comes in a package beforehand, so that runs need no network"),
}
STAGES: dict[str, tuple[str, str]] = {
    "synthesize": (
        "spa:synthesize",
        "make the training pairs of a sampler with [synthesize]; prints the folder with pairs, drafts and report",
    ),
    "attribute": (
        "spa:attribute",
        "score every training example against every query; prints the folder of the scores",
    ),
    "partition": ("spa:partition", "make K parts of the data, and report on them; prints the folder of the parts"),
    "adapt": ("spa:adapt", "train the adapters; prints their folder"),
    "describe": ("spa:describe", "tables and a picture of a folder that one of the stages printed"),
}
SIMILARITY: dict[str, tuple[str, str]] = {
    "triplets": ("similarity:triplets", "triplets of runs: two programs that do the same, and one that does not"),
    "learn": ("similarity:learn", "learn from triplets which texts are alike; prints a folder for --embedding"),
}
FAMILIES: dict[str, tuple[Group, str, str, dict[str, tuple[str, str]]]] = {
    "spa": (
        MAKE,
        "SPA's stages by themselves: synthesize, attribute, partition, adapt; describe looks at one",
        "STAGE",
        STAGES,
    ),
    "similarity": (MAKE, "a similarity of texts that is learned from judgements of which are more alike", "STEP", SIMILARITY),
}
"""Commands of two words: the first one -> (its group, what it is for, what messages call the second word, the second words)."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "spa-bench run --sampler spa-influence --task mini-code",
        "spa-bench run --sampler temperature --task mini-code --set decoding.temperature=0.5 --n 8 --seeds 0,1,2",
        "spa-bench run --sampler spa-influence --task humaneval",
        "spa-bench run --sampler single --task humaneval --model PATH --data pairs.jsonl --until generate",
    ),
    "grade": ("spa-bench grade runs/mini-code-seeds-s0-*",),
    "score": (
        "spa-bench score --task humaneval-plus --samples completions.jsonl",
        "spa-bench score --task humaneval --samples 'logs/*.eval' --partial",
    ),
    "show": ("spa-bench show runs/mini-code-spa-influence-s0-* --problem mini-code/40",),
    "list": ("spa-bench list samplers",),
    "model": ("spa-bench model get smollm2",),
    "leaderboard": (
        "spa-bench leaderboard runs --reference spa-influence --write board.md",
        "spa-bench leaderboard leaderboards/results/mini-code.json --at-equal tokens",
        "spa-bench leaderboard runs --save results --samples --measured-by 'A. Person, Some Lab'",
        "spa-bench leaderboard results/*.json --submit --from-samples regrade",
    ),
    "compare": ("spa-bench compare leaderboards/results/mini-code.json:single runs/mini-code-single-s0-*",),
    "check": ("spa-bench check runs --against leaderboards/results/mini-code.json",),
    "log": ("spa-bench log runs/* --to mlflow",),
    "view": ("spa-bench view runs",),
    "doctor": ("spa-bench doctor", "spa-bench doctor --attack"),
    "verify": ("spa-bench verify runs/*", "spa-bench verify runs/mini-code-seeds-s0-* --references"),
    "audit": ("spa-bench audit humaneval --data pairs.jsonl",),
    "synthesize": (
        "spa-bench synthesize --method template --targets mini --pairs 128 --task mini-code --out pairs.jsonl",
        "spa-bench synthesize --method oss-instruct --targets code.jsonl --model PATH --pairs 500 --out pairs.jsonl",
    ),
    "describe": (
        "spa-bench describe mini --out mini.html",
        "spa-bench describe pairs.jsonl others.jsonl --model PATH --target wanted.jsonl",
        "spa-bench describe mini --parts DIR",
    ),
    "rerun": ("spa-bench rerun runs/mini-code-seeds-s0-*",),
    "export": (
        "spa-bench export runs/* --to parquet --out tables",
        "spa-bench export runs/* --to hub --license cc-by-4.0 --out dataset",
        "spa-bench export runs/mini-code-seeds-s0-* --to evalplus --out samples",
    ),
    "demo": ("spa-bench demo",),
    "real": ("spa-bench real", "spa-bench real --whole"),
    "study": (
        "spa-bench study main",
        "spa-bench study temperature --samplers single,influence --grid 0,0.5,1",
    ),
    "power": (
        "spa-bench power --problems 164 --draws 4 --correlation 0.5 --difference 0.05",
        "spa-bench power --pilot runs/a runs/b",
    ),
    "report": (
        "spa-bench report runs -o report",
        "spa-bench report leaderboards/results --site --also leaderboards/mini-code.md -o leaderboards",
    ),
    "spa synthesize": ("spa-bench spa synthesize --sampler spa-synth --task mini-code",),
    "spa attribute": ("spa-bench spa attribute --sampler spa-influence",),
    "spa partition": ("spa-bench spa partition --sampler spa-influence --set partition.method=balanced",),
    "spa adapt": ("spa-bench spa adapt --sampler spa-influence --set lora.steps=100",),
    "spa describe": ("spa-bench spa describe DIR --out parts.png",),
    "similarity triplets": ("spa-bench similarity triplets runs --out triplets.jsonl",),
    "similarity learn": ("spa-bench similarity learn triplets.jsonl --encoder embedded --out similarity",),
    "--install-completion": (
        "spa-bench --install-completion",
        "spa-bench --install-completion --shell zsh --output ~/.zfunc/_spa-bench",
    ),
}
"""Command lines that the help of each command shows; a command of two words has those of its second words at its first."""
