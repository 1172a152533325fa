"""The objective of a training: the loss of a head and additional terms."""
