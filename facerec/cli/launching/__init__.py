"""Starts and joins the processes of a training; exit codes and signals."""
