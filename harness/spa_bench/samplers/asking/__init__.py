"""Samplers that ask an instruct model, step by step.

They share `case` (a problem as a kind sees it), `asker` (who asks for all problems), `words`, `reading`, `stated`,
`aggregation` and `checks` (of options); every other module is a kind.
"""
