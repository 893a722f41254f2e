"""The commands. Each parses, calls one function and prints; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from snnergy import __version__, console, limits
from snnergy.config import PRESETS
from snnergy.errors import MissingPart

MODEL = click.argument("model", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
INPUT = click.option(
    "--input", "spec", metavar="SPEC", help="avdigits:test, a .npz, or random[:RATE]; default: the file's own."
)
CHIPS = click.option(
    "--chips", type=click.IntRange(1), help="At most this many chips; default: the fewest that hold it."
)
OBJECTIVE = click.option(
    "--objective",
    type=click.Choice(["edp", "energy", "latency", "cores"]),
    default="edp",
    show_default=True,
    help="What the mapping is chosen for.",
)
PROFILE_ACTIVITY = click.option(
    "--profile-activity",
    metavar="N",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Samples whose activity the mapping is made for; 0: all neurons alike.",
)
ITERATIONS = click.option(
    "--iterations",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Halve the slowest core so often, while that is better.",
)
PARTITION = click.option(
    "--partition",
    type=click.Choice(["free", "fixed", "hypergraph"]),
    default="free",
    show_default=True,
    help="Tiles of equal work; of one size a population; or Mt-KaHyPar's parts.",
)
TILING = click.option(
    "--tiling", type=click.Path(path_type=Path), help="Instead: the tile of every population, TOML or JSON."
)
STEPS = click.option(
    "--steps", type=click.IntRange(1, 65536), help="Time steps of a sample; default: what the file records."
)
DT = click.option(
    "--dt", "dt_s", type=click.FloatRange(0, min_open=True), help="Seconds per step; default: the file's."
)
CONVENTION = click.option(
    "--convention",
    metavar="NAME",
    help="How the tool that wrote the file steps: nir, subtract, snntorch, spikingjelly, sinabs, ...: docs/nir.md.",
)
INPUT_BITS = click.option(
    "--input-bits",
    type=click.IntRange(1, 8),
    default=8,
    show_default=True,
    help="Of an input's values; 1: it sends spikes.",
)
BITS = click.option("--weight-bits", type=click.IntRange(2, 8), default=8, show_default=True, help="Sign included.")
TARGET = click.option(
    "--target", default="loihi2-sim", show_default=True, help="See: snnergy targets; or a profile, chip.toml."
)
SAVE_ACTIVITY = click.option(
    "--save-activity",
    "activity",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep what was counted.",
)
MAX_SIZE = click.option(
    "--max-size",
    type=click.IntRange(1, 1 << 20),
    metavar="GIB",
    expose_value=False,
    callback=lambda context, _, gib: context.with_resource(limits.allowing(gib and gib << 30)),
    help="Read files that unpack to so much; default: a hundred times their size, up to 4.",
)


def page(document: dict[str, Any]) -> str:
    """The report as a page; what draws it is loaded only now."""
    from snnergy.deploy import report_page

    return report_page.html(document)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="snnergy")
def cli() -> None:
    """Deploy a trained spiking network to a neuromorphic chip: is it the same network, does it fit, what does it cost?

    \b
    snnergy export model.pt --to nir
    snnergy deploy --target loihi2-sim
    """


@cli.command()
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="tiny", show_default=True, help="Size of the network."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default="model.pt", show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's.")
@click.option("--modalities", type=click.Choice(["both", "audio", "video"]), help="Build one stream only.")
@click.option(
    "--fusion", type=click.Choice(["both", "audio_from_video", "video_from_audio", "none"]), help="CMQKA directions."
)
@click.option("--resume/--no-resume", default=True, help="Go on from an interrupted run.", show_default=True)
@SEED
@JSON
def train(
    preset: str, output: Path, epochs: int | None, resume: bool, seed: int, as_json: bool, **changes: Any
) -> None:
    """Train SNNergy on AV digits and keep the best model of the validation split.

    \b
    snnergy train --preset tiny
    snnergy train --preset tiny --modalities audio -o audio.pt
    """
    from dataclasses import replace

    config = replace(PRESETS[preset], **{name: value for name, value in changes.items() if value})
    torch_part("snnergy train")
    from snnergy.demo import train_with_bar

    result = train_with_bar(config, output, seed=seed, epochs=epochs, resume=resume, quiet=as_json)
    if as_json:
        console.print_json({"model": str(output), "val_accuracy": result.val_accuracy,
                            "test_accuracy": result.test_accuracy, "epochs": len(result.history),
                            "run": {"seconds": result.seconds}})  # fmt: skip
    else:
        click.echo(f"wrote {output}: validation {result.val_accuracy:.2%}, test {result.test_accuracy:.2%}")


@cli.command()
@MODEL
@click.option("--to", "form", type=click.Choice(["nir"]), default="nir", show_default=True, help="File format.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: beside the model.")
@click.option("--samples", type=click.IntRange(1), default=16, show_default=True, help="To compare with torch.")
@click.option("--portable", is_flag=True, help="One input, no Threshold, Scale, groups or readout: for other tools.")
@MAX_SIZE
@JSON
def export(model: Path, form: str, output: Path | None, samples: int, portable: bool, as_json: bool) -> None:
    """Write a trained model as NIR, read it back, and compare its spikes with torch's before saying so.

    \b
    snnergy export model.pt --to nir
    snnergy export model.pt --to nir -o somewhere/net.nir
    snnergy export model.pt --portable -o for-others.nir
    """
    torch_part("snnergy export")
    from snnergy.deploy.export_model import export_model
    from snnergy.files import check_outputs

    path = output or model.with_suffix(f".{form}")
    check_outputs(path, reads=model)
    done = export_model(model, path, samples, portable=portable)
    if as_json:
        console.print_json(done.to_dict())
    else:
        click.echo(done)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--case", type=click.Path(path_type=Path, dir_okay=False), help="Instead: what --shrink wrote.")
@click.option(
    "--pair", "pairs", multiple=True, metavar="A:B", help="Compare these two forms only, as in nir:net; repeatable."
)
@click.option("--samples", type=click.IntRange(1), default=64, show_default=True, help="For the pairs without Lava.")
@click.option(
    "--lava-samples", type=click.IntRange(0), default=16, show_default=True, help="For Lava; 0 leaves it out."
)
@click.option(
    "--runtime",
    type=click.Choice(["in-process", "multiprocess"]),
    default="in-process",
    show_default=True,
    help="Lava's.",
)
@click.option(
    "--min-agreement",
    "at_least",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Of pairs that need not be exact, such as net:native.",
)
@click.option(
    "--shrink", is_flag=False, flag_value="", metavar="[PATH]", help="Write the smallest network that still differs."
)
@INPUT
@STEPS
@DT
@CONVENTION
@BITS
@SEED
@MAX_SIZE
@JSON
def verify(model: Path | None, case: Path | None, shrink: str | None, as_json: bool, **settings: Any) -> int:
    """Is it still the same network? Compare every form of it, spike for spike; exit 1 at any difference.

    \b
    snnergy verify model.pt
    snnergy verify model.nir --samples 256 --lava-samples 0
    snnergy verify model.nir --pair net:native --min-agreement 0.99

    The forms are torch, nir, net, quant-torch, quant-float, native and lava: docs/verify.md.
    """
    from snnergy.deploy import shrink as shrinking
    from snnergy.deploy import verify as verifying
    from snnergy.deploy import verify_table
    from snnergy.files import check_outputs

    check_outputs(Path(shrink) if shrink else None, reads=model or case or Path())
    chosen = verifying.Settings(**settings)
    subject, inputs, chosen = verifying.open_either(model, case, chosen)
    pairs: list[Any] = []
    left_out: list[str] = []
    with console.bar("verify", quiet=as_json) as update:
        for pair in verifying.walk(subject, inputs, chosen, progress=update, say=left_out.append):
            pairs.append(pair)
            if not as_json:
                click.echo(verify_table.text(pair, explained=bool(chosen.pairs)))
    for line in left_out:
        console.say(line)
    if as_json:
        console.print_json(verify_table.document(inputs, pairs, left_out))
    else:
        console.show(verify_table.table(pairs))
    if shrink is not None:
        with console.bar("shrink", quiet=as_json) as update:
            console.say(shrinking.shrink_pairs(subject, inputs, pairs, shrink, progress=update))
    return 0 if all(p.ok for p in pairs) else 1


@cli.command()
@MODEL
@click.option(
    "--target",
    metavar="T[,T2,...]",
    default="loihi2-sim",
    show_default=True,
    callback=lambda _context, _option, value: tuple(dict.fromkeys(value.split(","))),
    help="One or several; see: snnergy targets; or profiles, chip.toml.",
)
@click.option("--chips", type=click.IntRange(1), help="At most this many; default: as many as the chip's systems have.")
@click.option("--place", "placing", is_flag=True, help="Place it too, which takes longer: on how many chips and cores.")
@click.option("--sarif", type=click.Path(path_type=Path, dir_okay=False), help="Write the violations as SARIF 2.1.0.")
@STEPS
@DT
@CONVENTION
@BITS
@INPUT_BITS
@MAX_SIZE
@JSON
def check(model: Path, target: tuple[str, ...], sarif: Path | None, as_json: bool, **settings: Any) -> int:
    """Does it fit? Every design rule of a chip at once, from the file alone, in seconds; exit 1 if not.

    \b
    snnergy check model.nir
    snnergy check model.nir --target loihi1-sim,kapoho-point --chips 1

    The rules, and what is said of each: docs/check.md.
    """
    from snnergy.deploy import check_model, check_text
    from snnergy.deploy import sarif as log
    from snnergy.files import check_outputs, write_text

    check_outputs(sarif, reads=model)
    checked = check_model.check_model(model, target, **settings)
    if sarif:
        write_text(sarif, log.document(checked))
    if as_json:
        console.print_json(checked.to_dict())
    else:
        console.show(check_text.text(checked))
    return 0 if checked.fits else 1


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), default="model.nir")
@TARGET
@click.option(
    "--engine", type=click.Choice(["native", "lava"]), default="native", show_default=True, help="What runs it."
)
@click.option("--samples", type=click.IntRange(1), help="Default: all there are; 16 on Lava.")
@click.option(
    "--cross-check",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    metavar="N",
    help="Samples to repeat on the other engine.",
)
@CHIPS
@OBJECTIVE
@PROFILE_ACTIVITY
@ITERATIONS
@PARTITION
@TILING
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as a page.")
@SAVE_ACTIVITY
@click.option(
    "--raster-sample", type=click.IntRange(0), default=0, show_default=True, help="Whose spikes the report shows."
)
@INPUT
@STEPS
@DT
@CONVENTION
@BITS
@INPUT_BITS
@SEED
@MAX_SIZE
@JSON
def deploy(
    model: Path,
    target: str,
    output: Path | None,
    html: Path | None,
    activity: Path | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Fit, place, run and price a NIR file, and print the energy report per inference.

    \b
    snnergy deploy --target loihi2-sim
    snnergy deploy model.nir --engine lava --samples 8 --json -o report.json
    snnergy deploy network.net --steps 64 --input random:0.1                    a network of lava-dl
    """
    from snnergy.deploy import deploy_model, report_text
    from snnergy.files import check_outputs

    check_outputs(output, html, activity, reads=model)
    with console.bar("deploy", quiet=as_json) as update:
        done = deploy_model.deploy(model, target, progress=update, **settings)
    deploy_model.write(done, output, html, activity)
    if as_json:
        console.print_json(done.document)
    else:
        console.show(report_text.text(done.document))
        for line in (f"wrote {path}" for path in (output, html, activity) if path):
            console.say(line)
    return 0 if done.equal else 1


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--activity", "saved", type=click.Path(path_type=Path, dir_okay=False), help="Price what --save-activity kept."
)
@click.option("--target", help="See: snnergy targets; default: loihi2-sim, or the activity's.")
@click.option("--samples", type=click.IntRange(1), help="Default: all there are.")
@CHIPS
@OBJECTIVE
@PROFILE_ACTIVITY
@ITERATIONS
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as a page.")
@SAVE_ACTIVITY
@INPUT
@STEPS
@DT
@CONVENTION
@BITS
@INPUT_BITS
@SEED
@MAX_SIZE
@JSON
def estimate(
    model: Path | None,
    activity: Path | None,
    saved: Path | None,
    target: str | None,
    output: Path | None,
    html: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """What would it cost? Energy and latency of any NIR file, or of activity that was saved before.

    \b
    snnergy estimate other.nir --steps 50 --input random:0.05
    snnergy deploy model.nir --save-activity run.npz
    snnergy estimate --activity run.npz --target my-chip.toml
    """
    if (model is None) == (saved is None):
        raise click.UsageError("give a MODEL.nir or --activity, one of the two")
    from snnergy.deploy import estimate as estimates
    from snnergy.deploy import report_text
    from snnergy.files import check_outputs, write_text

    check_outputs(output, html, activity, reads=model or saved or Path())
    if model is None:
        document = estimates.from_activity(saved or Path(), target)
    else:
        with console.bar("estimate", quiet=as_json) as update:
            done = estimates.from_model(model, target or "loihi2-sim", progress=update, **settings)
        document = done.document
        if activity:
            estimates.save(activity, done.priced, done.facts)
    for path, write in ((output, lambda doc: json.dumps(doc, indent=2) + "\n"), (html, page)):
        if path:
            write_text(path, write(document))
            console.say(f"wrote {path}")
    if as_json:
        console.print_json(document)
    else:
        console.show(report_text.text(document))


@cli.command()
@MODEL
@click.option(
    "--targets",
    metavar="T,T2,...",
    required=True,
    callback=lambda _context, _option, value: tuple(dict.fromkeys(value.split(","))),
    help="Several; see: snnergy targets; or profiles, chip.toml.",
)
@click.option("--samples", type=click.IntRange(1), help="Default: all there are.")
@OBJECTIVE
@INPUT
@STEPS
@DT
@CONVENTION
@BITS
@SEED
@MAX_SIZE
@JSON
def compare(model: Path, targets: tuple[str, ...], as_json: bool, **settings: Any) -> None:
    """One run, many chips: where does it fit, and what would it cost there?

    \b
    snnergy compare model.nir --targets loihi2-sim,spinnaker2-sim
    snnergy compare model.nir --targets loihi2-sim,my-chip.toml --samples 100 --json
    """
    from snnergy.deploy import compare_targets

    tell = None if as_json else lambda stage: console.say(f"compare: {stage}")
    document = compare_targets.compare(model, targets, progress=tell, **settings)
    if as_json:
        console.print_json(document)
    else:
        console.show(compare_targets.text(document))


@cli.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--budget", multiple=True, metavar="[METRIC:]+N%", help="Exit 1 beyond; of the energy, or latency:+10%.")
@click.option("--markdown", is_flag=True, help="Tables for a comment of continuous integration.")
@JSON
def diff(before: Path, after: Path, budget: tuple[str, ...], markdown: bool, as_json: bool) -> int:
    """What became dearer between two reports; exit 1 where a budget is exceeded.

    \b
    snnergy diff old.json new.json --budget +5%
    snnergy diff old.json new.json --budget energy:+5% --budget latency:+10% --markdown
    """
    from snnergy.deploy import diff as diffs
    from snnergy.deploy import diff_text, report_file

    allowed = diffs.budgets(budget)
    found = diffs.diff(report_file.read(before), report_file.read(after), allowed)
    if as_json:
        console.print_json(found.to_dict())
    elif markdown:
        click.echo(diff_text.markdown(found), nl=False)
    else:
        console.show(diff_text.text(found))
    return 1 if found.over else 0


@cli.command("map")
@click.argument("model", type=click.Path(path_type=Path), default="model.nir")
@TARGET
@CHIPS
@OBJECTIVE
@PROFILE_ACTIVITY
@ITERATIONS
@PARTITION
@TILING
@click.option("--samples", type=click.IntRange(1), help="To count on; default: those of --profile-activity.")
@click.option("--explain", is_flag=True, help="Say of every population why it sits where it sits.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the mesh of every chip.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="The same picture as pixels.")
@click.option(
    "--metric",
    type=click.Choice(["synops", "energy", "memory", "busy"]),
    default="busy",
    show_default=True,
    help="What --svg and --png show of a core.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the mapping as JSON.")
@INPUT
@STEPS
@DT
@CONVENTION
@BITS
@INPUT_BITS
@SEED
@MAX_SIZE
@JSON
def map_command(
    model: Path,
    target: str,
    svg: Path | None,
    png: Path | None,
    metric: str,
    output: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Where does every neuron sit, what sets the pace there, and why? Exit 1 if it does not fit.

    \b
    snnergy map model.nir --explain
    snnergy map model.nir --objective latency --svg cores.svg --metric synops -o mapping.json

    How the mapper works, and the form of the JSON: docs/mapping.md.
    """
    from snnergy.deploy import map_model, map_text, picture
    from snnergy.files import check_outputs, write_bytes, write_text

    check_outputs(output, svg, png, reads=model)
    picture.require(png)
    tell = None if as_json else lambda stage: console.say(f"map: {stage}")
    document = map_model.map_model(model, target, progress=tell, **settings)
    if output:
        write_text(output, json.dumps(document, indent=2, allow_nan=False) + "\n")
    if svg:
        write_text(svg, picture.heat(document, metric))
    if png:
        write_bytes(png, picture.pixels(picture.heat(document, metric)))
    if as_json:
        console.print_json(document)
    else:
        console.show(map_text.text(document))
        for path in (path for path in (output, svg, png) if path):
            console.say(f"wrote {path}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write its core map as a picture.")
@click.option("--csv", type=click.Path(path_type=Path, dir_okay=False), help="Write every number, a row each.")
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Write a trace for ui.perfetto.dev.")
def report(file: Path, html: Path | None, svg: Path | None, csv: Path | None, trace: Path | None) -> None:
    """Show a report that deploy wrote, in the terminal, as a page, a picture, a table or a trace.

    \b
    snnergy report report.json
    snnergy report report.json --html report.html --svg cores.svg
    snnergy report report.json --csv report.csv --trace trace.json
    """
    from snnergy.deploy import csv_file, perfetto, picture, report_file, report_text
    from snnergy.files import check_outputs, write_text

    document = report_file.read(file)
    check_outputs(html, svg, csv, trace, reads=file)
    for path, write in (
        (html, page),
        (svg, picture.svg),
        (csv, csv_file.text),
        (trace, lambda doc: json.dumps(perfetto.document(doc)) + "\n"),
    ):
        if path:
            write_text(path, write(document))
            click.echo(f"wrote {path}")
    if not (html or svg or csv or trace):
        console.show(report_text.text(document))


@cli.group(invoke_without_command=True)
@JSON
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List what --target can name: chips and boards.

    \b
    snnergy targets
    snnergy targets show kapoho-point
    """
    if context.invoked_subcommand:
        return
    from snnergy.deploy import targets as known

    rows = known.rows()
    if as_json:
        console.print_json(rows)
    else:
        console.show(known.table(rows))


@targets.command()
@click.argument("name")
@JSON
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show every number of a target, its range, how it was obtained and where it is from; chip.toml shows your own.

    \b
    snnergy targets show loihi2-sim
    snnergy targets show chip.toml --json
    """
    from snnergy.deploy import targets as known

    sheet = known.sheet(name)
    if as_json or (context.parent and context.parent.params["as_json"]):
        console.print_json(sheet)
    else:
        console.show(known.text(sheet))


@cli.command()
@JSON
def ops(as_json: bool) -> None:
    """Which nodes of NIR run on which chip, each tried here and now; the same table is in docs/nir.md.

    \b
    snnergy ops
    snnergy ops --json
    """
    from snnergy.deploy import ops as known

    rows = known.rows()
    if as_json:
        console.print_json(rows)
    else:
        console.show(known.table(rows))


@cli.command()
@JSON
def doctor(as_json: bool) -> int:
    """Say what is installed, what is not, and the one line that installs it; exit 3 if a part is missing.

    \b
    snnergy doctor
    snnergy doctor --json
    """
    from snnergy.deploy.doctor import examine

    parts = examine()
    if as_json:
        console.print_json(parts)
    for part in () if as_json else parts:
        click.echo(
            f"{'ok' if part['version'] else 'missing':<8} {part['name']:<12} {part['version'] or part['install']}"
        )
    return 0 if all(part["version"] or not part["wanted"] for part in parts) else MissingPart.exit_code


@cli.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default="runs/demo", show_default=True
)
@click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's, about two minutes on two cores.")
@SEED
def demo(output: Path, epochs: int | None, seed: int) -> int:
    """Train, export, verify, deploy on both engines and price the tiny preset on real speech and handwriting.

    \b
    snnergy demo
    snnergy demo -o elsewhere --epochs 2
    """
    torch_part("snnergy demo")
    from snnergy.demo import demo as run_demo

    return run_demo(output, seed=seed, epochs=epochs)


def torch_part(command: str) -> None:
    """Raise MissingPart where torch or snntorch is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "snntorch") if find_spec(name) is None]
    if missing:
        raise MissingPart(
            f"{command} needs {' and '.join(missing)}, not installed here", "pip install 'snnergy[torch]'"
        )


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``snnergy`` command."""
    console.stop_on_signals()
    sys.exit(console.run(cli, args))
