"""Traffic-weighted hops of three cluster graphs on their meshes, one cluster a router, and the CPU time it takes.

    python placement.py [--case FOLDER] [--seed N] [--seeds K] [--json]

The graphs are the traffic between the cores of one conv network of 119 050 neurons. Every seed is a row.
CPU time is that of the process, all threads, from the traffic in memory to the seats: building the graph, spectral
start, annealing and descent. Not counted: reading the file, and compiling, for which a tiny graph is placed first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, csr_array

from snnergy.deploy.anneal import anneal

CASE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "placement"
GRAPHS = {118: 11, 466: 22, 931: 31}
"""Clusters -> routers on a side of the mesh."""


def load(case: Path, clusters: int) -> csr_array:
    """Messages a time step from cluster to cluster, float64[clusters, clusters]."""
    with np.load(case / f"conv119k_k{clusters}.npz") as f:
        return coo_array((f["messages_per_step"], (f["src"], f["dst"])), shape=(clusters, clusters)).tocsr()


def mesh(side: int) -> np.ndarray:
    """x and y of every router, row by row: int64[side * side, 2]."""
    return np.stack(np.divmod(np.arange(side * side), side)[::-1], axis=1)


def hops(traffic: csr_array, xy: np.ndarray) -> float:
    """Messages times Manhattan distance. xy: int64[clusters, 2], the router of every cluster."""
    talk = traffic.tocoo()
    return float(talk.data @ np.abs(xy[talk.row] - xy[talk.col]).sum(axis=1))


def measure(case: Path, clusters: int, seed: int) -> dict[str, float]:
    traffic, routers = load(case, clusters), mesh(GRAPHS[clusters])
    start = time.process_time()
    seats = anneal(traffic, routers, seed=seed)
    cpu_s = time.process_time() - start
    assert np.unique(seats).size == clusters, "two clusters share a router"
    layer_order = hops(traffic, routers[:clusters])
    return {
        "clusters": clusters,
        "seed": seed,
        "layer_order_hops": round(layer_order, 1),
        "hops": round(hops(traffic, routers[seats]), 1),
        "cpu_s": round(cpu_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, default=CASE, help="folder of the graphs")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    chosen = parser.parse_args()
    if not chosen.case.is_dir():
        print(f"skipped: no folder {chosen.case}; name the one that holds conv119k_k118.npz by --case", file=sys.stderr)
        return
    anneal(csr_array(np.ones((3, 3))), mesh(2))  # compiles
    seeds = range(chosen.seed, chosen.seed + chosen.seeds)
    rows = [measure(chosen.case, clusters, seed) for clusters in GRAPHS for seed in seeds]
    if chosen.json:
        print(json.dumps({"rows": rows, "cpu_s": "start, annealing and descent; reading and compiling not counted"}))
        return
    print(f"{'clusters':>8} {'seed':>5} {'layer order':>12} {'hops':>8} {'cpu_s':>6}")
    for row in rows:
        name = "{clusters:>8} {seed:>5} {layer_order_hops:>12.0f} {hops:>8.0f} {cpu_s:>6.2f}"
        print(name.format(**row), flush=True)
    print(
        "cpu_s: start, annealing and descent, all threads; reading and compiling (one warm-up on 3 cores) not counted"
    )


if __name__ == "__main__":
    main()
