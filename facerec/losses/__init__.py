"""What is optimised: the objective built on a head."""
