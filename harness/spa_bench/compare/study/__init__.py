"""The SPA paper's studies on any model and task: Table 1 and Figures 2, 4 and 6, with intervals and a verdict.

`designs` says which runs a study needs, `runner` makes them as ordinary run folders, `measured` reads those, `claims` decides
by rule whether the paper's statements hold, and `tables` and `pictures` show the results.
"""
