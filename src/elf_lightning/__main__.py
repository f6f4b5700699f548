"""`python -m elf_lightning` is the same command as `elf`."""

import sys

from elf_lightning.cli import main

sys.exit(main())
