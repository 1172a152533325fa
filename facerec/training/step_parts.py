"""The parts of a training step, by the names that they have in torch's profiles."""

STEP = "facerec.step"
DATA = "facerec.data"
FORWARD = "facerec.forward"
HEAD = "facerec.head"
BACKWARD = "facerec.backward"
UPDATE = "facerec.update"
AGREEMENT = "facerec.agreement"
PARTS = (DATA, FORWARD, HEAD, BACKWARD, UPDATE, AGREEMENT)
"""forward: of the network; head: the objective's forward; backward: of both; update: the sums of the head's gradients
and the optimizer's step; agreement: of the processes on errors and signals."""
