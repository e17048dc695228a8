"""Instruction sets and queries: from a source to pairs of a prompt and a completion.

`sources` reads rows from files and the hub and knows how sources are named, `columns` knows what columns are called, `shapes`
recognises the shape of a row, `turns` reads conversations, `templates` puts instructions into a model's or Alpaca's form, and
`sets` joins these steps.

Hashes of the pairs and the files' names tell runs apart. The folder of a file has no effect: the same file under another path
is the same data, but under another name it makes another run.
"""

from spa_bench.spa.data.sets import distinct, hash_examples, load_examples, load_queries, read_pairs
from spa_bench.spa.data.sources import bare_targets, files_of, hubs_of, is_queries_file, is_sampled, named

__all__ = [
    "bare_targets",
    "distinct",
    "files_of",
    "hash_examples",
    "hubs_of",
    "is_queries_file",
    "is_sampled",
    "load_examples",
    "load_queries",
    "named",
    "read_pairs",
]
