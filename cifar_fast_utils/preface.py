"""What the report says of itself, in words."""

from __future__ import annotations

TITLE = """\
# What was found

Written by `cifar-fast report` from the recorded runs and their plans alone: first what has come of each plan that
compares recipes, in a table with the verdicts and the differences of the means; then how to read it all; then every
plan's full tables."""

READING = """\
## How to read the tables

A verdict comes from Welch's test, or from a paired test where two recipes train the same network and differ in the test
alone. *Better* and *worse* allow for the number of comparisons in a table, by Holm's method: if all recipes of a table
were equally accurate, such a verdict would stand in fewer than 1 of 20 tables. *No difference larger than x shown*: the
95% interval reaches at most x from zero, and x is no more than what matters to the plan; of many such verdicts 1 in 20
may be wrong. Where two recipes have the same accuracy on every seed that both have, three or more, x is 0, whatever the
interval. *Too few runs*: none of these; about n runs on each side would find the smallest difference that matters 4
times in 5, if single runs spread as they have so far. (With four or fewer on a side that is a guess, and n may be off
threefold.) The intervals are for the mean over seeds, on these test images, and are not corrected: one may leave out
zero where the verdict is *too few runs*.

A column headed *p of …* holds one-sided p-values, by Holm's method as well, for the question whether a recipe's mean is
at least a target, or at least another recipe's mean less what matters. So a recipe may stand both under *at least …*
and under *too few runs*: it is shown to be no worse than that, but not whether the two differ at all.

Seconds are given only from runs that no other recorded run on the same kind of machine disturbed: as far as the records
show, they had the GPU, or a core for each of their threads, to themselves. (Of other work the records know nothing.)
Runs with fewer threads than their machine has cores mostly had a neighbour on the others: compare their FLOPs, not
their seconds. Under *cold s* the warm-up step is on the clock too; but a plan makes a warm-up run before its first, so
these are not the first of their process. Where a recipe's accuracy is read from runs that were tested with TTA as well,
only *train s* is its own. The package may have become faster between two tables, so compare seconds only within a
table, where they are those of the runs made for its plan alone.

A table counts the runs that were made for its plan and, of other plans' runs, those with seeds that the plan asks for.
On other machines a table may consist of runs *made for other plans*. It answers the question only as far as those runs
happen to, and is left out of *In short*; it has no seconds, because they may be of several versions. *5 of 8* under
*n*: eight runs were planned, and three have not been made yet. Its verdict is a look before the end: whoever looks
often, and stops at a pleasing result, is wrong more often. Plans of five recipes or more come first."""

STRAIGHT = """\
Read off a straight line between the recorded lengths on either side of the target. Accuracy rises ever more slowly, so
where these lie far apart the line is too low and the time too long, and rows should not be compared. Where *n* is 1, it
ends on a single run. No seconds are given where the two lengths ran with different numbers of threads."""
