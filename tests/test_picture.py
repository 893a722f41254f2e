"""The picture of a report: well-formed, self-contained, every core in its seat."""

from __future__ import annotations

from xml.etree import ElementTree

from snnergy.deploy.picture import svg

SVG = "{http://www.w3.org/2000/svg}"


def document(chips: int = 1) -> dict:
    def three(value: float, unit: str) -> dict:
        return {"low": value / 2, "nominal": value, "high": value * 2, "unit": unit}

    def core(chip: int, index: int, energy: float) -> dict:
        where = {"chip": chip, "core": index, "x": index // 4 % 8, "y": index // 32}
        return {**where, "populations": ["a<b"], "energy_pj": {"total": energy}}

    parts = {"dynamic": three(1e6, "pJ"), "static": three(2e6, "pJ"), "host": three(0, "pJ")}
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
        titles = [r.find(f"{SVG}title").text for r in seats if r.find(f"{SVG}title") is not None]
        assert len(titles) == 2 * chips
        assert titles[0].startswith("chip 0 core 0: 1 pJ; a<b")


def test_the_picture_needs_nothing_from_outside():
    assert svg(document()).count("http") == 1  # the namespace
