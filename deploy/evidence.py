"""How well founded a report is: what its energy rests on, in one grade, and what a reader must be warned of."""

from __future__ import annotations

from typing import get_args

from snnergy.deploy.energy import EnergyReport, flows, priced, traffic
from snnergy.deploy.latency import times
from snnergy.hardware_profiles import Evidence, Quantity

ORDER: tuple[Evidence, ...] = get_args(Evidence)
"""From the best to the worst."""
GRADES = dict(zip(ORDER, "ABCDEF", strict=True))
TOLERATED = 0.1
"""Share of the energy that may rest on less than the grade says."""
RULE = (
    "the grade is that of the best kind of evidence on which, or on better, at least 90 % of the nominal energy rests: "
    + ", ".join(f"{grade} {kind}" for kind, grade in GRADES.items())
    + "; power times time rests on the worse of the two"
)
WIDE = 3.0
"""High over low of a total from which it says little."""


def shares(report: EnergyReport) -> dict[str, float]:
    """Kind of evidence -> share of the nominal total energy that rests on it; they add up to 1, or to 0 of nothing."""
    found = dict.fromkeys(ORDER, 0.0)
    for quantity, energy_pj in _priced(report):
        found[quantity.evidence] += energy_pj
    total = sum(found.values())
    return {kind: energy / total if total else 0.0 for kind, energy in found.items()}


def _priced(report: EnergyReport) -> list[tuple[Quantity, float]]:
    """Every constant that adds to the total, and how much; of power and time the one with worse evidence."""
    counts, profile = report.counts, report.profile
    rows: list[tuple[Quantity, float]] = []
    for _, counter, quantity in priced(profile):
        rows.append((quantity, float(counts.by[counter].sum()) / counts.samples * quantity.value))
    rows += [(quantity, moved * quantity.value) for _, quantity, moved in traffic(counts, profile)]
    known = times(profile.time_ns).values()
    if known:
        slowest = max(known, key=lambda q: ORDER.index(q.evidence))
        for _, quantity, units in flows(counts, profile):
            worse = max(quantity, slowest, key=lambda q: ORDER.index(q.evidence))
            rows.append((worse, quantity.value * units * report.period_ns.nominal))
    return rows


def grade(shares: dict[str, float]) -> str:
    """By RULE; "none" where no energy is priced."""
    below = sum(shares.values())
    if not below:
        return "none"
    for kind in ORDER:
        below -= shares[kind]
        if below <= TOLERATED:
            return f"{GRADES[kind]} ({kind})"
    return f"{GRADES[ORDER[-1]]} ({ORDER[-1]})"


def warnings(report: EnergyReport) -> tuple[str, ...]:
    """What a reader who looks at the total alone would miss."""
    found: list[str] = []
    total = report.total_pj
    if not total.nominal:
        return ("nothing is priced: the profile has no energy for what was counted",)
    beside = (report.static_pj + report.host_pj).nominal / total.nominal
    if beside > 0.5:
        found.append(
            f"{beside:.0%} of the energy is static and host power: it follows the time of a sample, not the activity, "
            "and is shared by whatever else the chip does"
        )
    if total.low and total.high / total.low > WIDE:
        found.append(f"the ranges of the constants leave the total open by a factor of {total.high / total.low:.1f}")
    if report.profile.scope != "per-term":
        found.append(f"the energy of a synop of this chip is {report.profile.scope}: it cannot be split into terms")
    return tuple(found)
