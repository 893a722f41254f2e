#!/usr/bin/env python3
"""The command line from a checkout: ``python cli.py export model.pt --to nir``."""

from snnergy.cli import main

if __name__ == "__main__":
    main()
