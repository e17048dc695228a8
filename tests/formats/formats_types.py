"""Names of types that the tests of exports share."""

from collections.abc import Callable

from spa_bench.runs.folder import RunFolder
from spa_bench.tasks.base import Task

Runs = list[tuple[RunFolder, Task]]
Export = Callable[..., tuple[str, ...]]
Other = Callable[..., str]
