"""Tests; a package, so that tests.golden can be run and what several files use can be imported."""
