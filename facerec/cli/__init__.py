"""The command line: one file per verb, composing, building, launching. The only room that sees Hydra."""
