"""The command line: composes, builds and launches, with one file per verb. The only room that sees Hydra."""
