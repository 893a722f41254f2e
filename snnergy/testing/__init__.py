"""Random valid networks, a slow reference, relations that keep every spike, and saved cases.

``cases``        a network and its inputs in one file
``draw``         where random choices come from: a numpy generator for mass runs, or Hypothesis, which shrinks
``integer``      integer networks, biased to the edges of the arithmetic
``graphs``       NIR graphs of every node that is lowered
``strategies``   both as Hypothesis strategies (needs the `test` extra)
``reference``    an integer network in plain Python integers
``metamorphic``  changes of an integer network that change no spike
"""
