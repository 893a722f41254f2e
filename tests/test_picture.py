"""The picture of a report: well-formed, self-contained, every core in its seat."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from snnergy.deploy.picture import METRICS, WIDTH, heat, svg

SVG = "{http://www.w3.org/2000/svg}"


def document(chips: int = 1) -> dict:
    def three(value: float, unit: str) -> dict:
        return {"low": value / 2, "nominal": value, "high": value * 2, "unit": unit}

    def core(chip: int, index: int, energy: float) -> dict:
        where = {"chip": chip, "core": index, "x": index // 4 % 8, "y": index // 32}
        return {**where, "populations": ["a<b"], "energy_pj": {"total": energy}}

    parts = {"dynamic": three(1e6, "pJ"), "static": three(2e6, "pJ"), "host": three(0, "pJ"), "io": three(0, "pJ")}
    mesh = {"mesh_width": 8, "mesh_height": 4, "cores_per_router": 4}
    return {
        "statement": "estimate: no hardware was used",
        "target_title": "Toy & chip",
        "accuracy": 0.5,
        "energy": {"total": three(3e6, "pJ"), **parts},
        "latency": three(1e6, "ns"),
        "placement": {"chips": chips, "cores": 2 * chips, "cores_per_chip": 120, **mesh},
        "cores": [core(chip, index, energy) for chip in range(chips) for index, energy in ((0, 1.0), (37, 4.0))],
    }


def test_the_picture_says_what_the_document_says_and_that_it_is_an_estimate():
    text = " ".join(element.text or "" for element in ElementTree.fromstring(svg(document())).iter(f"{SVG}text"))
    assert "3 µJ (1.5 µJ .. 6 µJ) per inference" in text
    assert "estimate: no hardware was used" in text
    assert "50.00% accurate" in text and "2 of 120 cores" in text


def test_every_core_has_its_seat_and_every_seat_of_the_mesh_is_drawn():
    for chips in (1, 2):
        root = ElementTree.fromstring(svg(document(chips)))
        seats = [r for r in root.iter(f"{SVG}rect") if r.get("rx") == "4"]
        assert len(seats) == 128 * chips
        assert len({(r.get("x"), r.get("y")) for r in seats}) == 128 * chips
        titles = [title.text or "" for r in seats for title in r.iter(f"{SVG}title")]
        assert len(titles) == 2 * chips
        assert titles[0].startswith("chip 0 core 0: 1 pJ; a<b")


def test_the_picture_needs_nothing_from_outside():
    assert svg(document()).count("http") == 1  # the namespace


def mapping(chips: int) -> dict:
    """What ``map_model`` says, as far as a picture looks at it."""

    def core(chip: int, index: int) -> dict:
        where = {"chip": chip, "core": index, "x": index // 4 % 8, "y": index // 32}
        did = {"synops": 5.0 * index, "energy_pj": 1.0, "busy_ns": 1e3 * chip, "usage": {"synapse_bytes": 100 * index}}
        return {**where, **did, "slices": [{"population": name} for name in ("a<b", "conv12345", "c", "d", "e")]}

    mesh = {"mesh_width": 8, "mesh_height": 4, "cores_per_router": 4}
    return {
        "statement": "estimate: no hardware was used",
        "target_title": "Toy & chip",
        "step": {"nominal": 1e3},
        "busiest_link": None,
        "placement": {"chips": chips, "cores": 2 * chips, "cores_per_chip": 120, **mesh},
        "cores": [core(chip, index) for chip in range(chips) for index in (0, 37)],
    }


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("chips", [1, 4, 32])
def test_up_to_32_chips_have_room_and_no_two_cores_touch(chips: int, metric: str):
    root = ElementTree.fromstring(heat(mapping(chips), metric))
    seats = [r for r in root.iter(f"{SVG}rect") if r.get("width") == r.get("height")]
    assert len(seats) == 128 * chips
    boxes = {(int(r.get("x", 0)), int(r.get("y", 0))) for r in seats}
    assert len(boxes) == 128 * chips
    side = int(seats[0].get("width", 0))
    assert side >= 10
    assert not any((x + dx, y + dy) in boxes for x, y in boxes for dx in range(side + 1) for dy in range(1, side + 1))
    assert int(root.get("width", 0)) == WIDTH and max(x for x, _ in boxes) + side < WIDTH
    assert max(y for _, y in boxes) + side < int(root.get("height", 0)) < 1400


def test_cores_with_room_bear_names_and_count_those_that_they_leave_out():
    def words(chips: int) -> list[str]:
        return [
            element.text or "" for element in ElementTree.fromstring(heat(mapping(chips), "busy")).iter(f"{SVG}text")
        ]

    assert [word for word in words(1) if word in ("a<b", "nv12345", "+3")] == ["a<b", "nv12345", "+3"] * 2
    assert "a<b" not in words(4) and [w for w in words(4) if w.startswith("chip ")] == [f"chip {k}" for k in range(4)]


def test_a_mesh_too_wide_for_the_picture_makes_it_wider():
    doc = mapping(16)
    doc["placement"] |= {"mesh_width": 64, "mesh_height": 64, "cores_per_router": 1}
    root = ElementTree.fromstring(heat(doc, "busy"))
    assert int(root.get("width", 0)) > WIDTH
