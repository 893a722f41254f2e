"""Check what ``make wheel`` built: one package, its data, nothing else. Usage: wheel_contents.py dist"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

NEEDED = (
    "snnergy/py.typed",
    "snnergy/data/avdigits.npz",
    "snnergy/data/LICENSE.avdigits",
    "snnergy/deploy/report.html",
    "snnergy/export/lower.py",
    "snnergy/hardware_profiles/loihi2.toml",
)


def main(folder: str) -> None:
    (wheel,) = Path(folder).glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"snnergy"}, f"{wheel.name} installs {sorted(tops)}"
    missing = [name for name in NEEDED if name not in names]
    assert not missing, f"{wheel.name} lacks {missing}"
    print(f"{wheel.name}: {len(names)} files, one package")


if __name__ == "__main__":
    main(sys.argv[1])
