"""MBPP's sanitized-mbpp.json (427 problems, google-research) as rows in HumanEval's shape.

    python docs/examples/sanitized_mbpp.py sanitized-mbpp.json docs/examples/sanitized_mbpp.jsonl
    spa-bench run --sampler base --task docs/examples/sanitized-mbpp.toml --model PATH

The prompt is evalplus' for MBPP+: a text that describes the function, with the first test. The tests are MBPP's own.
"""

import ast
import json
import sys
from pathlib import Path


def row(problem: dict) -> dict:
    """A problem of MBPP as a problem of HumanEval's shape. Raises ValueError when no test calls a function of its code."""
    defined = [node.name for node in ast.walk(ast.parse(problem["code"])) if isinstance(node, ast.FunctionDef)]
    tests = ast.parse("\n".join(problem["test_list"]))
    called = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
    entry = next((name for name in defined if name in called), None)
    if entry is None:
        raise ValueError(f"problem {problem['task_id']}: no test calls one of {', '.join(defined) or 'no functions'}")
    for node in ast.walk(tests):
        if isinstance(node, ast.Name) and node.id == entry:
            node.id = "candidate"
    checks = "".join(f"    {line}\n" for line in ast.unparse(tests).splitlines())
    imports = "".join(f"{line}\n" for line in problem["test_imports"])
    return {
        "task_id": f"sanitized-mbpp/{problem['task_id']}",
        "prompt": f'"""\n{problem["prompt"].strip()}\n{problem["test_list"][0].strip()}\n"""\n',
        "entry_point": entry,
        "test": f"{imports}def check(candidate):\n{checks}",
        "canonical_solution": problem["code"].replace("\r\n", "\n").strip() + "\n",
    }


def main() -> None:
    """Write a line a problem."""
    source, target = map(Path, sys.argv[1:])
    rows = [row(problem) for problem in json.loads(source.read_text(encoding="utf-8"))]
    target.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    print(f"{len(rows)} problems in {target}")


if __name__ == "__main__":
    main()
