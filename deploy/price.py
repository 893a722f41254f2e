"""From what neurons did and where they sit to energy and latency, in one call."""

from __future__ import annotations

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import Counter
from snnergy.deploy.energy import EnergyReport, cost
from snnergy.deploy.parts import parts
from snnergy.deploy.placement import Placement
from snnergy.deploy.schedule import Schedule
from snnergy.export.net import count_synapses
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile


def price(
    activity: Activity,
    placement: Placement,
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
    counter: Counter | None = None,
) -> EnergyReport:
    """Energy and time of one inference: events of ``activity`` on ``placement`` times the costs of ``profile``.

    Counters are means over samples, so the busiest core of a step is that of the mean sample: with inputs that differ
    much, the mean time of the busiest core is longer than this; ``distribution`` has every sample by itself. The
    profile may be another than the one placed for, as long as the mesh is the same. Formulas: ``cost``.
    counter: the tables of this network on this placement, where they are made already
    """
    network = {
        "neurons": sum(p.threshold.size for p in net.populations),
        "synapses": count_synapses(net.projections),
        "populations": len(net.populations),
        "projections": len(net.projections),
        "depth": max(schedule.depth[name] for name in net.outputs),
    }
    counter = counter or Counter(placement, net, schedule, profile)
    return cost(counter.count(activity), profile, placement, network, parts(net))
