"""Fast CIFAR-10 training, one trick at a time.

One module per step of the flow: data → augment → network → train → evaluate → record → plots.
What to do is data, a `recipe.Recipe`; each module reads the fields that concern it.
"""

__version__ = "0.1.0"
