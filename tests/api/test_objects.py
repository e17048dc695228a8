"""Objects in the place of names: what the spec says of them, what is refused, and what a run needs that was made with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import spa_bench as sb
from doubles import Call
from notebook import Notebook
from spa_bench.api.values import as_words

CELLS = '''
import spa_bench as sb

class Numbers(sb.TextTask):
    """Which number follows."""

    def is_right(self, problem, answer):
        return answer == problem.reference.strip()

numbers = Numbers(
    sb.TaskCard(name="numbers", description="which number follows", version="1", max_new_tokens=8, stop=("\\n",)),
    [sb.Problem(id=str(k), prompt=f"After {k} comes", reference=f" {k + 1}") for k in range(3)],
)

def counts(request):
    """Right on even numbers, and on every second draw of the others."""
    number = int(request.prompt.split()[1])
    return f" {number + 1 + (number % 2) * (request.draw % 2)}"

class Plain:
    """Draws as it comes."""

    name = "plain"
    members = (sb.Member("base", None, sb.Decoding(temperature=1.0)),)

    def __init__(self, note=""):
        self.note = note

    def sample(self, model, prompts, n, seed, *, task, done=()):
        yield from sb.Mixture(self.name, self.members).sample(model, prompts, n, seed, task=task, done=done)

def digits(samples):
    """Digits of an answer."""
    return float(len(samples.texts[0]))
'''


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A notebook with a task, a model, a sampler and a metric, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    notebook = Notebook()
    notebook.run(CELLS)
    return notebook


def made(cells: Notebook, **changes: Any) -> sb.Run:
    parts = {"sampler": cells.get("Plain")(), "task": cells.get("numbers"), "model": cells.get("counts"), "n": 2}
    return sb.run(**{**parts, "quiet": True, **changes})


def message(cells: Notebook, **changes: Any) -> str:
    with pytest.raises(sb.SpaBenchError) as error:
        made(cells, **changes)
    said = str(error.value)
    assert "\n" not in said
    return said


# what is measured ----------------------------------------------------------------------------------------------------


def test_a_run_of_objects_is_graded_by_the_task_and_measured_by_the_metric(cells: Notebook):
    run = made(cells, metrics=[cells.get("digits")])
    assert run.metrics["pass@1"].value == pytest.approx((1 + 0.5 + 1) / 3)
    assert run.metrics["digits"].value == 1.0
    verdicts = run.samples().set_index(["problem", "draw"]).verdict.to_dict()
    assert verdicts == {("0", 0): "passed", ("0", 1): "passed", ("1", 0): "passed", ("1", 1): "wrong"} | {
        ("2", draw): "passed" for draw in (0, 1)
    }


def test_the_spec_names_every_object_and_hashes_its_code(cells: Notebook):
    spec = made(cells, metrics=[cells.get("digits")]).spec
    assert [spec[part]["kind"] for part in ("sampler", "task")] == ["object:Plain", "object:Numbers"]
    assert spec["engine"]["name"] == "object:counts"
    assert [*spec["metrics"]] == ["object:digits"]
    hashes = [spec["code"][part] for part in ("sampler", "task", "engine")] + [*spec["metrics"].values()]
    assert all(len(one) == 16 for one in hashes)
    assert len(set(hashes)) == 4
    assert [m["name"] for m in spec["sampler"]["options"]["members"]] == ["base"]


def test_a_sampler_object_and_our_own_draw_the_same(cells: Notebook):
    ours = made(cells, sampler="base", settings={"decoding.temperature": 1.0})
    theirs = made(cells)
    assert theirs.samples().text.tolist() == ours.samples().text.tolist()
    assert theirs.samples().draw.tolist() == ours.samples().draw.tolist()


def test_a_code_task_of_problems_is_run_in_a_sandbox(cells: Notebook, sandbox: object):
    problem = sb.Problem(
        id="square",
        prompt="def square(x):\n",
        reference="    return x * x\n",
        tests="def check(candidate):\n    assert candidate(3) == 9\n",
        entry_point="square",
    )
    task = sb.CodeTask(sb.TaskCard(name="square", description="one", max_new_tokens=16), [problem], "here")
    cells.run("def body(request):\n    return ['    return x * x\\n', '    return 2 * x\\n'][request.draw]\n")
    run = made(cells, task=task, model=cells.get("body"), sandbox="none-i-trust-this-code")
    assert run.samples().verdict.tolist() == ["passed", "wrong"]
    assert run.spec["task"]["kind"] == "object:CodeTask"


def test_a_subclass_of_model_defaults_draws_and_says_what_it_cannot(cells: Notebook):
    cells.run(
        "class Fixed(sb.ModelDefaults):\n"
        "    name = 'fixed'\n"
        "    def generate(self, requests, members):\n"
        "        for r in requests:\n"
        "            yield sb.Completion(key=r.key, text=' 1', tokens=1, finish='stop', seed=r.seed)\n"
    )
    model = cells.get("Fixed")()
    run = made(cells, model=model)
    assert run.metrics["pass@1"].value == pytest.approx(1 / 3)
    assert run.metrics["average_kl[i<j]"].value is None
    assert run.spec["unable"]["divergence"] == "fixed only draws"
    assert message(cells, sampler="single", model=model).startswith("single trains adapters, and fixed cannot be trained here")


def test_a_model_that_was_loaded_once_gives_the_runs_of_its_name(cells: Notebook, tiny_folder: Path):
    model = sb.load_model(tiny_folder, device="cpu", threads=1)
    lent = made(cells, sampler="base", model=model, n=1)
    named = made(cells, sampler="base", model=str(tiny_folder), n=1, device="cpu", threads=1)
    assert lent.path == named.path
    assert made(cells, sampler="base", model=model, n=2).metrics["pass@1"].n == 3  # it is not closed
    assert "leave device out" in message(cells, sampler="base", model=model, device="cpu")


# changed code --------------------------------------------------------------------------------------------------------


def test_changed_code_or_another_attribute_is_another_run_and_the_same_resumes(cells: Notebook):
    first = made(cells)
    assert made(cells).path == first.path
    assert made(cells, sampler=cells.get("Plain")(note="x")).path != first.path
    other = Notebook()
    other.run(CELLS.replace("answer == problem", "answer != problem"))
    changed = made(other)
    assert changed.path != first.path
    assert changed.metrics["pass@1"].value == pytest.approx(0.5 / 3)


def test_what_cannot_be_hashed_is_said_and_never_resumed(cells: Notebook, capsys: pytest.CaptureFixture[str]):
    sampler = cells.get("Plain")(note=__import__("io").BytesIO())
    run = made(cells, sampler=sampler, quiet=False)
    assert run.spec["code"]["sampler"].startswith("unhashed: ")
    why = "notebook_of_a_test.Plain.note: what a _io.BytesIO holds cannot be read"
    assert f"sampler object Plain: its code is in no hash ({why}): this run cannot be resumed" in " ".join(
        capsys.readouterr().err.split()
    )
    assert message(cells, sampler=sampler) == (
        f"{run.path} is there already, and whether it was made with the same code is unknown (sampler: {why}); remove it or "
        "use another out"
    )
    assert made(cells, sampler=sampler, out="elsewhere").metrics["pass@1"].value == run.metrics["pass@1"].value


def test_a_function_that_reads_a_connection_is_hashed_where_it_is_named(cells: Notebook):
    cells.run("import io\nclient = io.BytesIO()\ndef asks(request):\n    client.tell()\n    return ' 1'\n")
    assert made(cells, model=cells.get("asks")).spec["code"]["engine"].startswith("unhashed: asks reads client: ")
    named = made(cells, model=sb.FunctionModel(cells.get("asks"), "server 1.0"))
    assert len(named.spec["code"]["engine"]) == 16
    assert named.model == "server 1.0"
    assert made(cells, model=sb.FunctionModel(cells.get("asks"), "server 1.0")).path == named.path
    assert made(cells, model=sb.FunctionModel(cells.get("asks"), "server 1.1")).path != named.path


# outside the program -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "show", "grade", "rerun", "export"])
def test_a_command_that_needs_an_object_says_so_on_one_line(command: str, cells: Notebook, call: Call):
    run = made(cells)
    more = ["--to", "evalplus", "--out", "x"] if command == "export" else []
    part = "sampler object Plain" if command == "rerun" else "task object Numbers"
    assert call(command, run.path, *more).error().startswith(f"{run.path} was made in Python with the {part}, which is in no ")


def test_what_a_command_does_not_need_does_not_stop_it(cells: Notebook, call: Call, tmp_path: Path):
    made(cells, metrics=[cells.get("digits")])
    [row] = json.loads(call("leaderboard", "runs", "--json").out)
    assert row["sampler"] == "plain"
    assert call("report", "runs", "-o", "page").code == 0
    assert call("compare", "runs", "runs").error().endswith("a sampler does not differ from itself")


def test_a_metric_and_a_model_that_are_objects_are_named_too(cells: Notebook, call: Call, three: Path, sandbox: object):
    metric = made(cells, task=three, model=None, engine="mock", sampler="base", metrics=[cells.get("digits")]).path
    assert "was made in Python with the metric object digits" in "".join(call("verify", metric).out.splitlines())
    cells.run("def nothing(request):\n    return '    pass\\n'\n")
    model = made(cells, task=three, model=cells.get("nothing"), sampler="base").path
    assert call("verify", model).out.splitlines()[0] == f"{model}: whole"
    assert call("rerun", model).error().startswith(f"{model} was made in Python with the model object nothing")


# refused -------------------------------------------------------------------------------------------------------------

MADE = """
class Nothing:
    pass

class NoSample:
    name = "x"
    members = (sb.Member("base", None, sb.Decoding()),)

class Declared(sb.Sampler):
    name = "x"
    members = NoSample.members

class Short(NoSample):
    def sample(self, model, prompts):
        return []

class Empty(NoSample):
    members = ()
    def sample(self, model, prompts, n, seed, *, task, done=()):
        return []

class Fails(NoSample):
    def sample(self, model, prompts, n, seed, *, task, done=()):
        raise ValueError("oh no")

class Half(NoSample):
    def sample(self, model, prompts, n, seed, *, task, done=()):
        return []

class Slash(Half):
    name = "a/b"

class Answers(sb.ModelDefaults):
    name = "answers"

    def __init__(self, give=lambda c: c, says=None):
        self.give, self.says = give, says

    def describe(self):
        return self.says() if self.says else {"name": self.name}

    def generate(self, requests, members):
        for r in requests:
            yield self.give(sb.Completion(key=r.key, text=" 1", tokens=1, finish="stop", seed=r.seed))

class HalfModel:
    name, context, notes = "m", 8, ()

class HalfTask:
    name, version = "t", "1"
"""


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("sampler", "5", "sampler is 5 (int); give a name or the path of a card, or an object with name, members, sample"),
        ("sampler", "Plain", "sampler is the class Plain; give an object of it: Plain(...)"),
        ("sampler", "NoSample()", "NoSample is no sampler: it lacks sample(model, prompts, n, seed, *, task, done=())"),
        ("sampler", "Declared()", "Declared is no sampler: it lacks sample(model, prompts, n, seed, *, task, done=())"),
        ("sampler", "Short()", "Short.sample(model, prompts) is called as sample(model, prompts, n, seed, *, task, done=())"),
        ("sampler", "Empty()", "sampler 'x': members is (); it must be a list of spa_bench.Member, one at least"),
        ("sampler", "Fails()", "sampler kind 'object:Fails' failed: ValueError: oh no"),
        ("sampler", "Half()", "sampler kind 'object:Half' gave 0 of 6 answers"),
        ("sampler", "Slash()", "sampler object: name is 'a/b'; it names run folders and takes no slash"),
        ("sampler", "'object:Plain'", "sampler is 'object:Plain', the name of an object in a spec; give the object itself"),
        ("sampler", "'bsae'", "unknown sampler 'bsae'; did you mean 'base'?"),
        ("task", "Nothing()", "task is <"),
        ("task", "HalfTask()", "HalfTask is no task: it lacks found and limits, "),
        ("model", "HalfModel()", "HalfModel is no model: it lacks engines and unable, describe, "),
        ("model", "5", "model is 5 (int); give a name, or an object with name, context, "),
        ("model", "lambda request: 1 / 0", "model 'function' on 0, draw 0: ZeroDivisionError: division by zero"),
        ("model", "lambda request: 7", "model 'function' on 0, draw 0 gave 7; it must give a text"),
        ("model", "lambda: ''", "model 'function'"),
        ("model", "Answers(says=lambda: 1 / 0)", "engine 'object:Answers': describe() failed: ZeroDivisionError: "),
        ("model", "Answers(says=lambda: {'name': 'x', 'at': {1}})", "engine 'object:Answers': describe() gave {'name': 'x', "),
        ("model", "Answers(says=lambda: {})", "engine 'object:Answers': describe() gave {}; it needs a text 'name'"),
        ("model", "Answers(says=lambda: 3)", "engine 'object:Answers': describe() gave 3; it must be a dict"),
        ("metrics", "[lambda s: 1.0]", "metric is <function <lambda>"),
        ("metrics", "[digits, digits]", "two metrics are named 'digits'; give one of them another name"),
        ("metrics", "[3]", "metric is 3; give a name, a spa_bench.Metric, or a function"),
        ("seed", "[]", "seed is empty; give a number, or several"),
        ("settings", "{'decoding.temperature': 0.5}", "the setting 'decoding.temperature' is of a card, and the sampler is "),
        ("settings", "{'task.seconds': 1}", "the setting 'task.seconds' is of a card, and the task is the object Numbers"),
        ("settings", "{'task.seconds': None}", "settings['task.seconds'] is None; it must be a number, a text"),
        ("engine", "'mock'", "engine says how a model of a name is loaded, and the model is an object: leave engine out"),
        ("n", "0", "n is 0; it must be at least 1"),
        ("n", "'4'", "n is '4'; it must be a whole number"),
        ("n", "2.0", "n is 2.0; it must be a whole number"),
        ("seed", "'01'", "seed is '01'; it must be a whole number"),
        ("seed", "[0, None]", "seed is None; it must be a whole number"),
        ("seed", "[0, 0]", "--seeds names a seed twice: 0,0"),
        ("limit", "True", "limit is True; it must be a whole number"),
        ("seed", "__import__('numpy').array([[0], [1]])", "seed is array([0]); it must be a whole number"),
        ("limit", "__import__('numpy').array([1, 2])", "limit is array([1, 2]); it must be a whole number"),
        ("settings", "['task.seconds=1']", "settings is ['task.seconds=1']; it must be a dict of the cards' keys, such as {"),
        (
            "settings",
            "{'task.stop': {1}}",
            "settings['task.stop'] is {1}; it must be a number, a text, true or false, or a list",
        ),
        ("data", "__import__('pandas').DataFrame({'a': [1]})", "data is a DataFrame; it must be a text or a path (rows are "),
        ("data", "[{'prompt': 'x'}]", "data is [{'prompt': 'x'}]; it must be a text or a path"),
        ("out", "None", "out is None; it must be a text or a path"),
        ("sandbox", "3", "sandbox is 3; it must be a text"),
        ("price_per_hour", "'3'", "price_per_hour is '3'; it must be a number"),
        ("noise_floor", "'yes'", "noise_floor is 'yes'; it must be True or False"),
        ("trust_remote_code", "'false'", "trust_remote_code is 'false'; it must be True or False"),
        ("embedding", "3", "embedding is 3; it must be a text or a path"),
        ("metrics", "3", "metric is 3; give a name, a spa_bench.Metric, or a function"),
        ("until", "'grading'", "until is 'grading'; "),
        ("grading", "'evalpuls'", "grading is 'evalpuls'; did you mean 'evalplus'?"),
        ("sandbox", "'bwarp'", "unknown sandbox 'bwarp'"),
        ("out", "__import__('sys').executable", "--out is "),
    ],
)
def test_a_part_that_cannot_be_used_is_one_line(part: str, value: str, said: str, cells: Notebook):
    cells.run(MADE)
    cells.run(f"value = {value}")
    assert message(cells, **{part: cells.get("value")}).startswith(said)
    assert not list(Path("runs").glob("*/grades.jsonl"))


@pytest.mark.parametrize(
    ("give", "said"),
    [
        ("1 / 0", " failed: ZeroDivisionError: division by zero ("),
        ("None", " failed: AttributeError: 'NoneType' object has no attribute 'key'"),
        ("c.key", " failed: AttributeError: 'Key' object has no attribute 'key'"),
        ("replace(c, text=None)", ": the answer 0, member 0, draw 0 has text = None; it must be a text"),
        ("replace(c, key=sb.Key('9', 0, 0))", " gave an answer that is not missing: Key(problem='9', member=0, draw=0); "),
    ],
)
def test_a_model_that_gives_what_is_no_answer_is_one_line(give: str, said: str, cells: Notebook):
    cells.run(MADE)
    cells.run(f"from dataclasses import replace\nvalue = Answers(lambda c: {give})")
    assert message(cells, sampler="base", model=cells.get("value")).startswith(f"engine 'object:Answers'{said}")


def test_values_of_numpy_pandas_and_torch_are_those_of_python(cells: Notebook):
    """What a sweep over arrays gives; None for the metrics is none of them."""
    run = made(cells, limit=np.int64(2), n=np.int32(2), workers=np.int8(1), metrics=None, price_per_hour=np.float32(0))
    assert (run.n, run.spec["limit"]) == (2, 2)
    for seeds in (np.array([0, 1]), pd.Series([0, 1]), (seed for seed in (0, 1))):
        assert [one.seed for one in made(cells, seed=seeds)] == [0, 1]
    assert made(cells, seed=np.array(1)).seed == 1
    plain = {"decoding.temperature": 0.5, "draws": 2, "description": "x", "served": []}
    given = {
        "decoding": {"temperature": np.float32(0.5)},
        "draws": np.int64(2),
        "description": Path("x"),
        "served": np.array([]),
    }
    assert as_words(given) == as_words(plain)
    assert as_words({"trained": [np.bool_(True), (np.int64(1),)]}) == ("trained=[true, [1]]",)
