"""What installed packages bring is found by name, loaded when it is used, and one line where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doubles import Call, InProcessJudge, Lines, MockModel, mock_run, sampler_card
from installed import install
from spa_bench.cards import plugins
from spa_bench.cards.kinds import CardKind, Kind
from spa_bench.cards.reading import card_names
from spa_bench.cards.registry import TABLES, kind_of, known
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.source import code_of, source_hash
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, SpaBenchError, UsageError
from spa_bench.runs.engines import chosen_engine
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.runs.reopen import sampler_card as sampler_of
from spa_bench.runs.verify import notes, verify
from spa_bench.samplers.base import sampler_kind

SAMPLERS, TASKS, METRICS, _, ENGINES = plugins.GROUPS.values()
BUILD = '"""Mine.\n\nIt is."""\ndef build(card, adapters=()):\n    return card\n'
OPTIONS = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Own:\n    hot: float = 1.0\n"
    "    def __post_init__(self):\n        if self.hot < 0:\n            raise ValueError(f'hot is {self.hot}; too cold')\n"
    "OPTIONS = Own\n"
)
METRIC = "from spa_bench.metrics.suite import Metric\nM = Metric(name={name!r}, description='mine', compute=lambda s: 1.0)\n"
Install = Callable[..., Path]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Installs packages for this test alone: their modules are called `mine...` and forgotten afterwards."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    count = 0

    def installed(points: dict[str, dict[str, str]], files: dict[str, str] | None = None, name: str = "my-package") -> Path:
        nonlocal count
        count += 1
        folder = install(tmp_path / f"site-{count}", name, points, files)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield installed
    for module in [m for m in sys.modules if m.startswith("mine")]:
        del sys.modules[module]


def refused(act: Callable[[], object]) -> str:
    """The one line with which `act` ends."""
    with pytest.raises(SpaBenchError) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


# what a name means ---------------------------------------------------------------------------------------------------


def test_code_without_a_card_has_one_of_defaults(package: Install):
    package({SAMPLERS: {"warm": "mine:build"}, TASKS: {"quiz": "mine:build"}}, {"mine.py": BUILD + OPTIONS})
    card = load_sampler_card("warm", {"options.hot": 2})
    assert (card.name, card.kind, card.description, card.options.hot) == ("warm", "warm", "Mine.", 2.0)
    assert sampler_kind("warm").build(card, []) is card
    task = load_task_card("quiz", {"options.hot": 3})
    assert (task.name, task.kind, task.description, task.options.hot) == ("quiz", "quiz", "Mine.", 3.0)
    assert refused(lambda: load_task_card("quiz", {"options.hot": -1})) == "task 'quiz': options.hot is -1.0; too cold"
    assert "unknown key 'options.hott' in task 'quiz' of my-package 1.0 with --set; did you mean 'options.hot'?" in refused(
        lambda: load_task_card("quiz", {"options.hott": 1})
    )


DECLARED = (
    "from spa_bench.samplers.base import SamplerKind\nfrom spa_bench.tasks.base import TaskKind\n"
    "from spa_bench.errors import CardError\n"
    "def refuse(card):\n    if card.options.hot > 5:\n        raise CardError(f'{card.name}: too hot')\n"
    "WARM = SamplerKind(build=build, options=Own, check=refuse, card='warm.toml', goes_on=True)\n"
    "QUIZ = TaskKind(build=build, options=Own, check=refuse, unsaid={'max_new_tokens': 3})\n"
)


def test_a_package_may_declare_a_kind_as_an_object(package: Install):
    files = {"mine.py": BUILD + OPTIONS + "del OPTIONS\n" + DECLARED, "warm.toml": 'description = "x"\noptions.hot = 2\n'}
    package({SAMPLERS: {"warm": "mine:WARM"}, TASKS: {"quiz": "mine:QUIZ"}}, files)
    card = load_sampler_card("warm")
    assert (card.name, card.kind, card.description, card.options.hot) == ("warm", "warm", "x", 2.0)
    assert sampler_kind("warm").goes_on
    assert load_sampler_card("warm", {"kind": "mine:WARM"}).options == card.options
    assert refused(lambda: load_sampler_card("warm", {"options.hot": 6})) == "warm: too hot"
    assert "options.hot is -1.0; too cold" in refused(lambda: load_sampler_card("warm", {"options.hot": -1}))
    task = load_task_card("quiz", {"options.hot": 3})
    assert (task.name, task.kind, task.description, task.options.hot, task.max_new_tokens) == ("quiz", "quiz", "Mine.", 3.0, 3)
    assert load_task_card("quiz", {"max_new_tokens": 9}).max_new_tokens == 9
    assert refused(lambda: load_task_card("quiz", {"options.hot": 6})) == "quiz: too hot"


def test_an_object_of_another_table_or_no_kind_is_refused(package: Install):
    files = {"mine.py": BUILD + OPTIONS + DECLARED + "THREE = 3\n"}
    package({SAMPLERS: {"warm": "mine:QUIZ", "three": "mine:THREE"}}, files)
    assert refused(lambda: load_sampler_card("warm")) == "sampler 'warm' leads to a kind of task: TaskKind"
    assert refused(lambda: sampler_kind("warm")) == (
        "sampler 'warm' leads to a TaskKind; it must be a SamplerKind, or a function that builds one"
    )
    assert refused(lambda: sampler_kind("mine:THREE")) == (
        "sampler 'mine:THREE' leads to 3; it must be a SamplerKind, or a function that builds one"
    )
    of_a_card = refused(lambda: kind_of(CardKind, "sampler", "mine:THREE"))
    assert of_a_card.endswith("leads to 3; it must be a SamplerKind, or a function that builds one")
    assert refused(lambda: load_sampler_card("three")).endswith(
        "leads to 3; it must be a kind, a function that builds one, or the path of a .toml card"
    )


@pytest.mark.parametrize("path", ["'cards/warm.toml'", "__import__('pathlib').Path(__file__).parent / 'cards' / 'warm.toml'"])
def test_the_card_beside_code_is_of_that_kind_unless_it_says_otherwise(path: str, package: Install):
    card = 'description = "a card"\ndraws = 7\n'
    package({SAMPLERS: {"warm": "mine:build"}}, {"mine.py": f"{BUILD}CARD = {path}\n", "cards/warm.toml": card})
    found = load_sampler_card("warm")
    assert (found.name, found.kind, found.draws, found.description) == ("warm", "warm", 7, "a card")


def test_the_card_beside_code_may_have_another_kind(package: Install):
    files = {"mine.py": BUILD + "CARD = 'warm.toml'\n", "warm.toml": 'description = "x"\nkind = "mine:build"\n'}
    package({SAMPLERS: {"warm": "mine:build"}}, files)
    assert load_sampler_card("warm").kind == "mine:build"


@pytest.mark.parametrize("value", ["mine:CARD", "mine", "mine:CARD [extra]", "mine : CARD"])
def test_a_package_may_bring_a_card_alone(value: str, package: Install):
    files = {"mine.py": "CARD = 'calm.toml'\n", "calm.toml": 'description = "x"\ndecoding.temperature = 0.25\n'}
    package({SAMPLERS: {"calm": value}}, files)
    card = load_sampler_card("calm")
    assert (card.name, card.kind, card.decoding.temperature) == ("calm", "mixture", 0.25)
    assert refused(lambda: sampler_kind("calm")).startswith("sampler 'calm' of my-package 1.0 is a card and brings no code")


def test_the_file_of_a_packages_task_lies_beside_its_card(package: Install):
    files = {"mine/__init__.py": "CARD = 'a/t.toml'\n", "mine/a/t.toml": 'description = "x"\nfile = "p.jsonl"\n'}
    folder = package({TASKS: {"t": "mine:CARD"}}, files)
    assert load_task_card("t").file == str(folder / "mine" / "a" / "p.jsonl")


def test_a_card_may_use_the_kind_of_an_installed_package(package: Install, tmp_path: Path):
    package({SAMPLERS: {"warm": "mine:build"}}, {"mine.py": BUILD + OPTIONS})
    (tmp_path / "hot.toml").write_text('description = "x"\nkind = "warm"\noptions.hot = 9\n')
    card = load_sampler_card(str(tmp_path / "hot.toml"))
    assert (card.name, card.options.hot, sampler_kind("warm").options.__name__) == ("hot", 9.0, "Own")


def test_checks_of_a_task_kind_are_called_with_its_card(package: Install):
    check = "from spa_bench.errors import CardError\ndef check(card):\n    raise CardError(f'no {card.name} in {card.file}')\n"
    files = {"mine.py": BUILD + check + "CARD = 't.toml'\n", "t.toml": 'description = "x"\nfile = "f"\n'}
    folder = package({TASKS: {"quiz": "mine:build"}}, files)
    assert refused(lambda: load_task_card("quiz")) == f"no quiz in {folder / 'f'}"


def test_a_metric_is_found_by_its_name(package: Install):
    package({METRICS: {"one": "mine:M"}}, {"mine.py": METRIC.format(name="one[x=1]")})
    [metric] = load_metrics(["one"])
    assert metric.name == "one[x=1]"


# what the spec says --------------------------------------------------------------------------------------------------


def test_the_spec_has_hashes_of_sources_and_versions_of_packages(package: Install):
    folder = package(
        {SAMPLERS: {"warm": "mine:build"}, TASKS: {"quiz": "mine:build"}, METRICS: {"one": "mine_metric:M"}},
        {"mine.py": BUILD, "mine_metric.py": METRIC.format(name="one")},
    )
    code = code_of({"kind": "warm"}, {"kind": "quiz"}, ["one"])
    assert code["sampler"] == code["task"] == source_hash("mine:build")
    packages = dict.fromkeys(("sampler", "task", "metric one"), "my-package 1.0")
    assert code["packages"] == packages
    (folder / "mine.py").write_text(BUILD + "# other\n")
    assert code_of({"kind": "warm"}, {"kind": "quiz"})["task"] != code["task"]
    plain = code_of({"kind": "mine:build"}, {"kind": "code", "problems": "mine:build"}, ["mine:M"])
    assert plain["sampler"] == plain["problems"] == source_hash("mine:build")
    assert "packages" not in plain


def test_what_is_ours_leaves_no_trace_in_the_spec():
    assert set(code_of({"kind": "mixture"}, {"kind": "code", "problems": "jsonl"})) == {"git", "dirty", "source"}
    assert set(code_of({"kind": "samples"}, {})) == {"git", "dirty", "source"}


# what cannot be used -------------------------------------------------------------------------------------------------

BROKEN = [
    (
        "mine:build",
        "import not_there",
        "leads to the module 'mine', which cannot be imported: No module named 'not_there' (mine.py, line 1); mend",
    ),
    (
        "mine:build",
        "1 / 0",
        "leads to the module 'mine', which cannot be imported: division by zero (mine.py, line 1); mend that package or",
    ),
    (
        "mine:build",
        "raise SystemExit('no\\nway')",
        "leads to the module 'mine', which cannot be imported: no way (mine.py, line 1); mend",
    ),
    ("mine:build", "def (", "leads to the module 'mine', which cannot be imported: invalid syntax"),
    ("mine:bild", BUILD, "leads to the module 'mine', which has no 'bild'"),
    ("mine", BUILD, "leads to the module 'mine', which has no 'CARD'"),
    ("mine:a.b", BUILD, "leads to 'mine:a.b', which is not module:name"),
    ("mine:M", "M = 3", "leads to 3; it must be a kind, a function that builds one, or the path of a .toml card"),
    ("mine:build", BUILD + "CARD = 3", "has the card 3; it must be the path of a .toml file, from the module's folder on"),
    ("mine:CARD", "CARD = 'none.toml'", "has the card 'none.toml'; it must be the path of a .toml file"),
    ("mine:CARD", "CARD = 'mine.py'", "has the card 'mine.py'; it must be the path of a .toml file"),
]


@pytest.mark.parametrize(("value", "source", "message"), BROKEN, ids=[f"{v} {s[:16]!r}" for v, s, _ in BROKEN])
def test_a_broken_package_is_named_when_it_is_used_and_listed_with_the_reason(
    value: str, source: str, message: str, package: Install, call: Call
):
    package({SAMPLERS: {"warm": value}, TASKS: {"quiz": value}}, {"mine.py": source + "\n"})
    assert refused(lambda: load_sampler_card("warm")).startswith(f"sampler 'warm' of my-package 1.0 {message}")
    assert refused(lambda: load_task_card("quiz")).startswith(f"task 'quiz' of my-package 1.0 {message}")
    assert load_sampler_card("base").name == "base"
    for what, name in (("samplers", "warm"), ("tasks", "quiz")):
        done = call("list", what)
        assert done.code == 0, done.err
        [line] = [line for line in done.out.splitlines() if line.startswith(name + " ")]
        assert f"cannot be used: {what[:-1]} {name!r} of my-package 1.0 {message}" in line


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("mine:M", "M = 3", "--metric one: what metric 'one' of my-package 1.0 leads to is 3; it must be a "),
        ("mine:M", "import not_there", "metric 'one' of my-package 1.0 leads to the module 'mine', which cannot be imported"),
        ("mine", "", "metric 'one' of my-package 1.0 leads to 'mine', which is not module:name"),
        ("mine:M", METRIC.format(name="vendi"), "--metric: the name 'vendi' is taken by another metric"),
    ],
)
def test_a_broken_metric_is_named_when_it_is_used_and_listed_with_the_reason(
    value: str, source: str, message: str, package: Install, call: Call
):
    package({METRICS: {"one": value}}, {"mine.py": source})
    assert refused(lambda: load_metrics(["one"])).startswith(message)
    [line] = [line for line in call("list", "metrics").out.splitlines() if line.startswith("one ")]
    assert f"cannot be used: {message}" in line
    assert line.endswith("my-package 1.0")


def test_the_card_of_a_package_is_checked_like_any_other(package: Install):
    package({SAMPLERS: {"calm": "mine:CARD"}}, {"mine.py": "CARD = 'c.toml'", "c.toml": 'description = "x"\nmember = 2\n'})
    assert "unknown key 'member' in " in refused(lambda: load_sampler_card("calm"))


def test_the_card_of_a_package_cannot_have_another_name(package: Install):
    package({SAMPLERS: {"calm": "mine:CARD"}}, {"mine.py": "CARD = 'c.toml'", "c.toml": 'description = "x"\nname = "spa"\n'})
    message = "names itself 'spa'; as the card of sampler 'calm' of my-package 1.0 it must have that name, or none"
    assert refused(lambda: load_sampler_card("calm")).endswith(message)


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "name"), [("sampler", "temperature"), ("sampler", "mixture"), ("task", "mini-code"), ("task", "code")]
)
def test_a_name_of_ours_is_refused_with_the_package_that_took_it(table: str, name: str, package: Install, call: Call):
    package({plugins.GROUPS[table]: {name: "mine:build"}}, {"mine.py": BUILD})
    loads = {"sampler": load_sampler_card, "task": load_task_card}[table]
    message = f"{table} {name!r} of my-package 1.0 has a name that is spa-bench's own; uninstall that package"
    assert refused(lambda: loads(name)).startswith(message)
    assert f"cannot be used: {message}" in call("list", f"{table}s").out
    others = [n for n in card_names({"sampler": "baselines", "task": "tasks"}[table]) if n != name]
    assert loads(others[0]).name == others[0]
    if name in TABLES[table]:  # cards of ours go on with our kind
        assert kind_of(Kind, table, name).build.__module__.startswith("spa_bench.")


@pytest.mark.parametrize("name", ["pass@1", "vendi"])
def test_a_metric_cannot_be_called_as_one_of_ours(name: str, package: Install):
    package({METRICS: {name: "mine:M"}}, {"mine.py": METRIC.format(name="one")})
    assert refused(lambda: load_metrics([name])).startswith(f"metric {name!r} of my-package 1.0 has a name that is spa-bench's")


def test_a_name_in_two_packages_is_refused_with_both(package: Install, call: Call):
    package({SAMPLERS: {"warm": "mine:build"}}, {"mine.py": BUILD})
    package({SAMPLERS: {"warm": "mine_too:build"}}, {"mine_too.py": BUILD}, name="other-package")
    message = "the sampler 'warm' is in my-package 1.0 and other-package 1.0; uninstall one, or use module:name"
    assert refused(lambda: load_sampler_card("warm")).startswith(message)
    assert call("list", "samplers").out.count(f"cannot be used: {message}") == 2


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "x.toml", "a\\b"])
def test_a_name_that_no_run_folder_can_have_is_refused(name: str, package: Install, call: Call):
    package({SAMPLERS: {name: "mine:build"}}, {"mine.py": BUILD})
    message = f"sampler {name!r} of my-package 1.0 has a name that nobody can use"
    assert refused(lambda: plugins.find("sampler", name)).startswith(message)
    assert call("list", "samplers").code == 0


def test_an_unknown_name_is_compared_with_those_of_packages(package: Install):
    package(
        {SAMPLERS: {"warmest": "mine:build"}, TASKS: {"riddles": "mine:build"}, METRICS: {"longest": "mine:M"}},
        {"mine.py": BUILD},
    )
    assert refused(lambda: load_sampler_card("warmst")).endswith("; did you mean 'warmest'?")
    assert refused(lambda: load_task_card("ridles")).endswith("; did you mean 'riddles'?")
    assert refused(lambda: load_metrics(["longst"])).endswith("got 'longst'; did you mean 'longest'?")
    assert refused(lambda: load_metrics(["pass@1"])).endswith("got 'pass@1', which every run has without it")


def test_a_kind_that_nobody_has_names_the_closest_of_packages(package: Install, tmp_path: Path):
    package({SAMPLERS: {"warmest": "mine:build"}}, {"mine.py": BUILD})
    (tmp_path / "c.toml").write_text('description = "x"\nkind = "warmst"\n')
    with pytest.raises(CardError, match=r"kind is 'warmst'; did you mean 'warmest'\?"):
        load_sampler_card(str(tmp_path / "c.toml"))
    with pytest.raises(UsageError, match=r"unknown sampler 'warmst'; did you mean 'warmest'\?"):
        sampler_kind("warmst")


def test_metadata_that_cannot_be_read_hides_no_other_package(package: Install):
    broken = package({}, {}, name="broken-package")
    (broken / "broken_package-1.0.dist-info" / "entry_points.txt").write_text("[spa_bench.samplers]\nno value\n")
    package({SAMPLERS: {"warm": "mine:build"}}, {"mine.py": BUILD})
    assert load_sampler_card("warm").name == "warm"


# laziness ------------------------------------------------------------------------------------------------------------


def test_help_and_import_load_no_package(tmp_path: Path):
    folder = install(
        tmp_path / "site",
        "my-package",
        {SAMPLERS: {"warm": "mine:build"}, TASKS: {"quiz": "mine:build"}, METRICS: {"one": "mine:M"}},
        {"mine.py": "raise SystemExit('loaded')\n"},
    )
    script = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import spa_bench, spa_bench.cli.main, spa_bench.cards.plugins as p\n"
        "from spa_bench.cards.sampler import load_sampler_card; from spa_bench.cards.task import load_task_card\n"
        "load_sampler_card('temperature'), load_task_card('mini-code')\n"
        "assert [x.name for t in p.GROUPS for x in p.installed(t)] == ['warm', 'quiz', 'one']\n"
        "try:\n    spa_bench.cli.main.main(['run', '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert 'mine' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# runs whose package is gone ------------------------------------------------------------------------------------------


def test_a_run_needs_the_package_of_its_metric_to_be_verified_and_that_of_its_sampler_only_to_be_repeated(
    package: Install, three: Path, sandbox: InProcessJudge, tmp_path: Path
):
    build = "from spa_bench.samplers.mixture import build\n"
    site = package(
        {SAMPLERS: {"warm": "mine:build"}, METRICS: {"one": "mine_metric:M"}},
        {"mine.py": build, "mine_metric.py": METRIC.format(name="one")},
    )
    plain = mock_run(tmp_path / "runs", three, lambda r: "", kind="warm")
    loaded = load_task_card(str(three))
    task = load_task(loaded)
    job = Job(sampler=sampler_card(kind="warm"), task=loaded, n=2, seed=0, metrics=("one",))
    measured = generate(job, task, MockModel(lambda r: ""), out=tmp_path / "runs", cache=tmp_path / "cache", console=Lines())  # type: ignore[arg-type]
    grade(measured, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    assert verify(plain, task) == verify(measured, task) == notes(plain) == notes(measured) == []
    assert measured.read_json("metrics.json")["values"]["one"] == [1.0] * 3
    sys.path.remove(str(site))
    assert verify(plain, task) == []
    [note] = notes(plain)
    assert note == (
        "whether the code of the run is the code here is unknown: "
        "no installed package has the sampler 'warm'; install the one that it came from"
    )
    gone = "was made with the {} of my-package 1.0, which is not installed; install it"
    assert refused(lambda: sampler_of(plain.spec, "it")) == "it " + gone.format("sampler 'warm'")
    assert verify(measured, task) == [f"{measured.path} " + gone.format("metric 'one'")]


def test_an_engine_of_a_package_is_a_plain_name_and_its_source_is_in_the_code_of_a_spec(package: Install):
    source = (Path(__file__).parent / "other_engine.py").read_text()
    package({ENGINES: {"theirs": "mine_engine:KIND"}}, {"mine_engine.py": source})
    assert "theirs" in known("engine")
    chosen = chosen_engine("draw=theirs", {"size": 2})
    assert chosen.spec() == {"name": "theirs", "stages": ["draw"], "options": {"size": 2}}
    code = code_of({"kind": "mixture"}, {"kind": "code", "problems": "mini-code"}, (), chosen.spec())
    assert code["engine"] == source_hash("theirs", "engine")
    assert code["packages"] == {"engine theirs": "my-package 1.0"}
