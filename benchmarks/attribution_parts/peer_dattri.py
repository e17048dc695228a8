"""dattri on the same adapter, pairs, queries and loss. PYTHON peer_dattri.py JOB.json OUT.npz

`block`: BlockProjectedIFAttributor with identity projections: the exact empirical Fisher matrix of each LoRA factor, damped
by 0.1 x its mean eigenvalue. `datainf`: IFAttributorDataInf, whose regularisation is one number for all modules: 0.1 x
the mean over modules of their mean squared gradient. `ekfac`: IFAttributorEKFAC, which in 0.3.0 fails on inputs of a
sequence (UnboundLocalError in _update_covariance).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from dattri.algorithm.block_projected_if import BlockProjectedIFAttributor
from dattri.algorithm.influence_function import IFAttributorDataInf, IFAttributorEKFAC
from dattri.task import AttributionTask
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from attribution_parts.peer_data import collate, lora_names, network_of, rows_of, run_job


def _token_means(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none")
    return losses.sum(1) / (labels[:, 1:] != -100).sum(1)


def _named(rows: Any) -> dict[str, torch.Tensor]:
    batch = collate(rows)
    return {"input_ids": batch["ids"], "labels": batch["labels"]}


def _block(network: Any, job: dict[str, Any], pairs: Any, queries: Any) -> torch.Tensor:
    def loss(model: Any, batch: dict[str, torch.Tensor], device: str) -> torch.Tensor:
        return _token_means(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"]).sum()

    identity = {"device": "cpu", "proj_dim": -1, "proj_max_batch_size": 64, "proj_type": "identity"}
    task = AttributionTask(loss_func=loss, model=network, checkpoints=network.state_dict())
    attributor = BlockProjectedIFAttributor(
        task,
        layer_names=lora_names(network, job["factors"]),
        hessian="eFIM",
        damping=job["damping"],
        sparsifier_kwargs=identity,
        projector_kwargs=identity,
        offload="none",
    )
    train = DataLoader(pairs, batch_size=job["batch"], collate_fn=_named)
    attributor.cache(train)
    return attributor.attribute(train, DataLoader(queries, batch_size=job["batch"], collate_fn=_named))


def _functional(network: Any, job: dict[str, Any], pairs: Any, queries: Any) -> tuple[Any, Any, Any]:
    def loss(parameters: Any, batch: Any) -> torch.Tensor:
        ids, labels = (t.unsqueeze(0) if t.ndim == 1 else t for t in batch)
        out = torch.func.functional_call(network, parameters, kwargs={"input_ids": ids, "use_cache": False})
        return _token_means(out.logits, labels).mean()

    task = AttributionTask(loss_func=loss, model=network, checkpoints=network.state_dict())
    # one length for all: torch.func wants equal shapes, and the padding of the longest pair
    whole = collate([*pairs, *queries])
    data = torch.utils.data.TensorDataset(whole["ids"], whole["labels"])
    first = torch.utils.data.Subset(data, range(len(pairs)))
    last = torch.utils.data.Subset(data, range(len(pairs), len(data)))
    return task, first, last


def _datainf(network: Any, job: dict[str, Any], pairs: Any, queries: Any) -> torch.Tensor:
    task, train, test = _functional(network, job, pairs, queries)
    attributor = IFAttributorDataInf(task, device="cpu")
    attributor.cache(DataLoader(train, batch_size=job["batch"]))
    layers = attributor._get_layer_wise_reps(0, attributor._cached_train_reps[0])
    attributor.regularization = job["damping"] * float(torch.stack([g.square().mean() for g in layers]).mean())
    # it transforms the queries again for each batch of pairs, so few batches; larger ones do not fit in memory
    train_loader = DataLoader(train, batch_size=max(job["batch"], 32))
    return attributor.attribute(train_loader, DataLoader(test, batch_size=len(test)))


def _ekfac(network: Any, job: dict[str, Any], pairs: Any, queries: Any) -> torch.Tensor:
    task, train, test = _functional(network, job, pairs, queries)
    attributor = IFAttributorEKFAC(task, module_name=lora_names(network, job["factors"]), device="cpu", damping=0.0)
    attributor.cache(DataLoader(train, batch_size=1))
    for name, values in attributor.cached_lambdas.items():
        attributor.cached_lambdas[name] = values + job["damping"] * values.mean()
    return attributor.attribute(DataLoader(train, batch_size=job["batch"]), DataLoader(test, batch_size=len(test)))


def make(job: dict[str, Any]) -> Callable[[], Any]:
    warnings.simplefilter("ignore")
    network = network_of(job)
    pairs, queries = rows_of(job["pairs"]), rows_of(job["queries"])
    work = {"block": _block, "datainf": _datainf, "ekfac": _ekfac}[job["strategy"]]
    return lambda: work(network, job, pairs, queries).detach()


if __name__ == "__main__":
    run_job(make)
