"""Tasks of lm-eval as tasks of ours: what a card says, what is asked, and one clear line for what cannot be."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from doubles import Call, MockModel
from nlu_reference import define, task_of
from spa_bench.cards.task import build_task_card, load_task_card
from spa_bench.errors import CardError, DataError, ModelError, SpaBenchError, UsageError
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.job import load_task
from spa_bench.runs.reopen import task_of as spa_task_of
from spa_bench.tasks.base import Asking
from spa_bench.tasks.lm_eval.asking import options_for_readers
from spa_bench.tasks.lm_eval.local import ENDINGS, rows
from spa_bench.types import Asked

if find_spec("lm_eval") is None:
    pytest.skip("lm-eval is not installed: pip install 'spa-bench[lm-eval]'", allow_module_level=True)

QUIZ: dict[str, Any] = {
    "task": "quiz_one",
    "dataset_path": "someone/quiz",
    "dataset_name": "one",
    "test_split": "test",
    "fewshot_split": "dev",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": ["red", "green"],
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 3},
}

EXACT = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    """Two tasks of a group over a dataset of the hub, and a folder of files for it; the include folder."""
    for name, count in (("one", 4), ("two", 2)):
        for split in ("test", "dev"):
            file = tmp_path / "data" / "quiz" / split / f"{name}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps({"text": f"{split} {name} {i}:", "answer": i % 2}) + "\n" for i in range(count)))
        define(tmp_path / "yaml", f"quiz_{name}", {**QUIZ, "task": f"quiz_{name}", "dataset_name": name})
    define(tmp_path / "yaml", "quiz", {"group": "quiz", "task": ["quiz_one", "quiz_two"], "metadata": {"version": 7}})
    return tmp_path / "yaml"


def test_files_stand_in_for_the_hub_where_the_card_says_so(quiz: Path):
    task = task_of("lm-eval:quiz", include=quiz, local=[quiz.parent / "data"])
    assert [p.id for p in task.problems] == [*[f"quiz_one/{i}" for i in range(4)], "quiz_two/0", "quiz_two/1"]
    assert "options.local" in task.found
    same = task_of("lm-eval:quiz", include=quiz, local=[quiz.parent / "data" / "quiz"])
    assert same.describe() == task.describe()


def test_files_stand_in_for_the_hub_where_the_environment_says_so(quiz: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(quiz.parent / "data"))
    assert "SPA_BENCH_DATA" in task_of("lm-eval:quiz", include=quiz).found


def test_without_files_the_hub_is_asked_and_its_silence_is_one_line(quiz: Path, monkeypatch: pytest.MonkeyPatch):
    for data in ("", str(quiz.parent)):  # a folder that does not have it
        monkeypatch.setenv("SPA_BENCH_DATA", data)
        with pytest.raises(DataError, match=r"cannot be reached .*options.local = .FOLDER. or SPA_BENCH_DATA"):
            task_of("lm-eval:quiz", include=quiz)


def test_gated_data_says_how_to_get_it(quiz: Path, monkeypatch: pytest.MonkeyPatch):
    def gated(*_: object, **__: object) -> None:
        raise OSError("Dataset 'someone/quiz' is a gated dataset on the Hub.\nYou must be authenticated to access it.")

    monkeypatch.setattr("datasets.load_dataset", gated)
    with pytest.raises(DataError, match=r"is gated .*accept its terms .*hf auth login"):
        task_of("lm-eval:quiz", include=quiz)


def test_the_number_of_examples_is_the_cards_or_the_tasks_own(quiz: Path):
    data = [quiz.parent / "data"]
    assert task_of("lm-eval:quiz_one", include=quiz, local=data).problems[0].prompt == "test one 0:"
    two = task_of("lm-eval:quiz_one", include=quiz, local=data, fewshot=2).problems
    examples = two[0].prompt.split("\n\n")
    assert examples[-1] == "test one 0:"
    assert [e.startswith("dev one ") for e in examples] == [True, True, False]
    define(quiz, "quiz_one", {**QUIZ, "num_fewshot": 0})  # lm-eval: never overridden
    assert task_of("lm-eval:quiz_one", include=quiz, local=data, fewshot=2).problems[0].prompt == "test one 0:"


def test_a_template_is_not_compiled_again_for_every_document(quiz: Path, monkeypatch: pytest.MonkeyPatch):
    from lm_eval.utils import env

    compiled: list[str] = []
    ours = env.compile
    monkeypatch.setattr(
        env, "compile", lambda source, *args, **kwargs: compiled.append(source) or ours(source, *args, **kwargs)
    )
    assert len(task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"], fewshot=2).problems) == 4
    assert 0 < compiled.count("{{text}}") < 4
    assert "from_string" not in vars(env)  # lm-eval is left as it was


def test_more_examples_than_there_are_is_one_line(quiz: Path):
    with pytest.raises(UsageError, match=r"quiz_two cannot be asked with 5 examples: .*set task.options.fewshot to fewer"):
        task_of("lm-eval:quiz_two", include=quiz, local=[quiz.parent / "data"], fewshot=5)


def test_examples_from_a_split_that_is_not_there_are_one_line(quiz: Path):
    (quiz.parent / "data" / "quiz" / "dev" / "two.jsonl").unlink()
    with pytest.raises(DataError, match="no file of the split 'dev', where the 1 examples of quiz_two come from"):
        task_of("lm-eval:quiz_two", include=quiz, local=[quiz.parent / "data"], fewshot=1)
    assert len(task_of("lm-eval:quiz_two", include=quiz, local=[quiz.parent / "data"]).problems) == 2


def test_a_split_of_examples_that_nobody_asks_for_need_not_be_there(quiz: Path):
    dev = quiz.parent / "data" / "quiz" / "dev" / "two.jsonl"
    dev.unlink()
    config = {"sampler": "first_n", "split": "dev"}  # the other way to name the split of examples
    define(
        quiz, "quiz_two", {**QUIZ, "dataset_name": "two", "task": "quiz_two", "fewshot_split": None, "fewshot_config": config}
    )
    own = {"include": quiz, "local": [quiz.parent / "data"]}
    assert [p.prompt for p in task_of("lm-eval:quiz_two", **own).problems] == ["test two 0:", "test two 1:"]
    with pytest.raises(DataError, match="no file of the split 'dev', where the 1 examples of quiz_two come from"):
        task_of("lm-eval:quiz_two", **own, fewshot=1)


INLINE = {k: v for k, v in QUIZ.items() if k != "task"}
TWO = {"dataset_name": "two"}


@pytest.mark.parametrize(
    ("group", "prompts"),
    [
        ({"task": [{"task": "quiz_one", **TWO}]}, {"quiz_one": "two"}),
        ({"task": ["quiz_one"], **TWO}, {"quiz_one": "two"}),
        ({"task": [{"task": "quiz_one", "dataset_name": "one"}], **TWO}, {"quiz_one": "one"}),
        ({"task": ["quiz_two", {"group": "inner", "task": ["quiz_one"], **TWO}]}, {"quiz_two": "two", "quiz_one": "two"}),
        ({"task": [{"group": "quiz", **TWO}]}, {"quiz_one": "two", "quiz_two": "two"}),
        ({"task": ["a_tag"], **TWO}, {"quiz_three": "two"}),
        ({"task": ["quiz_two", {"task": "mine", **INLINE}]}, {"quiz_two": "two", "over::mine": "one"}),
    ],
)
def test_files_are_those_of_the_dataset_that_a_group_gives_its_tasks(group: Any, prompts: dict[str, str], quiz: Path):
    define(quiz, "quiz_three", {**QUIZ, "task": "quiz_three", "tag": "a_tag"})
    define(quiz, "over", {"group": "over", **group})
    task = task_of("lm-eval:over", include=quiz, local=[quiz.parent / "data"])
    count = {"one": 4, "two": 2}
    assert [(p.id, p.prompt) for p in task.problems] == [
        (f"{name}/{i}", f"test {data} {i}:") for name, data in prompts.items() for i in range(count[data])
    ]


def test_subjects_and_a_number_of_documents_narrow_a_group(quiz: Path):
    data = [quiz.parent / "data"]
    assert {p.tags for p in task_of("lm-eval:quiz", include=quiz, local=data, subjects=["two"]).problems} == {("quiz_two",)}
    both = task_of("lm-eval:quiz", include=quiz, local=data, per_task=1).problems
    assert [p.id for p in both] == ["quiz_one/0", "quiz_two/0"]
    with pytest.raises(UsageError, match="'quiz' has no subject 'tow'; did you mean 'two'"):
        task_of("lm-eval:quiz", include=quiz, local=data, subjects=["tow"])


def test_subjects_of_lm_evals_own_groups_go_by_their_ends(data: Path):
    task = task_of("bbh", local=[data], subjects=["navigate"], per_task=2)
    assert [p.id for p in task.problems] == ["bbh_cot_fewshot_navigate/0", "bbh_cot_fewshot_navigate/1"]
    with pytest.raises(UsageError, match=r"several subjects 'five_objects': .*deduction_five.*tracking_"):
        task_of("bbh", local=[data], subjects=["five_objects"])
    with pytest.raises(UsageError, match="'mmlu' has no subject 'anatomi'; did you mean 'anatomy'"):
        task_of("mmlu", local=[data], subjects=["anatomi"])


def test_other_data_is_another_task(quiz: Path):
    data = [quiz.parent / "data"]
    first = task_of("lm-eval:quiz", include=quiz, local=data).describe()
    assert task_of("lm-eval:quiz", include=quiz, local=data, hash=first["problems_hash"]).describe()["problems_hash"]
    assert first["version"] == f"7; lm-eval {metadata.version('lm-eval')}"
    assert first["scoring"] == {
        f"quiz_{n}": {"version": "3", "examples": 0, "verdict": "acc,none"} for n in ("one", "two")
    }  # fmt: skip
    assert str(quiz.parent / "data") not in json.dumps(first)
    asked_otherwise = task_of("lm-eval:quiz", include=quiz, local=data, fewshot=1).describe()
    file = quiz.parent / "data" / "quiz" / "test" / "one.jsonl"
    file.write_text(file.read_text().replace('"answer": 1', '"answer": 0', 1))
    changed = task_of("lm-eval:quiz", include=quiz, local=data).describe()
    assert len({d["problems_hash"] for d in (first, changed, asked_otherwise)}) == 3
    with pytest.raises(DataError, match=f"wants problems with the hash {first['problems_hash']}, and those here"):
        task_of("lm-eval:quiz", include=quiz, local=data, hash=first["problems_hash"])


def test_a_pinned_version_of_lm_eval_is_kept_to(quiz: Path):
    settings = {"options.include": str(quiz), "options.local": [str(quiz.parent / "data")], "version": "7; lm-eval 0.1"}
    for known in ("7", f"7; lm-eval {metadata.version('lm-eval')}"):
        load_task(load_task_card("lm-eval:quiz", {**settings, "version": known}))
    with pytest.raises(UsageError, match=r"wants version '7; lm-eval 0\.1', and here it is '7; lm-eval 0\.4"):
        load_task(load_task_card("lm-eval:quiz", settings))


def test_the_spec_leads_back_to_the_card(quiz: Path):
    settings = {"options.include": str(quiz), "options.local": [str(quiz.parent / "data")], "options.fewshot": 1}
    card = load_task_card("lm-eval:quiz", settings)
    stored: dict[str, Any] = load_task(card).describe()
    kept = {k: v for k, v in stored.items() if k not in {"problems_hash", "problems_n", "scoring"}}
    again = build_task_card({**json.loads(json.dumps(kept)), "description": ""}, "a run")
    assert (again.kind, again.options.fewshot, again.options.local) == ("lm-eval", 1, ())
    assert again.version == stored["version"]


def test_local_files_are_found_from_the_folder_of_the_card(quiz: Path):
    card = quiz.parent / "mine.toml"
    options = f'task = "quiz_two"\ninclude = "{quiz}"\nlocal = ["data"]'
    card.write_text(f'description = "two"\nkind = "lm-eval"\n[options]\n{options}\n')
    assert len(load_task(load_task_card(str(card))).problems) == 2


def test_numbers_in_a_table_are_numbers_as_for_lm_eval(quiz: Path):
    """lm-eval reads such a file through pandas; an answer "1" would be no option, and every answer wrong."""
    file = quiz.parent / "data" / "quiz" / "test" / "two.jsonl"
    file.with_suffix(".csv").write_text("text,answer,note\nfirst:,1,\nsecond:,0,x\n")
    file.unlink()
    task = task_of("lm-eval:quiz_two", include=quiz, local=[quiz.parent / "data"])
    assert [(p.prompt, p.reference) for p in task.problems] == [("first:", " green"), ("second:", " red")]
    assert rows(file.with_suffix(".csv"))[0] == {"text": "first:", "answer": 1, "note": None}
    for broken in ("text,answer\n1,2,3\n", "text,answer\n1,2\n1,2,3\n", 'text\n"a\n', ""):
        file.with_suffix(".csv").write_text(broken)
        with pytest.raises(DataError, match=r"two\.csv is not valid CSV: .*\S$"):
            rows(file.with_suffix(".csv"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_are_read_from_every_kind_of_file(ending: str, tmp_path: Path):
    import gzip

    import pyarrow
    from pyarrow import parquet

    wanted = [{"text": "a,\nb", "answer": 1}, {"text": "ü", "answer": 0}]
    lines = "".join(json.dumps(row) + "\n" for row in wanted).encode()
    table = 'text,answer\n"a,\nb",1\nü,0\n'.encode()
    file = tmp_path / f"rows{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(wanted), file)
    else:
        content = {".jsonl": lines, ".jsonl.gz": gzip.compress(lines), ".json": json.dumps(wanted).encode(), ".csv": table}
        file.write_bytes(content[ending])
    assert rows(file) == wanted
    file.write_bytes(b"\x93")
    with pytest.raises(DataError, match=f"rows{ending}"):
        rows(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "word_perplexity"}]}, "no answer to draw"),
        ({"unsafe_code": True}, "runs the model's code, and lm-eval has no sandbox"),
        ({"metric_list": [{"metric": "brier_score"}]}, "no metric that calls an answer right or wrong"),
        ({"doc_to_text": "{{nothing_of_this.name}}"}, "has no column 'nothing_of_this', which quiz_one reads"),
    ],
)
def test_a_task_that_cannot_be_had_is_one_line(changes: dict[str, Any], message: str, quiz: Path):
    define(quiz, "quiz_one", {**QUIZ, **changes})
    with pytest.raises(SpaBenchError, match=message) as caught:
        task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"]).describe()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("unsafe", "message"), [(True, "runs the model's code"), (False, "no hub")])
def test_a_module_of_a_task_that_cannot_be_imported_is_one_line(unsafe: bool, message: str, quiz: Path):
    define(quiz, "quiz_one", {**QUIZ, "unsafe_code": unsafe})
    (quiz / "utils.py").write_text("raise FileNotFoundError('no hub')\n")
    definition = quiz / "quiz_one.yaml"
    definition.write_text("{process_docs: !function utils.docs, " + definition.read_text().lstrip().removeprefix("{"))
    for local in ([quiz.parent / "data"], []):
        with pytest.raises(SpaBenchError, match=message):
            task_of("lm-eval:quiz_one", include=quiz, local=local)


@pytest.mark.parametrize(("key", "value"), [("filter", "first"), ("max_gen_toks", 8)])
def test_an_option_of_answers_is_refused_where_there_are_choices_alone(key: str, value: object, quiz: Path):
    with pytest.raises(
        UsageError, match=f"options.{key} is {value!r}, for generated answers, but quiz_one asks for choices alone"
    ):
        task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"], **{key: value})


def test_a_definition_that_lm_eval_passes_over_is_named_with_the_reason(quiz: Path, tmp_path: Path):
    (quiz / "quiz_one.yaml").write_text("task: quiz_one\nnum_fewshot: [0\n")
    with pytest.raises(
        UsageError, match=r"lm-eval has no task 'quiz_one': .*/quiz_one\.yaml cannot be read: .*expected"
    ) as error:
        task_of("lm-eval:quiz_one", include=quiz, folder="winogrande")
    assert "\n" not in str(error.value)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match=r"lm-eval has no task 'quiz_one': there is no \.yaml file in .*/nothing$"):
        task_of("lm-eval:quiz_one", include=tmp_path / "nothing", folder="winogrande")


def test_an_unknown_task_names_the_nearest(quiz: Path):
    with pytest.raises(UsageError, match=r"lm-eval has no task 'quizz_one'; did you mean 'quiz_one'"):
        task_of("lm-eval:quizz_one", include=quiz, folder="winogrande")
    with pytest.raises(UsageError, match=r"lm-eval has no task 'mini_nlu'; it is a task of ours: --task mini-nlu"):
        task_of("lm-eval:mini_nlu", include=quiz, folder="winogrande")
    with pytest.raises(UsageError, match=r"'quiz_tow'; did you mean 'quiz_two' or 'quiz_one' or 'quiz'"):
        task_of("lm-eval:quiz_tow", include=quiz, folder="winogrande")
    for nothing in ("lm-eval:", "lm-eval: "):
        with pytest.raises(UsageError, match=r"--task lm-eval:NAME takes the name .*got none \(`lm-eval ls tasks`"):
            load_task_card(nothing)
    with pytest.raises(UsageError, match=r"unknown task 'lm-eval'; any task or group of lm-eval is lm-eval:NAME"):
        load_task_card("lm-eval")
    for slip, meant in (("MMLU", "mmlu"), ("mbpp+", "mbpp-plus"), ("mini_nlu", "mini-nlu")):
        with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
            load_task_card(slip)
    with pytest.raises(UsageError, match=r"unknown task 'arc_easy'.*any task of lm-eval is lm-eval:NAME"):
        load_task_card("arc_easy")
    with pytest.raises(UsageError, match=r"options.folder is 'nowhere'; there is no such folder"):
        task_of("winogrande", folder="nowhere")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"options.fewshots": 1}, "unknown key 'options.fewshots' in .*did you mean 'options.fewshot'"),
        ({"options.fewshot": -2}, "options.fewshot is -2"),
        ({"options.too_long": "drop"}, "options.too_long is 'drop'"),
        ({"options.system": "Be kind."}, "options.system is 'Be kind.', but without chat"),
        ({"options.task": ""}, "options.task is missing"),
        ({"kind": "lm_eval"}, "kind is 'lm_eval'.*"),
    ],
)
def test_a_wrong_card_is_one_line(setting: dict[str, Any], message: str):
    with pytest.raises(CardError, match=message):
        load_task_card("winogrande", setting)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(DataError, match=r"options\.local names '.*nowhere', and there is no such file or folder"):
        task_of("winogrande", local=[tmp_path / "nowhere"])
    (tmp_path / "winogrande").mkdir()
    with pytest.raises(DataError, match=r"would stand in for allenai/winogrande, but there is no .*validation/winogrande_xl"):
        task_of("winogrande", local=[tmp_path])


def test_without_lm_eval_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr("spa_bench.tasks.lm_eval.library.metadata.version", missing)
    with pytest.raises(UsageError, match=r"pip install 'spa-bench\[lm-eval\]'"):
        task_of("winogrande")


def model(context: int) -> MockModel:
    """A model whose tokens are bytes."""
    mock = MockModel(lambda request: "")
    mock.context = context
    return mock


def test_a_length_that_no_answer_would_have_is_refused_with_the_setting_that_has_one(quiz: Path):
    define(quiz, "said", {**QUIZ, "task": "said", "output_type": "generate_until", "doc_to_choice": None, "metric_list": EXACT})
    places = {"include": quiz, "local": [quiz.parent / "data"]}
    written, chosen = (f"lm-eval:{name}" for name in ("said", "quiz_one"))
    task_of(written, **places).asked_by(model(1000), None)
    for length in (64, 512, 700):
        task = task_of(written, **places, card={"max_new_tokens": length})
        with pytest.raises(UsageError, match=rf"max_new_tokens is {length}, but .* set task.options.max_gen_toks={length}$"):
            task.asked_by(model(1000), None)
    with pytest.raises(UsageError, match="stop has no effect"):
        task_of(written, **places, card={"stop": ["x"]}).asked_by(model(1000), None)
    assert task_of(written, **places).describe()["max_new_tokens"] == 0
    assert task_of(written, **places, max_gen_toks=7).asked_by(model(1000), 1).prompts[0].max_new_tokens == 7
    plain = task_of(chosen, **places)
    [prompt] = plain.asked_by(model(1000), 1).prompts
    assert (prompt.max_new_tokens, plain.describe()["max_new_tokens"]) == (64, 64)
    other = task_of(chosen, **places, card={"max_new_tokens": 9, "stop": ["x"]})
    [prompt] = other.asked_by(model(1000), 1).prompts
    assert (prompt.max_new_tokens, other.describe()["max_new_tokens"]) == (9, 9)


def test_a_column_that_is_not_there_is_named_with_those_that_are(quiz: Path):
    file = quiz.parent / "data" / "gpqa" / "gpqa_main.jsonl"
    file.parent.mkdir()
    row = {"Question": "?", "Correct Answer": "a", "Incorrect Answer 1": "b", "Incorrect Answer 2": "c"}
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as caught:
        task_of("gpqa", local=[quiz.parent / "data"])
    assert str(caught.value) == (
        f"{file} has no column 'Incorrect Answer 3', which gpqa_main_zeroshot reads; it has Question, Correct Answer, "
        f"Incorrect Answer 1, Incorrect Answer 2"
    )
    known = r"'{}', which quiz_one reads; it has text, answer$|reads '{}', which is no column; rows have text, answer$"
    for wrong, name in (({"doc_to_text": "{{txt}}"}, "txt"), ({"doc_to_target": "{{solution}}"}, "solution")):
        message = known.format(name, name)
        define(quiz, "quiz_one", {**QUIZ, **wrong})
        with pytest.raises(DataError, match=message):
            task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"])


@pytest.mark.parametrize("key", ["doc_to_text", "doc_to_target", "doc_to_choice"])
@pytest.mark.parametrize("fails", ["doc['text'] + None", "{}[doc['text']]", "1 / 0", "{}['answer']"])
def test_a_function_of_a_task_that_fails_on_a_row_is_one_line(key: str, fails: str, quiz: Path):
    lines = [f"{k}: {json.dumps(value)}" for k, value in QUIZ.items() if k != key]
    (quiz / "quiz_one.yaml").write_text("\n".join([*lines, f"{key}: !function asking.asked"]))
    right = {"doc_to_text": "doc['text']", "doc_to_target": "0", "doc_to_choice": "['red', 'green']"}[key]
    (quiz / "asking.py").write_text(f"def asked(doc):\n    return {fails} if doc['text'] == 'test one 2:' else {right}\n")
    with pytest.raises(DataError, match="lm-eval cannot ask quiz_one: ") as caught:
        task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"filter_list": [{"name": "x", "filter": [{"function": "nope"}]}]}, "cannot load quiz_one: .*Unknown filter 'nope'"),
        ({"fewshot_config": {"sampler": "nope", "split": "dev"}}, "cannot load quiz_one: .*contextsampler 'nope'"),
        ({"metric_list": [{"metric": "nope"}]}, "lm-eval cannot load quiz_one: "),
    ],
)
def test_a_name_that_lm_eval_does_not_know_is_not_called_a_column(wrong: dict[str, Any], message: str, quiz: Path):
    define(quiz, "quiz_one", {**QUIZ, **wrong})
    with pytest.raises(DataError, match=message) as caught:
        task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"])
    assert "column" not in str(caught.value)


def test_files_of_a_run_that_have_moved_name_the_option_that_says_where_they_are(quiz: Path, tmp_path: Path):
    places = {"include": quiz, "local": [tmp_path / "data"]}
    task = task_of("lm-eval:quiz_one", **places)
    run = RunFolder(tmp_path / "run", {"task": json.loads(json.dumps(task.describe())), "sampler": {"kind": "mixture"}})
    run.path.mkdir()
    run.write_json("task_file.json", {"local": [str(tmp_path / "gone")], "include": str(quiz)})
    with pytest.raises(UsageError, match=r"cannot read the problems in .*gone: .*; --task-file FILE says where"):
        spa_task_of(run)


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_done(quiz: Path):
    task = task_of("lm-eval:quiz", include=quiz, local=[quiz.parent / "data"], fewshot=1)
    longest = max(len(p.prompt) for p in task.problems) + len(" green") + 64
    task.asked_by(model(longest), None)
    with pytest.raises(UsageError) as caught:
        task.asked_by(model(longest - 1), None)
    said = str(caught.value)
    assert f"needs {longest} tokens ({longest - 70} of its prompt, 70 for the answer)" in said
    assert f"model 'mock' has a context of {longest - 1}" in said
    assert "options.fewshot" in said
    assert task.asked_by(model(longest - 1), 0) == Asking(())  # nothing is asked


def test_a_prompt_that_a_drawn_part_leaves_out_may_be_too_long(quiz: Path):
    rows = [{"text": f"{i} {'long ' * 100 * (i == 3)}:", "answer": 0} for i in range(8)]
    (quiz.parent / "data" / "quiz" / "test" / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = {"options.include": str(quiz), "options.local": [str(quiz.parent / "data")]}
    task = load_task(load_task_card("lm-eval:quiz_one", {**places, "shuffle": 0}))
    place = [p.id for p in task.problems].index("quiz_one/3")
    assert place > 0
    asking = task.asked_by(model(200), place)
    assert [p.problem_id for p in asking.prompts] == [p.id for p in task.problems[:place]]
    assert [a.problem_id for a in asking.asked] == [p.id for p in task.problems[:place]]
    with pytest.raises(UsageError, match=r"quiz_one/3 needs .* it is the longest of 1 \(of "):
        task.asked_by(model(200), place + 1)


def test_cutting_is_asked_for_and_named(quiz: Path):
    task = task_of("lm-eval:quiz_one", include=quiz, local=[quiz.parent / "data"], fewshot=1, too_long="cut")
    assert not any(a.cut for a in task.asked_by(model(1000), None).asked)
    assert all(a.cut for a in task.asked_by(model(90), None).asked)
    with pytest.raises(UsageError, match=r"70 tokens for the answer alone.*no prompt can be cut to fit") as said:
        task.asked_by(model(70), None)
    assert "too_long" not in str(said.value)  # it is set


class Chatty(MockModel):
    """A model with a template of angle brackets, which knows no system role where `strict`."""

    def __init__(self, *, strict: bool = False):
        super().__init__(lambda request: "")
        self._strict = strict

    def as_chat(self, messages: Any) -> tuple[str, str]:
        if self._strict and messages[0][0] == "system":
            raise ModelError("the chat template refuses the messages")
        return "".join(f"<{role}>{text}" for role, text in messages) + "<assistant>", "</end>"


def test_a_chat_model_is_asked_through_its_template(quiz: Path):
    own = {"include": quiz, "local": [quiz.parent / "data"], "fewshot": 1, "chat": True, "system": "Be short."}
    task = task_of("lm-eval:quiz_two", **own)
    context, text = task.asked_by(Chatty(), 1).asked[0].options[0]
    assert context.startswith("<system>Be short.<user>dev two ")
    assert context.endswith("<user>test two 0:<assistant>")
    assert "<assistant>" in context.removesuffix("<assistant>")  # the example is a turn of its own
    assert text == "red"  # lm-eval: no space after a chat template
    strict = task.asked_by(Chatty(strict=True), 1).asked[0]
    assert strict.options[0][0].startswith("<user>dev two ")  # lm-eval leaves the system message out
    single = task_of("lm-eval:quiz_two", **own, multiturn=False)
    assert single.asked_by(Chatty(), 1).asked[0].options[0][0].count("<assistant>") == 1
    with pytest.raises(ModelError, match="has none here"):
        task.asked_by(model(4096), None)
    assert [one.texts for one in task.options(1)] == [(" red", " green")]  # the same for every model
    assert single.describe()["problems_hash"] == task.describe()["problems_hash"]  # that of the texts, not of a model


def test_options_that_differ_in_their_contexts_are_told_apart_by_a_reader():
    wino = [("The cup fell as the cup", " was wet."), ("The cup fell as the cupboard", " was wet."), ("", " was wet.")]
    assert options_for_readers(Asked("q/0", tuple(wino), 2)) == ("cup was wet.", "cupboard was wet.", " was wet.")
    same = [("Red or green? ", "red"), ("Red or green? ", "green")]
    assert options_for_readers(Asked("q/1", tuple(same), 2)) == ("red", "green")


def test_a_model_without_a_chat_template_is_one_line(quiz: Path, tiny_model: Any):
    task = task_of("lm-eval:quiz_two", include=quiz, local=[quiz.parent / "data"], chat=True)
    with pytest.raises(ModelError, match="has no chat template"):
        task.asked_by(tiny_model, None)


def test_lm_eval_says_nothing(quiz: Path, capfd: pytest.CaptureFixture[str]):
    task_of("lm-eval:quiz", include=quiz, local=[quiz.parent / "data"]).describe()
    assert capfd.readouterr() == ("", "")


def test_the_cards_are_listed_without_loading_lm_eval(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    listed = call("list", "tasks")
    assert listed.code == 0
    for name in ("bbh", "gpqa", "mmlu", "winogrande"):
        assert f"\n{name} " in listed.out
