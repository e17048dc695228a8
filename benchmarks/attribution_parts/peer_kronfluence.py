"""EK-FAC of kronfluence on the same adapter, pairs, queries and loss. PYTHON peer_kronfluence.py JOB.json OUT.npz

The train loss of a batch is the sum of the pairs' token-mean losses, as the library wants it. Where it samples labels for
the Fisher matrix, a pair's loss is the sum over its T tokens divided by sqrt(T): the second moment of that gradient is the
Gauss-Newton matrix of the token-mean loss, 1/T sum J'HJ, with which the scores are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from torch.nn.functional import cross_entropy

from attribution_parts.peer_data import collate, lora_names, network_of, rows_of, run_job


class _Task(Task):
    def __init__(self, names: list[str], generator: torch.Generator):
        self._names, self._generator = names, generator

    def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> torch.Tensor:
        logits = model(input_ids=batch["ids"], use_cache=False).logits[:, :-1].float()
        labels = batch["labels"][:, 1:]
        counted = labels != -100
        if sample:
            with torch.no_grad():
                p = torch.softmax(logits.reshape(-1, logits.shape[-1]), -1)
                drawn = torch.multinomial(p, 1, generator=self._generator).view(labels.shape)
            labels = torch.where(counted, drawn, labels)
        losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none").sum(1)
        count = counted.sum(1)
        return (losses / (count.sqrt() if sample else count)).sum()

    def compute_measurement(self, batch: Any, model: Any) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self._names

    def get_attention_mask(self, batch: Any) -> torch.Tensor:
        return batch["mask"]


def make(job: dict[str, Any]) -> Callable[[], Any]:
    network = network_of(job)
    task = _Task(lora_names(network, job["factors"]), torch.Generator().manual_seed(job["seed"]))
    pairs, queries = rows_of(job["pairs"]), rows_of(job["queries"])

    def timed() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            model = prepare_model(network, task)
            analyzer = Analyzer("peer", model, task, cpu=True, disable_tqdm=True, output_dir=folder, log_level=40)
            analyzer.set_dataloader_kwargs(DataLoaderKwargs(num_workers=0, collate_fn=collate))
            most = job["curvature_examples"] or len(pairs)
            sample = pairs[:: max(1, len(pairs) // most)][:most]  # they lie by length: a stride takes short and long alike
            factors = FactorArguments(strategy=job["strategy"])
            analyzer.fit_all_factors("factors", sample, per_device_batch_size=job["batch"], factor_args=factors)
            analyzer.compute_pairwise_scores(
                scores_name="scores",
                factors_name="factors",
                query_dataset=queries,
                train_dataset=pairs,
                per_device_query_batch_size=len(queries),
                per_device_train_batch_size=job["batch"],
                score_args=ScoreArguments(damping_factor=None),  # its heuristic: 0.1 x the mean eigenvalue of a module
            )
            return analyzer.load_pairwise_scores("scores")["all_modules"].T

    return timed


if __name__ == "__main__":
    run_job(make)
