"""The command line: one thin file a command, found by its name (`seqlib train` is `train.py`)."""
