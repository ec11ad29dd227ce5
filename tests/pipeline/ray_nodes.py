"""A Ray cluster of two nodes on this machine, each with one core and, as it believes, one GPU. It runs until its
standard input ends.

Its files are in RAY_TMPDIR. Prints a line of JSON: {"address": where it is, "head": the raylet's process id, "other":
the second node's}. For each line it reads, it adds a node and prints {"other": its raylet's process id}.
"""

from __future__ import annotations

import json
import logging
import sys

from ray.cluster_utils import Cluster

SMALL = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 << 20}


def raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def main() -> None:
    logging.disable()
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    other = cluster.add_node(**SMALL)
    print(
        json.dumps({"address": cluster.address, "head": raylet(cluster.head_node), "other": raylet(other)}), flush=True
    )
    for _ in sys.stdin:
        print(json.dumps({"other": raylet(cluster.add_node(**SMALL))}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
