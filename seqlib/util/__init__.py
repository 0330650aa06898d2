"""What every other package may use: errors with suggestions, atomic files, lookup by name, log and progress."""
