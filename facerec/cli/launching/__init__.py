"""Starts and joins the processes of a training; handles exit codes and signals."""
