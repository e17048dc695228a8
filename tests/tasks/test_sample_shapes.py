"""Samples in the formats of other tools, from several files, globs and standard input (spa_bench.runs.sample_shapes)."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from doubles import RIGHT, InProcessJudge, Lines
from spa_bench.cards.task import load_task_card
from spa_bench.errors import DataError, UsageError
from spa_bench.runs.grade import grade
from spa_bench.runs.import_samples import import_samples, read_files, read_samples
from spa_bench.runs.job import load_task
from spa_bench.runs.sample_shapes import SHAPES
from spa_bench.runs.values import label_of
from spa_bench.runs.verify import verify
from spa_bench.tasks.code import CodeTask

IDS = list(RIGHT)
WRONG = dict.fromkeys(IDS, "    return None")


@pytest.fixture
def task(three: Path) -> CodeTask:
    loaded = load_task(load_task_card(str(three)))
    assert isinstance(loaded, CodeTask)
    return loaded


def programs(task: CodeTask, texts: dict[str, str]) -> dict[str, str]:
    return {p.id: p.prompt + texts[p.id] for p in task.problems if p.id in texts}


def rows(task: CodeTask, ids: list[str]) -> bytes:
    return json.dumps([{"task_id": i, "completion": RIGHT[i]} for i in ids]).encode()


def results(task: CodeTask, ids: list[str]) -> bytes:
    whole = programs(task, RIGHT)
    entry = {i: [{"task_id": i, "solution": whole[i], "base_status": "fail"}] for i in ids}
    return json.dumps({"date": "2024-01-01", "hash": "0", "eval": entry}, indent=1).encode()


def generations(task: CodeTask, ids: list[str]) -> bytes:
    whole = programs(task, RIGHT)
    return json.dumps([[whole[i]] for i in ids]).encode()


def noveltybench(task: CodeTask, ids: list[str]) -> bytes:
    whole, prompts = programs(task, RIGHT), {p.id: p.prompt for p in task.problems}
    lines = [{"id": i, "prompt": prompts[i], "model": "m", "generations": [whole[i]]} for i in ids]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def lm_eval(task: CodeTask, ids: list[str]) -> bytes:
    whole = programs(task, RIGHT)
    lines = [
        {
            "doc_id": n,
            "doc": {"task_id": i, "prompt": "…"},
            "arguments": {"gen_args_0": {"arg_0": "…"}},
            "resps": [[RIGHT[i]]],
            "filtered_resps": [[whole[i]]],
            "filter": "create_test",
        }
        for n, i in enumerate(ids)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def inspect_sample(task: CodeTask, name: str, epoch: int = 1, **others: object) -> dict[str, object]:
    text = f"Here it is:\n\n```python\n{programs(task, RIGHT)[name]}```\n\nGood luck!"
    return {
        "id": name,
        "epoch": epoch,
        "input": "…",
        "output": {"model": "m", "choices": [{"message": {"role": "assistant", "content": text}}], "completion": text},
        **others,
    }


def inspect_json(task: CodeTask, ids: list[str]) -> bytes:
    samples = [inspect_sample(task, i) for i in ids]
    return json.dumps({"version": 2, "status": "success", "eval": {"task": "t"}, "plan": {}, "samples": samples}).encode()


def inspect_zip(task: CodeTask, ids: list[str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "t"}}))
        archive.writestr("summaries.json", "[]")
        for i in ids:
            archive.writestr(f"samples/{i}_epoch_1.json", json.dumps(inspect_sample(task, i)))
    return packed.getvalue()


def batch(task: CodeTask, ids: list[str]) -> bytes:
    lines = []
    for i in ids:
        text = f"Sure:\n\n```python\n{programs(task, RIGHT)[i]}```\n"
        body = {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
        lines.append({"id": "b", "custom_id": i, "response": {"status_code": 200, "body": body}, "error": None})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def by_id(task: CodeTask, ids: list[str]) -> bytes:
    return json.dumps({i: [programs(task, RIGHT)[i]] for i in ids}, indent=1).encode()


FORMS: dict[str, tuple[Callable[[CodeTask, list[str]], bytes], str]] = {
    "array": (rows, "evalplus' samples"),
    "results": (results, "evalplus' results"),
    "generations": (generations, "bigcode's generations"),
    "noveltybench": (noveltybench, "NoveltyBench's generations"),
    "batch": (batch, "OpenAI's batch output"),
    "by id": (by_id, "texts by id"),
    "lm-eval": (lm_eval, "lm-eval's samples"),
    "inspect-json": (inspect_json, "Inspect's log"),
    "inspect-zip": (inspect_zip, "Inspect's log"),
}


def test_every_shape_of_the_table_is_tried_here():
    assert {name for _, name in FORMS.values()} == {shape.name for shape in SHAPES}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_recognised_said_and_right(
    form: str, packed: bool, task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    write, name = FORMS[form]
    content = write(task, IDS)
    path = tmp_path / "samples"  # no ending: the content decides
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_files(path, task, cut=False)
    assert read.told[0].startswith(f"{path}: {name}, 3 answers to 3 problems")
    assert {str(g.verdict) for g in task.score(read.records, sandbox)} == {"passed"}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_takes_a_part_of_the_problems_only_with_partial(form: str, task: CodeTask, tmp_path: Path):
    path = tmp_path / "samples"
    path.write_bytes(FORMS[form][0](task, IDS[:2]))
    with pytest.raises(DataError, match=r"has no sample for three/last \(1 of 3 problems are missing\)"):
        read_samples(path, task, cut=False)
    assert [r.problem for r in read_samples(path, task, cut=False, partial=True)] == IDS[:2]


@pytest.mark.parametrize("form", FORMS)
def test_what_score_accepts_verify_accepts(form: str, task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    path = tmp_path / "samples"
    path.write_bytes(FORMS[form][0](task, IDS if form == "generations" else IDS[::-1]))
    folder = import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap")
    grade(folder, task, Lines(), sandbox=None, workers=1)
    assert verify(folder, task) == []


@pytest.mark.parametrize("order", ["by-draw", "reversed"])
def test_lines_in_another_order_than_the_problems_are_a_whole_run(
    order: str, task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    lines = [{"task_id": i, "completion": texts[i]} for texts in (RIGHT, WRONG) for i in IDS]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(map(json.dumps, lines[::-1] if order == "reversed" else lines)))
    folder = import_samples(path, task, tmp_path / "out", label="s", cut=False, sandbox="bwrap")
    grade(folder, task, Lines(), sandbox=None, workers=1)
    assert verify(folder, task) == []
    assert folder.metrics()["values"]["pass@1"] == [0.5] * 3
    first = next(r for r in folder.record_log.rows() if r.draw == 0)
    assert first.graded == (WRONG if order == "reversed" else RIGHT)[first.problem].rstrip()


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_byte_order_mark_is_read(mark: bytes, task: CodeTask, tmp_path: Path):
    codec = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}[mark]
    path = tmp_path / "s.jsonl"
    path.write_bytes(mark + rows(task, IDS).decode().encode(codec))
    assert len(read_samples(path, task, cut=False)) == 3


def test_several_files_and_a_glob_are_draws_in_their_order(task: CodeTask, tmp_path: Path):
    tmp_path = tmp_path / "samples"
    tmp_path.mkdir()
    (tmp_path / "b.jsonl").write_bytes(rows(task, IDS))
    (tmp_path / "a.json").write_text(json.dumps([[programs(task, WRONG)[i]] for i in IDS]))
    by_name = read_files([tmp_path / "b.jsonl", tmp_path / "a.json"], task, cut=False)
    assert [r.graded for r in by_name.records[:2]] == [RIGHT[IDS[0]].rstrip(), WRONG[IDS[0]].rstrip()]
    by_glob = read_files(tmp_path / "*.json*", task, cut=False)
    assert [r.graded for r in by_glob.records[:2]] == [WRONG[IDS[0]].rstrip(), RIGHT[IDS[0]].rstrip()]
    assert len(by_glob.told) == 2
    assert by_glob.hash != by_name.hash


def test_standard_input_is_read(task: CodeTask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(rows(task, IDS))))
    assert len(read_samples(Path("-"), task, cut=False)) == 3


def test_files_that_cannot_be_meant_are_refused(task: CodeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tmp_path = tmp_path / "samples"
    tmp_path.mkdir()
    (tmp_path / "a.jsonl").write_bytes(rows(task, IDS))
    (tmp_path / "b.jsonl").write_bytes(rows(task, IDS))
    with pytest.raises(UsageError, match=r"a\.jsonl and .*b\.jsonl hold the same bytes"):
        read_samples(tmp_path / "*.jsonl", task, cut=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^a\.jsonl and a\.jsonl hold the same bytes"):
        read_samples([Path("a.jsonl"), Path("a.jsonl")], task, cut=False)
    with pytest.raises(UsageError, match=r"a folder; give its files of samples, by name or as a glob such as '.*/\*\.jsonl'"):
        read_samples(tmp_path, task, cut=False)
    with pytest.raises(UsageError, match="no file matches"):
        read_samples(tmp_path / "*.eval", task, cut=False)


def test_the_name_in_tables_is_that_of_the_files():
    assert label_of(None, [Path("x/a.jsonl.gz")]) == "a"
    assert label_of(None, [Path("log.eval")]) == "log"
    assert label_of(None, [Path("a.jsonl.zst")]) == "a"
    assert label_of(None, [Path("-")]) == "stdin"
    assert label_of(None, [Path("logs/*.eval")]) == "samples"
    assert label_of(None, [Path("samples_*.jsonl")]) == "samples_"
    assert label_of(None, [Path("a.json"), Path("b.json"), Path("c.json")]) == "a-and-2-more"
    assert label_of("mine", [Path("a.json")]) == "mine"


UNREAD: list[tuple[object, str]] = [
    ([{"id": 1, "text": "x"}], r"it is an array of objects with the keys id, text; what is read: .*\(Inspect's log\); .*"),
    ({"a": 1}, r"it is one object with the keys a; what is read"),
    ([1, 2], r"it is an array of int values"),
    ([{"task_id": 3, "completion": "x"}], r"entry 1: task_id is the number 3; the ids of task three are texts, such as"),
    ([{"task_id": "three/add", "completion": None}], r"completion is null; .* counts as failed, .*--partial"),
    ([["a"], ["b"], ["c"], ["d"]], r"lists of texts for 4 problems, and task three .* has 3"),
    ([["a"], "b"], r"entry 2 must be a list of texts"),
    ([[1]], r"a text must be one text; got int"),
    ({"date": "", "eval": {"three/add": [{"base": ["pass"]}]}}, r"eval\['three/add'\] holds verdicts without a solution"),
    ({"eval": {}, "plan": {}, "samples": []}, r"a log of Inspect without samples"),
    ({"eval": {"task": "t"}, "plan": {}, "samples": [{"id": "x"}]}, r"samples\[0\] is no sample of Inspect"),
    ({"eval": {}, "plan": {}, "samples": [{"id": "x", "epoch": 1, "output": {}}]}, r"has no problem 'x'"),
    (
        [{"doc_id": 0, "doc": {}, "resps": [[["-1.2", "False"]]]}],
        r"doc_id 0 would be three/add .*question there is another",
    ),
    ([{"doc_id": 7, "doc": {}, "resps": [["x"]]}], r"doc_id is 7; task three has the problems 0 to 2"),
    (
        [{"doc_id": 0, "doc": {"task_id": "three/add"}, "resps": [[["-1.2", "False"]]]}],
        r"rows of multiple choice hold log-probabilities",
    ),
]
"""The JSON of a file that is no samples of task three, and a pattern of the message."""


@pytest.mark.parametrize(("content", "message"), UNREAD)
def test_what_is_not_read_says_what_was_seen(content: object, message: str, task: CodeTask, tmp_path: Path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_samples(path, task, cut=False)


def test_generations_in_another_order_are_refused(task: CodeTask, tmp_path: Path):
    whole = programs(task, RIGHT)
    path = tmp_path / "generations.json"
    path.write_text(json.dumps([[whole[i]] for i in (IDS[1], IDS[2], IDS[0])]))
    with pytest.raises(DataError, match=r"of 3 programs name the function of their problem, so list i is not of problem i"):
        read_samples(path, task, cut=False)


def test_generations_that_are_bodies_continue_their_prompts(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    path = tmp_path / "generations.json"
    path.write_text(json.dumps([[RIGHT[i]] for i in IDS]))
    assert {str(g.verdict) for g in task.score(read_samples(path, task, cut=False), sandbox)} == {"passed"}


def test_a_number_is_the_problem_that_ends_in_it_where_the_question_is_the_same(task: CodeTask, tmp_path: Path):
    number = [p.id for p in task.problems].index("three/add")
    row = {"doc_id": number, "doc": {"text": task.problems[number].prompt}, "resps": [["    return a + b"]]}
    path = tmp_path / "samples_x.jsonl"
    path.write_text(json.dumps(row))
    [record] = read_samples(path, task, cut=False, partial=True)
    assert (record.problem, record.graded) == ("three/add", "    return a + b")


def test_of_several_filters_of_lm_eval_one_is_read_and_said(task: CodeTask, tmp_path: Path):
    lines = [json.loads(line) for line in lm_eval(task, IDS).splitlines()]
    path = tmp_path / "samples_x.jsonl"
    path.write_text("\n".join(json.dumps({**line, "filter": name}) for name in ("strict", "flexible") for line in lines))
    read = read_files(path, task, cut=False)
    assert len(read.records) == 3
    assert read.told[0].endswith("; the rows of filter 'strict', not of 'flexible'")


def test_epochs_of_inspect_are_draws_and_errors_are_counted(task: CodeTask, tmp_path: Path):
    samples = [inspect_sample(task, i, epoch) for epoch in (2, 1) for i in IDS]
    samples[0]["output"] = {"choices": [{"message": {"content": [{"type": "reasoning"}, {"type": "text", "text": "second"}]}}]}
    samples.append({**inspect_sample(task, IDS[0], 3), "error": {"message": "rate limit"}})
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"eval": {}, "plan": {}, "samples": samples}))
    read = read_files(path, task, cut=False)
    assert [r.raw == "second" for r in read.records] == [False, True, False, False, False, False]
    assert read.told[0].endswith("6 answers to 3 problems; 1 samples ended in an error and are left out")


def test_members_of_a_log_may_be_compressed_by_zstandard(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    reader = zipfile if sys.version_info >= (3, 14) else pytest.importorskip("backports.zstd.zipfile")
    packed = io.BytesIO()
    with reader.ZipFile(packed, "w", reader.ZIP_ZSTANDARD) as archive:
        archive.writestr("header.json", "{}")
        for i in IDS:
            archive.writestr(f"samples/{i}_epoch_1.json", json.dumps(inspect_sample(task, i)))
    path = tmp_path / "log.eval"
    path.write_bytes(packed.getvalue())
    read = read_files(path, task, cut=False)
    assert read.told[0].startswith(f"{path}: Inspect's log, 3 answers to 3 problems")
    assert {str(g.verdict) for g in task.score(read.records, sandbox)} == {"passed"}
    path.write_bytes(packed.getvalue().replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"))  # no frame of Zstandard
    with pytest.raises(DataError, match=r"^cannot read the samples in .*log\.eval: "):
        read_files(path, task, cut=False)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_of_a_log_are_one_line_however_they_are_packed(task: CodeTask, tmp_path: Path, method: int):
    packed, path = io.BytesIO(), tmp_path / "log.eval"
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("samples/a.json", json.dumps(inspect_sample(task, IDS[0])))
    whole = packed.getvalue()
    path.write_bytes(whole[:60] + bytes(20) + whole[80:])
    with pytest.raises(DataError, match=r"^cannot read the samples in .*log\.eval: "):
        read_files(path, task, cut=False)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads Zstandard itself")
def test_what_reads_zstandard_is_named_where_it_is_missing(task: CodeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    log = bytearray(inspect_zip(task, IDS))
    for head, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # how each member is compressed, in both its headers
        place = log.find(head)
        while place >= 0:
            log[place + at : place + at + 2] = (93).to_bytes(2, "little")
            place = log.find(head, place + 1)
    path = tmp_path / "log.eval"
    path.write_bytes(log)
    with pytest.raises(DataError, match=r"log\.eval is compressed by Zstandard, .* pip install 'spa-bench\[inspect\]'"):
        read_files(path, task, cut=False)


def test_a_reply_of_a_chat_that_holds_the_body_alone_continues_the_prompt(
    task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    sample = inspect_sample(task, IDS[0], output={"completion": f"```python\n{RIGHT[IDS[0]]}```"})
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"eval": {}, "plan": {}, "samples": [sample]}))
    records = read_samples(path, task, cut=False, partial=True)
    assert [str(g.verdict) for g in task.score(records, sandbox)] == ["passed"]


def test_the_results_that_evalplus_published_hold_the_samples_they_are_of(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    pytest.importorskip("evalplus")
    folder = data / "generations" / "starcoder2-15b-instruct"
    if not folder.is_dir():
        pytest.skip("the data has no generations")
    task = load_task(load_task_card("humaneval", {"sanitiser": "stop"}))
    assert isinstance(task, CodeTask)
    [samples] = folder.glob("*humaneval.jsonl")
    [verdicts] = folder.glob("*_eval_results.json")
    one, other = (read_samples(path, task, cut=False) for path in (samples, verdicts))
    assert [task.program(r).split() for r in one] == [task.program(r).split() for r in other]


PACKED = {"xz": lzma.compress, "bzip2": bz2.compress, "mark": lambda data: codecs.BOM_UTF8 + data + codecs.BOM_UTF8 + b"\n"}


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_may_be_packed_and_take_several_lines(how: str, indent: int | None, task: CodeTask, tmp_path: Path):
    lines = [json.dumps({"task_id": i, "completion": RIGHT[i]}, indent=indent) + "\n" for i in IDS]
    path = tmp_path / "s.jsonl"
    path.write_bytes(PACKED[how]("".join(lines).encode()))
    assert [r.graded for r in read_samples(path, task, cut=False)] == [RIGHT[i].rstrip() for i in IDS]


def test_a_folder_of_programs_as_evalplus_writes_it_is_read(task: CodeTask, tmp_path: Path):
    for i in IDS:
        folder = tmp_path / "model_temp_0.0" / i.replace("/", "_")
        folder.mkdir(parents=True)
        for number, texts in ((10, WRONG), (9, RIGHT)):
            (folder / f"{number}.py").write_text(programs(task, texts)[i])
    read = read_files(tmp_path / "model_temp_0.0", task, cut=False)
    assert [r.graded for r in read.records] == [texts[i].rstrip() for i in IDS for texts in (RIGHT, WRONG)]
    (tmp_path / "model_temp_0.0" / "three_add" / "9.py").write_bytes(b"# \xe9")
    with pytest.raises(DataError, match=r"cannot read the samples in .*model_temp_0\.0: a program is no UTF-8"):
        read_files(tmp_path / "model_temp_0.0", task, cut=False)


def test_of_several_texts_of_a_row_the_first_that_is_there_counts(task: CodeTask, tmp_path: Path):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(json.dumps({"task_id": i, "solution": None, "completion": RIGHT[i]}) for i in IDS))
    assert [r.graded for r in read_samples(path, task, cut=False)] == [RIGHT[i].rstrip() for i in IDS]


def test_requests_without_an_answer_are_counted(task: CodeTask, tmp_path: Path):
    failed = {"custom_id": IDS[0], "response": {"status_code": 500, "body": {"error": {}}}, "error": None}
    path = tmp_path / "s.jsonl"
    path.write_bytes(json.dumps(failed).encode() + b"\n" + batch(task, IDS))
    read = read_files(path, task, cut=False)
    assert read.told[0].endswith("3 answers to 3 problems; 1 requests have no answer and are left out")


def test_a_reply_in_lm_evals_samples_is_read_as_one(task: CodeTask, tmp_path: Path, sandbox: InProcessJudge):
    lines = [json.loads(line) for line in lm_eval(task, IDS).splitlines()]
    for line in lines:
        program = programs(task, RIGHT)[line["doc"]["task_id"]]
        line["resps"] = line["filtered_resps"] = [[f"Here it is:\n\n```python\n{program}```\n"]]
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(json.dumps({**line, "filter": "none"}) for line in lines))
    assert {str(g.verdict) for g in task.score(read_samples(path, task, cut=False), sandbox)} == {"passed"}


def test_a_function_is_named_as_python_reads_names(tmp_path: Path):
    prompt = 'def to_\u00b5m(x):\n    """Thousandfold."""\n'
    row = {"task_id": "n/0", "prompt": prompt, "entry_point": "to_\u00b5m", "test": "def check(candidate):\n    pass\n"}
    (tmp_path / "n.jsonl").write_text(json.dumps(row))
    (tmp_path / "n.toml").write_text('description = "n"\nfile = "n.jsonl"\nversion = "1"\n')
    loaded = load_task(load_task_card(str(tmp_path / "n.toml")))
    assert isinstance(loaded, CodeTask)
    program = "def to_\u03bcm(x):\n    return 1000 * x\n"
    said = {"doc_id": 0, "doc": {"prompt": prompt.replace("\u00b5", "\u03bc")}, "resps": [["    return 1000 * x"]]}
    for number, content in enumerate(([[program]], [said])):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
        assert len(read_samples(tmp_path / f"{number}.json", loaded, cut=False)) == 1


@pytest.mark.parametrize("mark", ["```", "~~~"])
@pytest.mark.parametrize("form", ["text", "lm-eval"])
def test_a_program_with_fences_in_its_docstring_is_no_reply(
    form: str, mark: str, task: CodeTask, tmp_path: Path, sandbox: InProcessJudge
):
    whole = programs(task, RIGHT)[IDS[0]]
    program = f'"""Some text.\n\n{mark}\n1 + 1\n{mark}\n"""\n{whole}'
    row: dict[str, object] = {"task_id": IDS[0], "text": program, "completion": None}
    if form == "lm-eval":
        texts = [[program]]
        row = {**json.loads(lm_eval(task, IDS[:1]).splitlines()[0]), "resps": texts, "filtered_resps": texts, "filter": "none"}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(row))
    records = read_samples(path, task, cut=False, partial=True)
    assert [str(g.verdict) for g in task.score(records, sandbox)] == ["passed"]
