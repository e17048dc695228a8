"""The public names for type checkers; tests/test_public_api.py compares them with those of `__init__.py`."""

from spa_bench.api.run import load_model as load_model
from spa_bench.api.run import run as run
from spa_bench.api.run import score as score
from spa_bench.api.runs import Run as Run
from spa_bench.api.runs import Runs as Runs
from spa_bench.api.runs import load as load
from spa_bench.api.shown import Check as Check
from spa_bench.api.shown import Comparison as Comparison
from spa_bench.api.shown import Leaderboard as Leaderboard
from spa_bench.cards.task import TaskCard as TaskCard
from spa_bench.errors import CardError as CardError
from spa_bench.errors import DataError as DataError
from spa_bench.errors import ModelError as ModelError
from spa_bench.errors import SandboxError as SandboxError
from spa_bench.errors import SpaBenchError as SpaBenchError
from spa_bench.errors import StoreError as StoreError
from spa_bench.errors import UsageError as UsageError
from spa_bench.metrics.metric import Metric as Metric
from spa_bench.metrics.metric import Samples as Samples
from spa_bench.models.base import Model as Model
from spa_bench.models.own import FunctionModel as FunctionModel
from spa_bench.models.own import ModelDefaults as ModelDefaults
from spa_bench.samplers.base import Sampler as Sampler
from spa_bench.samplers.mixture import Mixture as Mixture
from spa_bench.support.seeds import draw_seed as draw_seed
from spa_bench.tasks.base import Task as Task
from spa_bench.tasks.base import TaskDefaults as TaskDefaults
from spa_bench.tasks.code import CodeTask as CodeTask
from spa_bench.tasks.text import TextTask as TextTask
from spa_bench.types import Completion as Completion
from spa_bench.types import Decoding as Decoding
from spa_bench.types import Estimate as Estimate
from spa_bench.types import Grade as Grade
from spa_bench.types import Key as Key
from spa_bench.types import Member as Member
from spa_bench.types import Problem as Problem
from spa_bench.types import Prompt as Prompt
from spa_bench.types import Record as Record
from spa_bench.types import Request as Request
from spa_bench.types import Verdict as Verdict

__version__: str
