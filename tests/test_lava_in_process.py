import logging
from typing import Any

import numpy as np
import pytest

from snnergy.deploy import lava_compat
from snnergy.errors import BadInput, Stuck

pytestmark = pytest.mark.lava
if lava_compat.installed() is None:
    pytest.skip("lava-nc is not installed", allow_module_level=True)
lava_compat.activate()

from lava.magma.core.decorator import implements, requires, tag  # noqa: E402
from lava.magma.core.model.py.model import PyLoihiProcessModel  # noqa: E402
from lava.magma.core.model.py.ports import PyInPort, PyOutPort  # noqa: E402
from lava.magma.core.model.py.type import LavaPyType  # noqa: E402
from lava.magma.core.process.ports.ports import InPort, OutPort  # noqa: E402
from lava.magma.core.process.process import AbstractProcess, ProcessServer  # noqa: E402
from lava.magma.core.process.variable import Var  # noqa: E402
from lava.magma.core.resources import CPU  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol  # noqa: E402
from lava.proc.dense.process import Dense  # noqa: E402
from lava.proc.io.sink import Read  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402
from lava.proc.lif.process import LIF  # noqa: E402

from snnergy.deploy.lava_in_process import InProcess, no_trace  # noqa: E402


class Relay(AbstractProcess):
    """Sends on what it gets, and fails when it gets a 13."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.s_in, self.s_out = InPort((1,)), OutPort((1,))
        self.seen = Var((1,), init=0)


@implements(Relay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRelay(PyLoihiProcessModel):
    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    seen: Any = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        data = self.s_in.recv()
        if data[0] == 13:
            raise ArithmeticError("13 came in")
        self.seen[:] = data
        self.s_out.send(data)


def configuration(*relays: Relay) -> Loihi2SimCfg:
    models: Any = dict.fromkeys(relays, PyRelay)
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


def source(*values: int) -> RingBuffer:
    return RingBuffer(data=np.array([values], np.int32))


def test_models_exchange_in_one_process_and_taps_and_variables_are_free_to_read():
    lif = LIF(shape=(1,), du=4095, dv=0, vth=5, name="lif")
    dense = Dense(weights=np.array([[2]]), num_message_bits=8, name="dense")
    ring = source(1, 2, 3, 0)
    ring.s_out.connect(dense.s_in)
    dense.a_out.connect(lif.a_in)
    runner = InProcess([lif], Loihi2SimCfg(select_tag="fixed_pt"))
    spikes: list[int] = []
    currents: list[int] = []
    membranes: list[int] = []
    runner.tap(lif.s_out, lambda data: spikes.append(int(data[0])))
    runner.tap(dense.a_out, lambda data: currents.append(int(data[0])))
    runner.run(2, after_step=lambda step: membranes.append(int(runner.get(lif.v)[0])))
    runner.run(3, after_step=lambda step: membranes.append(int(runner.get(lif.v)[0])))
    assert currents == [0, 2, 4, 6, 0]
    assert spikes == [0, 0, 1, 1, 0]
    assert membranes == [0, 2 << 6, 0, 0, 0]
    assert runner.model(lif).time_step == runner.time_step == 5


def test_processes_that_are_not_connected_run_side_by_side():
    left, right = Relay("left"), Relay("right")
    one, two = source(1), source(2)
    one.s_out.connect(left.s_in)
    two.s_out.connect(right.s_in)
    runner = InProcess([left, right], configuration(left, right))
    runner.run(1)
    assert (runner.get(left.seen)[0], runner.get(right.seen)[0]) == (1, 2)


def test_a_loop_without_a_synapse_is_a_deadlock_that_names_the_waiting_ports():
    a, b = Relay("a"), Relay("b")
    a.s_out.connect(b.s_in)
    b.s_out.connect(a.s_in)
    runner = InProcess([a], configuration(a, b))
    with pytest.raises(Stuck) as caught:
        runner.run(3)
    assert str(caught.value) == "deadlock in time step 1: nothing arrives on a.s_out -> b.s_in, b.s_out -> a.s_in"


def test_a_failing_model_ends_the_run_with_its_own_error_and_a_note():
    first, second = Relay("first"), Relay("second")
    ring = source(1, 13)
    ring.s_out.connect(first.s_in)
    first.s_out.connect(second.s_in)
    runner = InProcess([second], configuration(first, second))
    with pytest.raises(ArithmeticError, match="13 came in") as caught:
        runner.run(2)
    assert caught.value.__notes__ == ["in Lava process 'first', time step 2"]
    assert any(entry.name == "run_spk" for entry in caught.traceback)
    with pytest.raises(AssertionError, match="cannot go on"):
        runner.run(1)


def test_the_time_limit_ends_a_run_between_models():
    relay, ring = Relay("relay"), source(1)
    ring.s_out.connect(relay.s_in)
    runner = InProcess([relay], configuration(relay))
    with pytest.raises(Stuck) as caught:
        runner.run(1_000_000, time_limit_s=0.0)
    assert str(caught.value) == "the time limit of 0 s was reached in time step 1"


def test_a_message_of_the_wrong_shape_is_an_error_not_a_broadcast():
    relay, ring = Relay("relay"), source(1)
    ring.name = "ring"
    ring.s_out.connect(relay.s_in)
    runner = InProcess([relay], configuration(relay))
    runner.model(ring).data = np.ones((2, 1), np.int32)
    with pytest.raises(ValueError, match=r"ring.s_out -> relay.s_in: sent shape \(2,\), the port has \(1,\)"):
        runner.run(1)


def test_models_that_reach_into_others_are_refused():
    lif = LIF(shape=(1,), name="lif")
    read = Read(buffer=4)
    read.connect_var(lif.v)
    with pytest.raises(BadInput, match="runs only on Lava's multiprocess runtime"):
        InProcess([lif], Loihi2SimCfg(select_tag="fixed_pt"))


def test_making_processes_leaves_no_log_handler_and_no_global_entry():
    handlers, known = logging.root.handlers[:], len(ProcessServer().processes)
    with no_trace():
        source(1)
        Relay("relay")
    assert logging.root.handlers == handlers
    assert len(ProcessServer().processes) == known
