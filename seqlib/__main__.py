"""`python -m seqlib` is the command `seqlib`."""

import sys

from seqlib.cli.main import main

sys.exit(main())
