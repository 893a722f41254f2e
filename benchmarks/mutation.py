#!/usr/bin/env python3
"""Do the tests notice a wrong program? A seeded sample of small faults in the modules that numbers depend on.

    python benchmarks/mutation.py                      320 mutants, two at a time
    python benchmarks/mutation.py --count 40 --only deploy/energy.py
    python benchmarks/mutation.py --diff 3f2a91        one mutant as a patch

Cosmic Ray's operators make the mutants; those that do not compile, or change only annotations, are left out before the
sample is drawn. Each runs in a process of its own, on a copy of the sources, with the tests of its module; kernels run
as plain Python, so that what was changed is what runs. Killed: a test fails. Timeout: the tests take four times as long
as they should, which counts as noticed. Writes results/mutation.json after every mutant, so that a run goes on where it
was interrupted as long as sources and tests are the same, and results/mutation.md at the end.

Tests were written for what survived of seed 0. How they do on faults that nobody had looked at is the other draw:

    python benchmarks/mutation.py --seed 1 --count 120 --output benchmarks/results/mutation_fresh.json
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results")
TESTS = {
    "deploy/engine.py": ("test_engine.py",),
    "deploy/kernels.py": ("test_kernels.py", "test_scan.py", "test_synapses.py", "test_engine.py"),
    "deploy/scan.py": ("test_scan.py", "test_engine.py"),
    "deploy/layers.py": ("test_engine.py", "test_simulator.py"),
    "deploy/simulator.py": ("test_simulator.py",),
    "deploy/synapses.py": ("test_synapses.py", "test_engine.py"),
    "export/quantize.py": ("test_quantize.py",),
    "export/quantnet.py": ("test_quantnet.py",),
    "deploy/schedule.py": ("test_schedule.py",),
    "deploy/count.py": ("test_count.py", "test_distribution.py"),
    "deploy/distribution.py": ("test_distribution.py",),
    "deploy/energy.py": ("test_energy.py", "test_targets.py"),
    "deploy/latency.py": ("test_latency.py", "test_targets.py"),
    "deploy/counts.py": ("test_count.py",),
    "deploy/monte_carlo.py": ("test_monte_carlo.py",),
    "deploy/evidence.py": ("test_evidence.py",),
    "deploy/timeline.py": ("test_timeline.py",),
    "deploy/diff.py": ("test_diff.py",),
}
"""What is mutated, and the tests that must notice."""
COPIED = ("snnergy", "deploy", "export", "hardware_profiles", "tests", "docs", "pyproject.toml")
PRELOAD = ["numpy", "scipy.optimize", "scipy.sparse", "numba", "nir", "h5py", "hypothesis", "pytest"]
PATIENCE = 4.0
"""Times the duration of the unchanged tests, and 10 s more, before a mutant counts as timed out."""
EQUIVALENT = {
    "31c60ce3": "Of truth values, a product is their conjunction.",
    "ae5ebf11": "There is always a path.",
    "eb47aaaf": "The deque drops what is beyond its length.",
    "6e326ef4": "Room for one more, which nobody takes.",
}
"""Mutants that no test can kill, by id, with the reason."""


@dataclass(frozen=True)
class Mutant:
    """One fault: the ``occurrence``-th place where ``operator`` applies to ``module``."""

    module: str
    operator: str
    occurrence: int
    line: int
    patch: str

    @property
    def id(self) -> str:
        """Names the change itself, wherever in the file it moves to."""
        changed = [line for line in self.patch.splitlines() if not line.startswith("@@")]
        return hashlib.sha256("\n".join(changed).encode()).hexdigest()[:8]


def places(module: str, source: str) -> Iterator[tuple[str, str, int, int]]:
    """Module, operator, occurrence and line of every place that an operator can change."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        if name != "core/NoOp" and not get_operator(name).arguments():
            operator = get_operator(name)()
            lines = [start[0] for node in nodes for start, _ in operator.mutation_positions(node)]
            yield from ((module, name, occurrence, line) for occurrence, line in enumerate(lines))


def sample(sources: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """So many mutants that compile and are not the same program, each place equally likely."""

    def rank(place: tuple[str, str, int, int]) -> str:
        return hashlib.sha256(f"{seed} {place[:3]}".encode()).hexdigest()

    # by hash, not by shuffling: a change of one module leaves the sample of the others as it is
    shuffled = sorted((place for module, source in sources.items() for place in places(module, source)), key=rank)
    found: dict[str, Mutant] = {}
    for module, operator, occurrence, line in shuffled:
        if len(found) == count:
            break
        source = sources[module]
        changed = mutate(source, operator, occurrence)
        if changed is not None and _code(changed) not in (None, _code(source)):
            lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), module, module, "", "", 1, "")
            mutant = Mutant(module, operator, occurrence, line, "\n".join(lines))
            found[mutant.id] = mutant
    return list(found.values())


def mutate(source: str, operator: str, occurrence: int) -> str | None:
    """The source with one fault."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    return mutate_code(source, get_operator(operator)(), occurrence)


def _code(source: str) -> str | None:
    """What runs of a source: its syntax tree without annotations; None where it does not compile without a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(source)
            compile(source, "mutant", "exec")
    except (SyntaxError, SyntaxWarning, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
    return ast.dump(tree)


def trial(tree: str, module: str, log: str) -> None:
    """In a process of its own: run the module's tests in ``tree`` and exit as pytest does."""
    import pytest

    assert "snnergy" not in sys.modules, "loaded from the working tree, so no fault in the copy would run"
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    sys.dont_write_bytecode = True
    os.chdir(tree)
    sys.path[:0] = [tree, f"{tree}/tests"]
    tests = [f"tests/{name}" for name in TESTS[module]]
    known = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis was imported before pytest started
    quick = ["-x", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    code = pytest.main([*quick, *known, *tests])
    os._exit(int(code))


class Bench:
    """Copies of the sources, one per job, and the processes that run tests in them."""

    def __init__(self, jobs: int, folder: Path) -> None:
        os.environ |= {"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._free = [folder / str(k) for k in range(jobs)]
        for tree in self._free:
            tree.mkdir(parents=True)
            for name in COPIED:
                if (ROOT / name).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignored)
                else:
                    shutil.copy(ROOT / name, tree / name)

    def run(self, module: str, source: str, limit_s: float) -> tuple[str, float]:
        """The outcome of the module's tests with this source of it, and the seconds they took."""
        tree = self._free.pop()
        path = tree / module
        own = path.read_text(encoding="utf-8")
        try:
            path.write_text(source, encoding="utf-8")
            start = time.perf_counter()
            process = self._context.Process(target=trial, args=(str(tree), module, str(tree / "log")))
            process.start()
            process.join(limit_s)
            took = time.perf_counter() - start
            if process.is_alive():
                process.kill()
                process.join()
                return "timeout", took
            if process.exitcode == 0:
                return "survived", took
            return "killed", took
        finally:
            path.write_text(own, encoding="utf-8")
            self._free.append(tree)


def state() -> dict[str, tuple[str, str]]:
    """Module -> digests of it and of its tests: a result holds as long as both are the same."""

    def digest(*files: Path) -> str:
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]

    tests = ROOT / "tests"
    shared = [tests / name for name in ("conftest.py", "builders.py", "mapping.py")]
    return {
        module: (digest(ROOT / module), digest(*shared, *(tests / name for name in names)))
        for module, names in TESTS.items()
    }


def holds(row: dict[str, Any], now: tuple[str, str], keep_killed: bool) -> bool:
    """Whether a result of an earlier run still stands."""
    same_module, same_tests = (old == new for old, new in zip(row["state"], now, strict=True))
    return same_module and (same_tests or (keep_killed and row["outcome"] != "survived"))


def page(results: dict[str, Any]) -> str:
    """The results as Markdown: a row per module, then every mutant that survived."""
    rows = results["mutants"]
    lines = [
        f"`python benchmarks/mutation.py --count {results['count']} --seed {results['seed']}`: "
        f"{len(rows)} mutants, drawn with seed {results['seed']}.",
        "",
        "| module | mutants | killed | timeout | survived | noticed % |",
        "|---|---|---|---|---|---|",
    ]
    for module in (*TESTS, "all"):
        found = [r["outcome"] for r in rows if module in (r["module"], "all")]
        killed, late, alive = (found.count(outcome) for outcome in ("killed", "timeout", "survived"))
        if found:
            share = 100 * (killed + late) / len(found)
            lines.append(f"| {module} | {len(found)} | {killed} | {late} | {alive} | {share:.1f} |")
    survivors = [r for r in rows if r["outcome"] == "survived"]
    for title, chosen in (
        ("Survivors", [r for r in survivors if r["id"] not in EQUIVALENT]),
        ("Survivors that compute the same", [r for r in survivors if r["id"] in EQUIVALENT]),
    ):
        if chosen:
            lines += ["", f"## {title}"]
        for r in chosen:
            lines += ["", f"{r['id']} {EQUIVALENT.get(r['id'], '')}".strip(), "", "```diff", r["patch"], "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(TESTS), choices=list(TESTS), metavar="MODULE")
    parser.add_argument("--keep-killed", action="store_true", help="after adding tests, run the survivors only")
    parser.add_argument("--output", type=Path, default=RESULTS / "mutation.json")
    parser.add_argument("--diff", metavar="ID", help="print one mutant of the results and stop")
    options = parser.parse_args()
    old = json.loads(options.output.read_text()) if options.output.exists() else {"mutants": []}
    if options.diff:
        sys.exit("\n".join(r["patch"] for r in old["mutants"] if r["id"].startswith(options.diff)))

    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in options.only}
    drawn = sample(sources, options.count, options.seed)
    now = state()
    kept = {r["id"]: r for r in old["mutants"] if holds(r, now[r["module"]], options.keep_killed)}
    rows: dict[str, dict[str, Any]] = {m.id: kept[m.id] for m in drawn if m.id in kept}
    results = {"seed": options.seed, "count": options.count, "mutants": []}

    def save() -> None:
        results["mutants"] = [rows[m.id] for m in drawn if m.id in rows]
        whole = options.output.with_suffix(".part")
        whole.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        whole.replace(options.output)

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.jobs, Path(folder))
        limits: dict[str, float] = {}
        for module in dict.fromkeys(m.module for m in drawn if m.id not in rows):
            outcome, took = bench.run(module, sources[module], 600)
            if outcome != "survived":
                log = "\n".join(p.read_text()[-2000:] for p in Path(folder).glob("*/log"))
                sys.exit(f"{log}\nerror: the tests of {module} fail without any fault")
            limits[module] = 10 + PATIENCE * took
            print(f"{module}: tests take {took:.1f} s", file=sys.stderr)

        def one(m: Mutant) -> tuple[Mutant, str, float]:
            changed = mutate(sources[m.module], m.operator, m.occurrence)
            return m, *bench.run(m.module, changed, limits[m.module])

        todo = [m for m in drawn if m.id not in rows]
        with ThreadPoolExecutor(options.jobs) as pool:
            for k, (m, outcome, took) in enumerate(pool.map(one, todo), 1):
                rows[m.id] = {"id": m.id, "outcome": outcome, "state": now[m.module], **asdict(m)}
                print(f"{k}/{len(todo)} {m.id} {m.module}:{m.line} {outcome} {took:.1f} s", file=sys.stderr)
                save()
    save()
    options.output.with_suffix(".md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
